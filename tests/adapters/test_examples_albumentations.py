import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ganaug.card import ModelCard
from ganaug.store import resolve

EXAMPLE = Path(__file__).parent.parent / "examples" / "albumentations_torch.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("albumentations_torch", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exemplars(folder):
    """(N, H, W) uint8 real images that the generators vary, as they lie in the graphs."""
    for graph in ModelCard.load(folder).graphs:
        for constant in onnx.load(folder / graph.file).graph.initializer:
            array = numpy_helper.to_array(constant)
            if array.dtype == np.uint8 and array.ndim == 4:
                assert len(array) == sum(graph.exemplar_counts)
                yield array[:, 0]


def test_the_generator_has_seen_training_images_of_this_split_and_no_test_image(example, tmp_path):
    train, test = example.split_digits(tmp_path / "run")
    found = [*exemplars(resolve(example.MODEL))]
    assert len(found) == 4
    seen = {image.tobytes() for images in found for image in images}
    trained_on, tested = ({image.tobytes() for image in part.images} for part in (train, test))
    assert seen <= trained_on
    assert not seen & tested
    assert [train.counts()[int(name)] for name in example.RARE] == [5, 5, 5]


def test_it_trains_both_ways_and_prints_recalls():
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--seeds", "2", "--epochs", "4"],
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    recalls = [float(number) for number in re.findall(r"(\d+\.\d) with", done.stdout)]
    assert len(recalls) == 6
    assert all(0 <= recall <= 100 for recall in recalls)
    # A network that finds nothing has not been trained at all.
    assert min(recalls) > 10
