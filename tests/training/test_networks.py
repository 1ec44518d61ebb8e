"""Every architecture keeps its shape promises, from 8 px and for any side lengths and channels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from ganaug.config import ExportConfig, TrainConfig
from ganaug.errors import ModelError
from ganaug.training.checkpoint import save_tensors
from ganaug.training.export import export_module
from ganaug.training.networks import (
    GENERATOR_FILE,
    NETWORK_FILE,
    NETWORKS,
    ConditionalGenerator,
    NetworkSpec,
    build_discriminator,
    load_generator,
)
from ganaug.training.networks.conditioning import (
    ClassEmbedding,
    Conditioning,
    hold_exemplars,
    to_float,
    to_uint8,
)
from ganaug.training.networks.ensemble import Ensemble, LowResolution
from ganaug.training.networks.presets import PRESETS, choose_recipe, resolve

SHAPES = [(8, 8, 1), (9, 14, 3), (16, 16, 4), (40, 17, 3), (8, 64, 1), (256, 8, 1)]
CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
PAIRS = [name for name, network in NETWORKS.items() if network.kind == "exemplar-conditional"]
CLASSED = [name for name in NETWORKS if name not in PAIRS]
CONVOLUTIONS = [name for name in CLASSED if NETWORKS[name].is_convolutional]
WITH_CLASS = [conditioning for conditioning in CONDITIONINGS if conditioning != "none"]


def _spec(
    name: str,
    shape: tuple[int, int, int] = (8, 8, 1),
    conditioning: Conditioning = "projection",
    unconditional_px: int = 0,
) -> NetworkSpec:
    return NetworkSpec(
        name, shape, (1, 4), 6, 8, conditioning=conditioning, unconditional_px=unconditional_px
    )


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Some of all weights that could be drawn leave every pixel at an end of its range, whatever the class."""
    torch.manual_seed(0)


def _waken(module: nn.Module) -> nn.Module:
    """Give weights that start at zero values, so that what they lead to can be seen."""
    rng = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        if not weight.any():
            weight.data.normal_(std=0.5, generator=rng)
    return module.eval()


def _set_strength(module: nn.Module, strength: float) -> None:
    for part in module.modules():
        if isinstance(part, ClassEmbedding):
            part.strength.fill_(strength)


def _condition(name: str, shape: tuple[int, int, int], count: int = 3) -> torch.Tensor:
    height, width, channels = shape
    if name in PAIRS:
        return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.arange(count) % 2


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_size_and_channels_go_in_and_come_out(name: str, shape: tuple[int, int, int]) -> None:
    spec, condition = _spec(name, shape), _condition(name, shape)
    images = NETWORKS[name].generator(spec)(torch.randn(3, 6), condition)
    assert images.shape == (3, shape[2], shape[0], shape[1])
    assert images.abs().max() <= 1
    discriminator = NETWORKS[name].discriminator(spec)
    assert discriminator(images, condition).shape == (3,)
    assert discriminator.features(images, condition).shape == (3, discriminator.feature_count)


