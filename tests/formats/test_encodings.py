"""Every encoding gives back its images, to other libraries as well."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from ganaug.errors import MissingExtraError, UnreadableImageError
from ganaug.formats import ENCODINGS, decode

SIZES = [(32, 32), (5, 9), (9, 5), (1, 1), (1, 7), (7, 1), (300, 2)]
CASES = [(name, channels) for name, encoding in ENCODINGS.items() for channels in encoding.channels]


def smooth(n: int = 3, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    """Images like photographs: waves, of another direction and phase in each image and channel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 9
    a, b, phase = rng.uniform(-1, 1, (3, n, channels, 1, 1)) * [[[[[1]]]], [[[[1]]]], [[[[6]]]]]
    return (127 + 120 * np.sin(a * y + b * x + phase)).astype(np.uint8).transpose(0, 2, 3, 1)


CONTENTS = {
    "smooth": smooth,
    "noise": lambda *shape: np.random.default_rng(1).integers(0, 256, shape, np.uint8),
    "black": lambda *shape: np.zeros(shape, np.uint8),
    "white": lambda *shape: np.full(shape, 255, np.uint8),
}


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    """Every encoding with each number of channels: a new one is tested the moment it is added."""
    return request.param


def error(images: np.ndarray, files: list[bytes]) -> float:
    return float(
        np.mean([np.abs(decode(f).astype(int) - i).mean() for f, i in zip(files, images, strict=True)])
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_lossless_encoding_gives_back_every_pixel(case, content, size):
    name, channels = case
    encoding = ENCODINGS[name]
    if encoding.lossless_from is None:
        assert not encoding.is_lossless(100)
        return
    images = CONTENTS[content](3, *size, channels)
    assert encoding.is_lossless(100)
    for image, file in zip(images, encoding.encode(images, 100), strict=True):
        np.testing.assert_array_equal(decode(file), image, strict=True)


def test_lower_quality_costs_pixels_only_where_the_encoding_says_so(case):
    name, channels = case
    encoding = ENCODINGS[name]
    images = smooth(8, channels=channels)
    for quality in (1, 60, 90, 99, 100):
        files = encoding.encode(images, quality)
        assert (error(images, files) == 0) == encoding.is_lossless(quality)


def test_a_lossy_encoding_is_near_and_nearer_at_higher_quality(case):
    name, channels = case
    encoding = ENCODINGS[name]
    if encoding.is_lossless(99):
        return
    images = smooth(8, channels=channels)
    errors = [error(images, encoding.encode(images, quality)) for quality in (20, 60, 95)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 3


def test_small_shapes_survive_a_lossy_encoding(case):
    name, channels = case
    for height, width in SIZES:
        images = smooth(2, height, width, channels)
        for file in ENCODINGS[name].encode(images, 95):
            assert decode(file).shape == (height, width, channels)


def test_the_same_image_gives_the_same_file_wherever_it_stands_in_a_batch(case):
    name, channels = case
    images = smooth(5, channels=channels)
    files = ENCODINGS[name].encode(images, 80)
    assert ENCODINGS[name].encode(images[::-1], 80) == files[::-1]
    assert ENCODINGS[name].encode(images[2:3], 80) == files[2:3]


def test_views_of_larger_arrays_are_encoded_as_they_look(case):
    name, channels = case
    wide = smooth(2, 8, 24, channels)
    view = wide[:, ::2, 3:13]
    assert ENCODINGS[name].encode(view, 80) == ENCODINGS[name].encode(view.copy(), 80)


def test_no_images_are_no_files(case):
    name, channels = case
    assert ENCODINGS[name].encode(np.empty((0, 8, 8, channels), np.uint8), 80) == []


def test_pillow_sees_the_kind_of_image(case):
    name, channels = case
    with Image.open(io.BytesIO(ENCODINGS[name].encode(smooth(1, channels=channels), 80)[0])) as image:
        assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]


def test_raw_says_that_its_alpha_is_not_multiplied_in():
    unassociated = 2
    with Image.open(io.BytesIO(ENCODINGS["raw"].encode(smooth(1, channels=4), 80)[0])) as image:
        assert image.tag_v2[338] == (unassociated,)


def test_opencv_sees_the_same_pixels(case):
    name, channels = case
    encoding = ENCODINGS[name]
    images = smooth(channels=channels)
    if channels == 4:
        # OpenCV multiplies what is transparent in a TIFF; the pixels behind it are lost to it.
        images[..., 3] = 255
    for image, file in zip(images, encoding.encode(images, 100), strict=True):
        seen = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        rgb = seen.reshape(image.shape)[..., order]
        assert np.abs(rgb.astype(int) - image).max() <= (0 if encoding.is_lossless(100) else 8)


def test_jpeg_keeps_colours_at_full_resolution():
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, ::2, 0], stripes[:, :, 1::2, 2] = 255, 255
    assert error(stripes, ENCODINGS["jpeg"].encode(stripes, 100)) < 2


def test_what_is_no_image_is_refused():
    whole = ENCODINGS["png"].encode(smooth(1), 1)[0]
    for content in (b"", b"hello", whole[:60]):
        with pytest.raises(UnreadableImageError, match="no readable image"):
            decode(content)


def test_jpeg_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"JPEG encoding.*ganaug\[data\]"):
        ENCODINGS["jpeg"].encode(smooth(1), 90)


def test_writing_images_loads_neither_torch_nor_pandas_nor_opencv():
    script = """if True:
        import sys
        import numpy as np
        from ganaug.formats import ENCODINGS, FORMATS, Shard
        images = np.zeros((2, 8, 8, 3), np.uint8)
        shard = Shard("000-a-00000", 0, "a", ("a", "b"), np.arange(2), (8, 8, 3))
        for name in ("parquet", "webdataset", "npz"):
            contents = [images] if name == "npz" else ENCODINGS["png"].encode(images, 90)
            list(FORMATS[name].pack(shard, contents, ".png"))
        print(*[name for name in ("torch", "pandas", "cv2") if name in sys.modules])
    """
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
