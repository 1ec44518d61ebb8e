import json
import os
import pickle
import random
import subprocess
import sys

import albumentations as A  # noqa: N812
import numpy as np
import pytest

from ganaug.adapters.transform import GanSample
from ganaug.errors import ModelError, TransformError, UnknownClassError
from ganaug.generate import Generator

GREY = np.full((8, 8, 1), 128, np.uint8)


@pytest.fixture
def generator(tiny_model):
    return Generator.open(tiny_model, device="cpu")


def run(transform, label, count=1, *, image=GREY, seed=None):
    """Images and records of calls through a pipeline."""
    pipeline = A.Compose([transform], seed=seed, save_applied_params=True)
    seen = [pipeline(image=image, label=label) for _ in range(count)]
    records = [dict(one["applied_transforms"]).get("GanSample", {}) for one in seen]
    return [one["image"] for one in seen], records


def made(generator, record, **more):
    return generator.sample_at(record["class_name"], [record["index"]], seed=record["seed"], **more)[0]


def is_touched(images):
    return np.array([not np.array_equal(image, GREY) for image in images])


# What it does


def test_the_image_becomes_a_synthetic_one_of_its_class_and_the_record_says_which(generator):
    images, records = run(GanSample(generator, 1.0), "dog", 100)
    for image, record in zip(images, records, strict=True):
        assert record["class_name"] == "dog"
        np.testing.assert_array_equal(image, made(generator, record))


def test_each_synthetic_image_is_used_once(generator):
    images, records = run(GanSample(generator, 1.0), "cat", 500)
    assert len({(record["seed"], record["index"]) for record in records}) == 500
    assert len({image.tobytes() for image in images}) == 500


def test_classes_take_turns_without_getting_in_each_others_way(generator):
    pipeline = A.Compose([GanSample(generator, 1.0)], save_applied_params=True)
    for label in ["cat", "emu", "dog", "emu"] * 30:
        seen = pipeline(image=GREY, label=label)
        record = seen["applied_transforms"][0][1]
        assert record["class_name"] == label
        np.testing.assert_array_equal(seen["image"], made(generator, record))


@pytest.mark.parametrize("label", [1, np.int64(1), np.array(1), np.str_("dog"), "dog"])
def test_a_label_is_a_class_name_or_a_class_id_of_the_model(generator, label):
    _, records = run(GanSample(generator, 1.0), label)
    assert records[0]["class_name"] == "dog"
    assert type(records[0]["class_name"]) is str


def test_numbers_of_the_users_own_are_named_by_class_names(generator):
    transform = GanSample(generator, 1.0, class_names=["emu", "cat", "yak"])
    assert [run(transform, label)[1][0].get("class_name") for label in (0, 1, 2)] == ["emu", "cat", None]


def test_the_label_may_come_under_another_name(generator):
    transform = GanSample(generator, 1.0, label_key="species")
    seen = A.Compose([transform], strict=True)(image=GREY, species="cat")
    assert seen["species"] == "cat"
    assert is_touched([seen["image"]]).all()


def test_only_listed_classes_are_touched(generator):
    transform = GanSample(generator, {"dog": 1.0, "emu": 0.0})
    for label, expected in [("dog", True), ("emu", False), ("cat", False), ("yak", False)]:
        assert is_touched(run(transform, label, 20)[0]).all() == expected
        assert is_touched(run(transform, label, 20)[0]).any() == expected


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({"probabilities": 0.3}, 0.3),
        ({"probabilities": {"cat": 0.3}}, 0.3),
        ({"probabilities": 0.6, "p": 0.5}, 0.3),
        ({}, 0.5),
        # Of 20 wanted there are 6.
        ({"plan": {"cat": 6, "dog": 20}}, 0.7),
    ],
)
def test_an_image_is_touched_with_p_times_the_probability_of_its_class(generator, asked, share):
    touched = is_touched(run(GanSample(generator, **asked), "cat", 2000, seed=1)[0])
    # Five standard deviations.
    assert abs(touched.mean() - share) < 5 * (share * (1 - share) / 2000) ** 0.5


