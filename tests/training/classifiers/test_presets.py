"""Every built-in classifier: its shape, what it learns on real digits, the same bytes for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.digits import digits

from ganaug.arms import ARMS
from ganaug.classifier_name import BUILT_IN
from ganaug.scores import score
from ganaug.training.classifier import fit, predict
from ganaug.training.classifiers.presets import PRESETS
from ganaug.training.classifiers.resnet import ResNet32

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
needs_bfloat16 = pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)),
    reason="no GPU that computes in bfloat16",
)
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(name, data, seed, steps, device="cpu"):
    def begin(rng):
        return PRESETS[name]((8, 8, 1), 3, rng=rng)

    recipe = ARMS["oversampling"].recipe(data)
    return fit(recipe, 3, seed=seed, steps=steps, start=begin, device=device)


def test_the_settings_name_exactly_the_presets():
    assert set(BUILT_IN) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 9, 3), (32, 48, 3), (33, 32, 4)])
def test_images_of_every_size_and_kind_are_classified(name, shape):
    model = PRESETS[name](shape, 5, rng=torch.Generator().manual_seed(0)).eval()
    probability, features = predict(model, np.zeros((3, *shape), np.uint8))
    assert probability.shape == (3, 5)
    assert features.shape == (3, model.feature_count)
    assert np.allclose(probability.sum(1), 1)
    assert (model.image_shape, model.n_classes) == (shape, 5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", PRESETS)
def test_it_learns_real_digits(name, device):
    data = digits(60)
    rows = np.random.default_rng(0).permutation(len(data))
    model = trained(name, data.take(rows[:120]), 0, 40, device)
    test = data.take(rows[120:])
    assert score(test.class_ids, predict(model, test.images)[0], [2])["macro_f1"] > 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name):
    data = digits(20)
    torch.manual_seed(1)
    first = predict(trained(name, data, 3, 3), data.images)[0]
    torch.manual_seed(2)
    again, other = (predict(trained(name, data, seed, 3), data.images)[0] for seed in (3, 4))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_resnet_32_is_that_of_its_paper():
    # 0.46 million weights for CIFAR-10 (table 6); 31 convolutions and one linear layer are 32 layers.
    model = ResNet32((32, 32, 3), 10)
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert len(weights) == 32
    convolutions = 9 * (3 * 16 + 10 * 16 * 16 + 16 * 32 + 9 * 32 * 32 + 32 * 64 + 9 * 64 * 64)
    norms = 2 * (11 * 16 + 10 * 32 + 10 * 64)
    assert sum(p.numel() for p in model.parameters()) == convolutions + norms + 650 == 464_154
    sizes = []
    for block in model.body:
        block.register_forward_hook(lambda block, inputs, maps: sizes.append(tuple(maps.shape[1:])))
    model(torch.zeros(2, 3, 32, 32))
    assert sizes[2:] == [(16, 32, 32)] * 6 + [(32, 16, 16)] * 5 + [(64, 8, 8)] * 5


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", torch.float32), pytest.param("cuda", torch.bfloat16, marks=needs_bfloat16)],
)
def test_a_gpu_computes_the_maps_of_a_resnet_in_bfloat16_and_weights_stay_float32(device, expected):
    data, seen = digits(20), set()

    def begin(rng):
        model = ResNet32((8, 8, 1), 3, rng=rng)
        model.body[0].register_forward_hook(lambda layer, inputs, maps: seen.add(maps.dtype))
        return model

    model = fit(ARMS["real"].recipe(data), 3, seed=0, steps=3, start=begin, device=device)
    assert seen == {expected}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
