"""The examples run on real images, print what they promise, and test on images that no generator has seen."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ganaug import config, readers
from ganaug.card import ModelCard
from ganaug.store import packaged_store, resolve

ROOT = Path(__file__).parents[1]
SHIPPED = "exported/digits@1"

pytestmark = pytest.mark.slow


def run(*words):
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """What the examples split: images and counts of both sides."""
    path = tmp_path_factory.mktemp("split") / "split.npz"
    script = (
        "import sys, numpy as np; sys.path.insert(0, 'examples'); from digits_split import split_digits;"
        "train, held_out = split_digits();"
        "np.savez(sys.argv[1], train=train.images, counts=train.counts(), held_out=held_out.images)"
    )
    run("-c", script, str(path))
    return np.load(path)


def test_no_held_out_image_is_a_training_image_of_the_shipped_model(split):
    model = resolve(SHIPPED, packaged_store())
    card = ModelCard.load(model)
    # The same data, and as many of each class as the model was trained on,
    assert readers.fingerprint(config.load().data) == card.dataset_sha256
    assert dict(zip(card.class_names, split["counts"].tolist(), strict=True)) == card.trained_on
    train, held_out = ({image.tobytes() for image in split[part]} for part in ("train", "held_out"))
    assert not train & held_out
    # and the images that its generators carry are among the training images, all of them.
    carried = {
        image.tobytes()
        for file in model.glob("*.onnx")
        for constant in onnx.load(file).graph.initializer
        if constant.data_type == onnx.TensorProto.UINT8 and len(constant.dims) == 4
        for image in numpy_helper.to_array(constant)
    }
    assert len(carried) >= 585
    assert carried <= train


@pytest.mark.parametrize(
    ("example", "ways"),
    [
        ("torch_balanced.py", ["plain", "sampler", "balanced"]),
        ("numpy_only.py", ["as they are", "repeated", "synthetic"]),
    ],
)
def test_an_example_prints_recalls(example, ways):
    printed = run("-W", "error", f"examples/{example}")
    for way in ways:
        (row,) = re.findall(rf"^{way} +(\d+\.\d) +(\d+\.\d)", printed, re.MULTILINE)
        assert all(0 <= float(recall) <= 100 for recall in row)


def test_the_albumentations_example_trains_both_ways_and_prints_recalls():
    printed = run("examples/albumentations_torch.py", "--seeds", "2", "--epochs", "4")
    recalls = [float(number) for number in re.findall(r"(\d+\.\d) with", printed)]
    assert len(recalls) == 6
    # A network that finds nothing has not been trained at all.
    assert all(10 < recall <= 100 for recall in recalls)


def test_the_imbalanced_learn_example_prints_a_recall_for_each_sampler():
    printed = run("examples/imbalanced_learn.py", "--splits", "1", "--steps", "100")
    table = printed.partition("Recall of (3, 5, 8) in held-out real images")[2]
    rows = dict(re.findall(r"^(\w[\w, ]*?) +((?:[\d.]+ *){4})$", table, flags=re.MULTILINE))
    samplers = ["nothing", "RandomOverSampler", "SMOTE", "GanOverSampler", "GanOverSampler, rows"]
    assert list(rows) == samplers
    recall = {name: float(numbers.split()[0]) for name, numbers in rows.items()}
    assert all(0 <= share <= 100 for share in recall.values())
    # Without more of the rare digits the classifier hardly finds them: the samplers have something to do.
    assert min(recall, key=recall.get) == "nothing"
    trained = re.findall(r"(Gan.*) trained (\d+) steps on (\d+) real images, (\d+) of them", printed)
    images, rows_of_pixels = trained
    assert rows_of_pixels == ("GanOverSampler, rows", "300", "644", "5")
    # Training watches itself: after so few steps its samples are near copies, and it may stop before the last one.
    assert (images[0], *images[2:]) == ("GanOverSampler", "644", "5")
    assert 0 < int(images[1]) <= 100