def test_an_image_that_is_left_alone_leaves_no_record_of_a_synthetic_one(generator):
    images, records = run(GanSample(generator, 0.5), "cat", 100)
    assert [("class_name" in record) for record in records] == is_touched(images).tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blending_weighs_the_synthetic_image(generator, dtype):
    image = GREY if dtype == np.uint8 else (GREY / 255).astype(dtype)
    images, records = run(GanSample(generator, 1.0, blend=0.25), "cat", 10, image=image)
    for seen, record in zip(images, records, strict=True):
        synthetic = made(generator, record) if dtype == np.uint8 else made(generator, record) / 255
        half_a_level = 0.5001 if dtype == np.uint8 else 1e-6
        assert np.abs(seen - (0.75 * image + 0.25 * synthetic)).max() <= half_a_level


def test_a_range_of_weights_is_drawn_from(generator):
    _, records = run(GanSample(generator, 1.0, blend=(0.2, 0.6)), "cat", 300)
    weights = [record["blend"] for record in records]
    assert 0.2 <= min(weights) < 0.25
    assert 0.55 < max(weights) <= 0.6


def test_truncation_reaches_the_model(generator):
    images, records = run(GanSample(generator, 1.0, truncation=0.5), "cat")
    np.testing.assert_array_equal(images[0], made(generator, records[0], truncation=0.5))


def test_it_can_be_one_of_several(generator):
    pipeline = A.OneOf([GanSample(generator, {"dog": 1.0}), A.NoOp()], p=1.0)
    pipeline.set_random_seed(0)
    images = [pipeline(image=GREY, label="dog")["image"] for _ in range(200)]
    # Of p 1.0 and 0.5 two thirds; five standard deviations are 0.17.
    assert abs(is_touched(images).mean() - 2 / 3) < 0.17


# Reproducing


def test_the_same_seed_gives_the_same_images(generator):
    def images(seed):
        pipeline = A.Compose([GanSample(generator, 0.7, blend=(0.5, 1.0)), A.HorizontalFlip()], seed=seed)
        labels = random.Random(0).choices(["cat", "dog"], k=200)
        return [pipeline(image=GREY, label=label)["image"].tobytes() for label in labels]

    assert images(5) == images(5)
    assert images(5) != images(6)
    assert len(set(images(None)) & set(images(None))) == 1, (
        "unseeded pipelines share the untouched image alone"
    )


@pytest.mark.parametrize("before", [1, 7, 30])
def test_a_seed_begins_anew_whatever_was_made_before(generator, before):
    pipeline = A.Compose([GanSample(generator, 0.9)])

    def images(count):
        return [pipeline(image=GREY, label="cat")["image"].tobytes() for _ in range(count)]

    images(before)
    pipeline.set_random_seed(9)
    first = images(40)
    pipeline.set_random_seed(9)
    assert images(40) == first


def test_a_pickled_transform_goes_on_as_the_original_does(generator):
    pipeline = A.Compose([GanSample(generator, 1.0)], seed=2)
    for _ in range(5):
        pipeline(image=GREY, label="cat")
    twin = pickle.loads(pickle.dumps(pipeline))
    for _ in range(30):
        seen, other = (one(image=GREY, label="cat")["image"] for one in (pipeline, twin))
        np.testing.assert_array_equal(seen, other)


def test_a_pickle_holds_no_images(write_model, tmp_path):
    write_model(tmp_path / "large", image_shape=(64, 64, 3))
    transform = GanSample(tmp_path / "large", 1.0)
    before = len(pickle.dumps(transform))
    transform(image=GREY, label="cat")
    assert len(pickle.dumps(transform)) < before + 1000


# Saving


CHANGED = {
    "probabilities": {"cat": 0.25, "dog": 1.0},
    "blend": (0.25, 0.5),
    "label_key": "species",
    "class_names": ("dog", "cat"),
    "truncation": 0.5,
    "p": 0.75,
}


