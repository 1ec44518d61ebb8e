import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from ganaug.split.duplicates import components, find_duplicates, join_equal
from ganaug.split.name_groups import name_prefixes, names_group


@pytest.fixture(scope="module")
def tiles():
    """(24, 100, 100, 3) real, textured, disjoint parts of two photographs."""
    found = []
    for photo in load_sample_images().images:
        for top in range(0, 427 - 100, 105):
            found += [photo[top : top + 100, left : left + 100] for left in range(0, 640 - 100, 105)]
    return np.stack(sorted(found, key=lambda tile: -cv2.Laplacian(tile, cv2.CV_32F).std())[:24])


def small(tiles):
    return np.stack([cv2.resize(tile, (32, 32), interpolation=cv2.INTER_AREA) for tile in tiles])


def search(images, classes=None, previews=None):
    classes = np.arange(len(images)) % 2 if classes is None else classes
    return find_duplicates(
        images, np.asarray(classes), np.arange(len(images)).astype(str).astype(object), previews=previews
    )


def burst(tile, rng):
    moved = cv2.warpAffine(
        tile, np.float32([[1, 0, 2], [0, 1, -1]]), (32, 32), borderMode=cv2.BORDER_REFLECT_101
    )
    lit = (moved.astype(np.float32) - 128) * 1.15 + 140 + rng.normal(0, 4, tile.shape)
    _, code = cv2.imencode(".jpg", lit.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return cv2.imdecode(code, cv2.IMREAD_COLOR)


COPIES = {
    "burst": burst,
    "mirrored": lambda tile, rng: tile[:, ::-1],
    "quarter turn": lambda tile, rng: np.rot90(tile),
    "resized": lambda tile, rng: cv2.resize(
        cv2.resize(tile, (20, 20), interpolation=cv2.INTER_AREA), (32, 32)
    ),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_copies_of_an_image_are_found_and_nothing_else_is(tiles, copy):
    rng, images = np.random.default_rng(0), small(tiles)
    both = np.concatenate([images, np.stack([copy(image, rng) for image in images[:12]])])
    classes = np.r_[np.arange(24) % 2, np.arange(12) % 2]
    found = search(both, classes)
    together = [found.sets[row] >= 0 and found.sets[row] == found.sets[24 + row] for row in range(12)]
    assert np.mean(together) >= 0.9
    assert (found.sets[12:24] == -1).all()
    assert found.set_count == sum(together)


def test_overlapping_crops_of_one_photograph_are_found(tiles):
    views = np.stack([cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY) for tile in tiles])
    crops = np.concatenate([views[:, :84, :84], views[:, 16:, 16:]])
    previews = np.stack([cv2.resize(crop, (96, 96)) for crop in crops])
    found = search(small(previews)[..., None], np.r_[np.arange(24) % 2, np.arange(24) % 2], previews)
    together = [found.sets[row] >= 0 and found.sets[row] == found.sets[24 + row] for row in range(24)]
    assert np.mean(together) >= 0.6
    assert found.set_count == sum(together)


def test_handwritten_digits_are_not_taken_for_duplicates():
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    found = search(images, digits.target)
    assert found.image_count < 20


def test_equal_pixels_and_equal_files_are_exact_copies(tiles):
    images = small(tiles)
    images[5] = images[3]
    hashes = np.arange(24).astype(str).astype(object)
    hashes[9] = hashes[7]
    found = find_duplicates(images, np.arange(24) % 2, hashes, near=False)
    assert found.exact[3] == found.exact[5] >= 0
    assert found.exact[7] == found.exact[9] >= 0
    assert found.image_count == 4


def test_flat_images_resemble_nothing():
    rng = np.random.default_rng(0)
    levels = rng.integers(20, 230, 40)
    images = np.clip(levels[:, None, None, None] + rng.normal(0, 1, (40, 32, 32, 1)), 0, 255).astype(np.uint8)
    assert search(images).set_count == 0


def test_equal_keys_are_joined_and_empty_ones_are_not():
    pairs = join_equal(np.array(["a", "", "a", "", "b", "a"]))
    assert components(6, pairs).tolist() == [0, 1, 0, 2, 3, 0]


def test_the_class_folder_is_no_part_of_a_group():
    paths = ["data/RBC/photo_7-01.jpg", "data/WBC/photo_7-02.jpg", "data/WBC/clip3/0001.png"]
    found = name_prefixes(paths, ["RBC", "WBC"])
    assert found[0] == found[1]
    assert found[2].endswith("clip3/")


def test_names_group_when_images_of_one_prefix_share_their_light():
    rng = np.random.default_rng(0)
    photo = np.repeat(np.arange(30), 6)
    light = rng.normal(0, 15, 30)[photo] + rng.normal(0, 8, 180)
    images = np.clip(120 + light[:, None, None, None] + rng.normal(0, 5, (180, 16, 16, 1)), 0, 255).astype(
        np.uint8
    )
    classes = np.arange(180) % 2
    paths = [f"{'ab'[c]}/shot{p}-{i}.png" for i, (p, c) in enumerate(zip(photo, classes, strict=True))]
    assert names_group(images, paths, classes, ["a", "b"]).adopted
    shuffled = [paths[i] for i in rng.permutation(180)]
    assert not names_group(images, shuffled, classes, ["a", "b"]).adopted


def test_a_prefix_that_holds_a_class_is_no_group():
    images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 1)).astype(np.uint8)
    classes = np.arange(60) % 2
    paths = [f"{'ab'[c]}/{'cat' if c else 'dog'}_{i:03}.png" for i, c in enumerate(classes)]
    assert not names_group(images, paths, classes, ["a", "b"]).adopted