@pytest.mark.parametrize("name", CLASSED)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("unconditional_px", [0, 10])
@pytest.mark.parametrize("shape", [(8, 8, 1), (21, 33, 3)], ids=str)
def test_every_conditioning_keeps_the_shapes(
    name: str, conditioning: Conditioning, unconditional_px: int, shape: tuple[int, int, int]
) -> None:
    spec = _spec(name, shape, conditioning, unconditional_px)
    classes = torch.tensor([0, 1, 1])
    images = NETWORKS[name].generator(spec)(torch.randn(3, 6), classes)
    assert images.shape == (3, shape[2], shape[0], shape[1])
    discriminator = NETWORKS[name].discriminator(spec)
    assert discriminator(images, classes).shape == (3,)
    if conditioning == "classes":
        assert discriminator.classify(images).shape == (3, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_depend_on_one_image_only_or_the_network_says_so(name: str) -> None:
    """The gradient penalty sums scores over the batch: that is right only if none mixes."""
    shape = (16, 16, 3)
    discriminator, condition = NETWORKS[name].discriminator(_spec(name, shape)), _condition(name, shape)
    images = torch.randn(3, 3, 16, 16)
    other = images.clone()
    other[1:] = 0
    one, same = discriminator(images, condition)[0], discriminator(other, condition)[0]
    assert torch.allclose(one, same, atol=1e-6) != NETWORKS[name].mixes_batch


@pytest.mark.parametrize("name", CLASSED)
@pytest.mark.parametrize("conditioning", WITH_CLASS)
def test_strength_fades_the_class_in(name: str, conditioning: Conditioning) -> None:
    spec = _spec(name, (16, 12, 1), conditioning)
    generator = _waken(NETWORKS[name].generator(spec))
    discriminator = _waken(NETWORKS[name].discriminator(spec))
    z, classes = torch.randn(1, 6).expand(2, -1), torch.tensor([0, 1])
    images = torch.randn(1, 1, 16, 12).expand(2, -1, -1, -1)
    outputs = []
    for strength in (0.0, 1.0):
        for network in (generator, discriminator):
            _set_strength(network, strength)
            one, four = network(z if network is generator else images, classes)
            outputs.append(torch.allclose(one, four, atol=1e-6))
    # The discriminator of "classes" judges without being told the class.
    assert outputs == [True, True, False, conditioning == "classes"]


@pytest.mark.parametrize("name", CLASSED)
def test_without_conditioning_no_network_sees_the_class(name: str) -> None:
    spec = _spec(name, (16, 12, 1), "none")
    generator = _waken(NETWORKS[name].generator(spec))
    discriminator = _waken(NETWORKS[name].discriminator(spec))
    images = generator(torch.randn(1, 6).expand(2, -1), torch.tensor([0, 1]))
    torch.testing.assert_close(images[0], images[1])
    scores = discriminator(images, torch.tensor([0, 1]))
    torch.testing.assert_close(scores[0], scores[1])
    assert not any(isinstance(part, ClassEmbedding) for part in generator.modules())


@pytest.mark.parametrize("name", CLASSED)
@pytest.mark.parametrize("conditioning", WITH_CLASS)
def test_a_specialist_needs_only_its_own_row_of_the_table(name: str, conditioning: Conditioning) -> None:
    spec = _spec(name, (16, 12, 1), conditioning)
    generator = _waken(NETWORKS[name].generator(spec))
    z = torch.randn(2, 6)
    expected = generator(z, torch.tensor([1, 1]))
    specialist = NETWORKS[name].generator(replace(spec, class_ids=(4,))).eval()
    generator.embed = generator.embed.subset([1])
    specialist.load_state_dict(generator.state_dict())
    torch.testing.assert_close(specialist(z, torch.tensor([0, 0])), expected)


def test_a_subset_keeps_order_strength_and_whether_it_trains() -> None:
    embedding = ClassEmbedding(3, 2).requires_grad_(False)
    embedding.strength.fill_(0.5)
    kept = embedding.subset([2, 0])
    assert torch.equal(kept(torch.tensor([0, 1])), 0.5 * embedding.table[[2, 0]])
    assert not kept.table.requires_grad
    kept.table.zero_()
    assert embedding.table.all()


@pytest.mark.parametrize("name", CLASSED)
def test_class_scores_are_the_log_odds_of_being_real(name: str) -> None:
    spec = _spec(name, (16, 12, 1), "classes")
    discriminator = _waken(NETWORKS[name].discriminator(spec))
    images = torch.randn(5, 1, 16, 12)
    fake = discriminator.classify(images).softmax(1)[:, -1]
    odds = discriminator(images, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(odds, torch.log((1 - fake) / fake), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("conditioning", WITH_CLASS)
@pytest.mark.parametrize("px", [3, 8, 16, 31, 32, 64])
def test_the_class_enters_only_above_the_unconditional_size(
    name: str, conditioning: Conditioning, px: int
) -> None:
    generator = _waken(NETWORKS[name].generator(_spec(name, (20, 32, 1), conditioning, px)))
    z = torch.randn(1, 6).expand(2, -1)
    one, four = generator(z, torch.tensor([0, 1]))
    assert torch.allclose(one, four, atol=1e-6) == (px >= 32)


def test_dcgan_has_no_fully_connected_hidden_layer() -> None:
    spec = _spec("dcgan", (16, 16, 3))
    networks = {"G": NETWORKS["dcgan"].generator(spec), "D": NETWORKS["dcgan"].discriminator(spec)}
    linear = [
        f"{player}.{path}"
        for player, network in networks.items()
        for path, part in network.named_modules()
        if isinstance(part, nn.Linear)
    ]
    assert linear == ["D.head.score"]


def test_dcgan_normalises_all_but_the_first_layer_of_d_and_the_last_of_g() -> None:
    spec, classes = _spec("dcgan", (32, 32, 3)), torch.tensor([0, 1])
    generator, discriminator = NETWORKS["dcgan"].generator(spec), NETWORKS["dcgan"].discriminator(spec)
    seen: list[str] = []
    for network in (generator, discriminator):
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
                part.register_forward_hook(lambda part, *_: seen.append(type(part).__name__))
    discriminator(generator(torch.randn(2, 6), classes), classes)
    assert seen == [
        *["ConvTranspose2d", "BatchNorm2d"] * 3,
        "ConvTranspose2d",
        "Conv2d",
        *["Conv2d", "BatchNorm2d"] * 2,
        "Conv2d",
    ]


def test_an_ensemble_gives_a_row_per_member() -> None:
    ensemble = build_discriminator(_spec("strided", (16, 16, 1)), members=3)
    assert isinstance(ensemble, Ensemble)
    images, classes = torch.randn(2, 1, 16, 16), torch.tensor([0, 1])
    scores = ensemble(images, classes)
    for row, member in zip(scores, ensemble.members, strict=True):
        torch.testing.assert_close(row, member(images, classes))
    assert not torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize("name", CLASSED)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_discriminator_can_be_penalised_for_its_slope(name: str, conditioning: Conditioning) -> None:
    """R1 takes the gradient of a gradient, which some operators do not have."""
    discriminator = build_discriminator(_spec(name, (17, 12, 1), conditioning, 10))
    images = torch.randn(3, 1, 17, 12, requires_grad=True)
    scores = discriminator(images, torch.tensor([0, 1, 1]))
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    slope.square().sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in discriminator.parameters())


def test_one_member_stands_alone() -> None:
    spec = _spec("cgan")
    assert not isinstance(build_discriminator(spec), Ensemble)
    # Perceptrons see the class everywhere, whatever the spec says.
    assert not isinstance(build_discriminator(replace(spec, unconditional_px=4)), Ensemble)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("shape", [(32, 24, 3), (8, 64, 1)], ids=str)
def test_a_low_resolution_member_sees_neither_class_nor_detail(
    name: str, shape: tuple[int, int, int]
) -> None:
    ensemble = _waken(build_discriminator(_spec(name, shape, unconditional_px=16)))
    low = ensemble.get_submodule("members.1")
    assert isinstance(low, LowResolution)
    height, width, channels = shape
    images = torch.randn(2, channels, height, width)
    pixel_rows = torch.arange(height)[:, None] + torch.arange(width)
    # A checkerboard of single pixels averages out.
    detailed = images + (pixel_rows % 2 * 2 - 1)
    classes = torch.tensor([0, 1])
    assert ensemble(images, classes).shape == (2, 2)
    torch.testing.assert_close(low(images, classes), low(detailed, 1 - classes), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(low(images, classes), low(images + 0.5, classes))


EXPORTS = [
    *((name, conditioning, 0) for name in ("dcgan", "modern") for conditioning in ("none", "normalisation")),
    *((name, "projection", 0) for name in CLASSED),
    ("vanilla", "normalisation", 0),
    ("strided", "normalisation", 10),
    ("modern", "embedding", 10),
]


@pytest.mark.parametrize(("name", "conditioning", "unconditional_px"), EXPORTS)
def test_every_architecture_exports(
    name: str, conditioning: Conditioning, unconditional_px: int, tmp_path: Path
) -> None:
    """The export itself compares the graph with torch; embedding and classes have projection's generator."""
    spec = _spec(name, (9, 22, 3), conditioning, unconditional_px)
    core = _waken(NETWORKS[name].generator(spec))
    for part in core.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            part.running_mean.fill_(0.1)
    about = {"class_names": list("abcde"), "dataset_sha256": "0" * 64}
    export_module(ConditionalGenerator(spec, core), tmp_path, ExportConfig(), **about)


@pytest.mark.parametrize("name", PAIRS)
def test_an_untrained_pair_generator_copies_its_exemplar(name: str) -> None:
    shape = (17, 16, 3)
    exemplar = _condition(name, shape)
    images = NETWORKS[name].generator(_spec(name, shape))(torch.randn(3, 6), exemplar)
    torch.testing.assert_close(images, 0.95 * exemplar, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CLASSED)
def test_the_class_changes_what_is_made(name: str) -> None:
    generator = ConditionalGenerator(_spec(name), NETWORKS[name].generator(_spec(name))).eval()
    z = torch.randn(1, 6).expand(2, -1)
    one, four = generator(z, torch.tensor([1, 4]))
    assert not torch.allclose(one, four)


def test_exemplars_are_found_by_class_id_and_number() -> None:
    spec = _spec("pair_mlp")
    images = [
        torch.full((2, 1, 8, 8), 40, dtype=torch.uint8),
        torch.full((3, 1, 8, 8), 200, dtype=torch.uint8),
    ]
    images[1][2] = 90
    generator = hold_exemplars(spec, NETWORKS["pair_mlp"].generator(spec), images)
    made = generator(torch.zeros(3, 6), torch.tensor([1, 4, 4]), torch.tensor([1, 0, 2]))
    seen = to_uint8(made).flatten(1).float().mean(dim=1)
    # Untrained, it copies with 95 % of the contrast.
    assert seen.tolist() == pytest.approx([44, 196, 92], abs=1.5)
    assert generator.exemplar_counts == (2, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_generator_comes_back_the_same(name: str, tmp_path: Path) -> None:
    spec = _spec(name)
    core = NETWORKS[name].generator(spec)
    arguments = [torch.randn(2, 6), torch.tensor([4, 1])]
    generator = ConditionalGenerator(spec, core)
    if name in PAIRS:
        rng = torch.Generator().manual_seed(0)
        exemplars = [torch.randint(256, (n, 1, 8, 8), generator=rng).to(torch.uint8) for n in (2, 3)]
        generator = hold_exemplars(spec, core, exemplars)
        arguments.append(torch.tensor([2, 0]))
    save_tensors(tmp_path / GENERATOR_FILE, generator.state_dict())
    generator.spec.save(tmp_path / NETWORK_FILE, recipe="pair")
    loaded = load_generator(tmp_path)
    assert torch.equal(loaded(*arguments), generator.eval()(*arguments))
    assert not loaded.training
    assert (loaded.class_ids, loaded.z_dim, loaded.image_shape) == ((1, 4), 6, (8, 8, 1))


def test_a_spec_comes_back_whole_and_an_older_one_with_defaults(tmp_path: Path) -> None:
    spec = _spec("modern", (16, 9, 3), "classes", unconditional_px=8)
    spec.save(tmp_path / NETWORK_FILE)
    assert NetworkSpec.load(tmp_path / NETWORK_FILE) == spec
    tree = json.loads((tmp_path / NETWORK_FILE).read_text())
    del tree["spec"]["conditioning"], tree["spec"]["unconditional_px"]
    (tmp_path / NETWORK_FILE).write_text(json.dumps(tree))
    older = NetworkSpec.load(tmp_path / NETWORK_FILE)
    assert older == replace(spec, conditioning="projection", unconditional_px=0)


@pytest.mark.parametrize("name", [GENERATOR_FILE, NETWORK_FILE])
@pytest.mark.parametrize("text", [None, "{}", "no JSON, no tensors"])
def test_a_missing_or_damaged_generator_is_refused(name: str, text: str | None, tmp_path: Path) -> None:
    spec = _spec("cgan")
    save_tensors(
        tmp_path / GENERATOR_FILE, ConditionalGenerator(spec, NETWORKS["cgan"].generator(spec)).state_dict()
    )
    spec.save(tmp_path / NETWORK_FILE)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match="ganaug train"):
        load_generator(tmp_path)


def test_every_pixel_value_survives_the_way_to_float_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)


@pytest.mark.parametrize("side", [8, 15, 16, 32, 256])
@pytest.mark.parametrize("recipe", ["auto", "cgan", "dcgan", "pair"])
def test_auto_is_resolved_for_every_recipe_and_size(recipe: str, side: int) -> None:
    config = TrainConfig.model_validate({"recipe": recipe})
    name, why, preset = resolve(config, (side, 8, 3), 500, "cpu")
    assert preset.network in NETWORKS
    assert why
    assert (name, preset.network) != ("auto", "")
    assert preset in PRESETS.values()


def test_settings_win_over_the_table() -> None:
    asked = {"steps": 7, "z_dim": 3, "width": 5, "learning_rate": 0.1, "regularizers": {"r1": 0.5}}
    config = TrainConfig.model_validate({"recipe": "dcgan", "augment": False, **asked})
    preset = resolve(config, (32, 32, 3), 500, "cpu")[2]
    assert {name: getattr(preset, name) for name in asked} == asked
    assert preset.augment.shift == 0


def test_the_choice_says_why() -> None:
    assert "8 px" in choose_recipe((8, 8, 1), 100, "cpu")[1]