@pytest.fixture
def changed(tiny_model):
    return GanSample(tiny_model, **CHANGED)


def assert_alike(transform, other):
    assert json.dumps(A.to_dict(transform)) == json.dumps(A.to_dict(other))


def test_a_dictionary_makes_the_same_transform_again(changed, tiny_model):
    tree = A.to_dict(A.Compose([changed]))
    assert tree["transform"]["transforms"][0] == {
        "__class_fullname__": "ganaug.adapters.transform.GanSample",
        "model": str(tiny_model),
        "device": "cpu",
        **CHANGED,
    }
    assert_alike(A.from_dict(json.loads(json.dumps(tree))), A.Compose([changed]))


@pytest.mark.parametrize("data_format", ["json", "yaml"])
def test_a_file_makes_the_same_transform_again(changed, tmp_path, data_format):
    path = tmp_path / "pipeline"
    A.save(A.Compose([changed, A.HorizontalFlip()]), path, data_format=data_format)
    again = A.load(path, data_format=data_format)
    assert_alike(again, A.Compose([changed, A.HorizontalFlip()]))
    assert again(image=GREY, species=0)["image"].shape == GREY.shape


def test_a_file_is_read_in_another_process_that_has_ganaug(changed, tmp_path):
    A.save(A.Compose([changed]), tmp_path / "pipeline.json")
    script = "import ganaug, sys; ganaug.GanSample; import albumentations as A; print(A.load(sys.argv[1])[0].truncation)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "pipeline.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0.5"]


def test_what_is_shown_makes_the_same_transform_again(changed):
    assert_alike(eval(repr(changed)), changed)


def test_of_an_open_generator_the_folder_is_saved(generator, tiny_model):
    tree = A.to_dict(GanSample(generator, 1.0))["transform"]
    assert (tree["model"], tree["device"]) == (str(tiny_model), "cpu")


def test_a_plan_is_saved_as_probabilities_an_empty_one_too(generator):
    for plan, saved in [({"cat": 30, "dog": 100}, {"cat": 0.7}), ({"cat": 9, "dog": 9}, {})]:
        again = A.from_dict(A.to_dict(GanSample(generator, plan=plan)))
        assert again.probabilities == pytest.approx(saved)


def test_a_replay_gives_the_same_synthetic_image(generator):
    pipeline = A.ReplayCompose([GanSample(generator, 0.5, blend=(0.3, 0.9)), A.HorizontalFlip()])
    for _ in range(30):
        seen = pipeline(image=GREY, label="dog")
        record = json.loads(json.dumps(seen["replay"]))
        again = A.ReplayCompose.replay(record, image=GREY, label="dog")
        np.testing.assert_array_equal(again["image"], seen["image"])


def test_a_replay_on_an_image_of_another_class_is_refused(generator):
    record = A.ReplayCompose([GanSample(generator, 1.0)])(image=GREY, label="dog")["replay"]
    with pytest.raises(TransformError, match=r"'dog'.*'cat'"):
        A.ReplayCompose.replay(record, image=GREY, label="cat")


# What is refused


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"probabilities": 1.5}, "less than or equal to 1"),
        ({"probabilities": float("nan")}, "less than or equal to 1"),
        ({"probabilities": {"cat": -1}}, r"(?s)cat.*greater than or equal to 0"),
        ({"probabilities": 0.5, "plan": {"cat": 1}}, "give one of them"),
        ({"plan": "no-such-run"}, "ganaug plan"),
        ({"plan": {"cat": 0.5}}, "`probabilities`"),
        ({"blend": 2}, "less than or equal to 1"),
        ({"blend": (0.6, 0.2)}, "lower weight to the higher"),
        ({"label_key": "image"}, "name of its own"),
        ({"label_key": "mask"}, "name of its own"),
        ({"class_names": "cat"}, "valid tuple"),
        ({"truncation": 0}, "greater than 0"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"p": 2}, "less than or equal to 1"),
        ({"model": 3}, "model"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_as_albumentations_does(tiny_model, asked, message):
    with pytest.raises(ValueError, match=message):
        GanSample(**{"model": tiny_model, **asked})


def test_unknown_arguments_are_told_as_albumentations_does(tiny_model):
    with pytest.warns(UserWarning, match="'probability' are not valid"):
        GanSample(tiny_model, probability=0.5)
    with pytest.raises(ValueError, match="'probability' are not valid"):
        GanSample(tiny_model, probability=0.5, strict=True)


@pytest.mark.parametrize("asked", [{"probabilities": {"yak": 0.5}}, {"plan": {"cat": 10, "yak": 1}}], ids=str)
def test_a_class_that_the_model_cannot_make_is_refused_at_once(tiny_model, asked):
    with pytest.raises(UnknownClassError, match="yak"):
        GanSample(tiny_model, **asked)


def test_a_model_that_is_not_there_is_refused_at_once():
    with pytest.raises(ModelError, match="no-such-model"):
        GanSample("no-such-model")


def test_names_of_which_none_can_be_touched_are_refused(tiny_model):
    with pytest.raises(TransformError, match="nothing could ever"):
        GanSample(tiny_model, {"cat": 1.0}, class_names=["Cat", "Dog"])


@pytest.mark.parametrize(
    "label", [3, -1, 1.0, None, [0], b"cat"], ids=["too large", "negative", "float", "none", "list", "bytes"]
)
def test_a_label_that_names_no_class_is_refused(generator, label):
    with pytest.raises(TransformError, match="label"):
        A.Compose([GanSample(generator, 1.0)])(image=GREY, label=label)


def test_a_call_without_a_label_is_refused(generator):
    with pytest.raises(ValueError, match="label"):
        A.Compose([GanSample(generator, 1.0)])(image=GREY)


FLAT, BOXES = GREY[..., 0], np.array([[0, 0, 4, 4]], np.float32)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mask", FLAT),
        ("masks", [FLAT]),
        ("bboxes", BOXES),
        ("keypoints", BOXES[:, :2]),
        ("images", [GREY]),
        ("volume", FLAT[None]),
        ("volumes", FLAT[None, None]),
        ("mask3d", FLAT[None]),
        ("masks3d", FLAT[None, None]),
    ],
)
def test_targets_beside_one_image_are_refused_even_where_the_class_is_not_touched(generator, key, value):
    transform = GanSample(generator, {"cat": 1.0}, p=0.0)
    pipeline = A.Compose([A.Sequential([transform], p=1.0)], is_check_shapes=False)
    with pytest.raises(TransformError, match=key):
        pipeline(image=GREY, label="dog", **{key: value})


def test_a_target_that_is_not_there_is_no_target(generator):
    assert "mask" in A.Compose([GanSample(generator, 1.0)])(image=GREY, label="cat", mask=None)


@pytest.mark.parametrize(
    "params",
    [
        {"bbox_params": A.BboxParams("pascal_voc", label_fields=["names"])},
        {"keypoint_params": A.KeypointParams("xy")},
        {"additional_targets": {"image2": "image"}},
        {"additional_targets": {"outline": "mask"}},
    ],
    ids=["boxes", "keypoints", "second image", "second mask"],
)
def test_a_pipeline_for_other_targets_is_refused_when_it_is_built(generator, params):
    with pytest.raises(TransformError, match="masks, boxes"):
        A.Compose([A.OneOf([GanSample(generator, 1.0), A.NoOp()]), A.HorizontalFlip()], **params)


# Where it runs


def test_it_needs_no_torch_no_tables_and_no_network(tiny_model):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import ganaug, numpy\n"
        f"ganaug.GanSample({str(tiny_model)!r}, 1.0)(image=numpy.zeros((8, 8), numpy.uint8), label='cat')\n"
        "import os; print(os.environ['NO_ALBUMENTATIONS_UPDATE'], *[n for n in ('pandas', 'prefect') if n in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["1"]
