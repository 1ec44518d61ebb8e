"""Every architecture keeps its shape promises, from 8 px and for any side lengths and channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganaug.config import TrainConfig
from ganaug.errors import ModelError
from ganaug.training.checkpoint import save_tensors
from ganaug.training.networks import (
    GENERATOR_FILE,
    NETWORK_FILE,
    NETWORKS,
    ConditionalGenerator,
    NetworkSpec,
    load_generator,
)
from ganaug.training.networks.conditioning import hold_exemplars, to_float, to_uint8
from ganaug.training.networks.presets import PRESETS, choose_recipe, resolve

SHAPES = [(8, 8, 1), (9, 14, 3), (16, 16, 4), (40, 17, 3), (8, 64, 1)]
PAIRS = [name for name, network in NETWORKS.items() if network.kind == "exemplar-conditional"]


def _spec(name: str, shape: tuple[int, int, int] = (8, 8, 1)) -> NetworkSpec:
    return NetworkSpec(name, shape, (1, 4), z_dim=6, width=8)


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
    assert NETWORKS[name].discriminator(spec)(images, condition).shape == (3,)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_depend_on_one_image_only(name: str) -> None:
    """The gradient penalty sums scores over the batch: that is right only if none mixes."""
    shape = (16, 16, 3)
    discriminator, condition = NETWORKS[name].discriminator(_spec(name, shape)), _condition(name, shape)
    images = torch.randn(3, 3, 16, 16)
    other = images.clone()
    other[1:] = 0
    torch.testing.assert_close(discriminator(images, condition)[0], discriminator(other, condition)[0])


@pytest.mark.parametrize("name", PAIRS)
def test_an_untrained_pair_generator_copies_its_exemplar(name: str) -> None:
    shape = (17, 16, 3)
    exemplar = _condition(name, shape)
    images = NETWORKS[name].generator(_spec(name, shape))(torch.randn(3, 6), exemplar)
    torch.testing.assert_close(images, 0.95 * exemplar, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in PAIRS])
def test_the_class_changes_what_is_made(name: str) -> None:
    generator = ConditionalGenerator(_spec(name), NETWORKS[name].generator(_spec(name)))
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
    assert torch.equal(loaded(*arguments), generator(*arguments))
    assert not loaded.training
    assert (loaded.class_ids, loaded.z_dim, loaded.image_shape) == ((1, 4), 6, (8, 8, 1))


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
    config = TrainConfig(
        recipe="dcgan", steps=7, gamma=0.5, z_dim=3, width=5, augment=False, learning_rate=0.1
    )
    preset = resolve(config, (32, 32, 3), 500, "cpu")[2]
    assert (preset.steps, preset.gamma, preset.z_dim, preset.width, preset.learning_rate) == (
        7,
        0.5,
        3,
        5,
        0.1,
    )
    assert preset.augment.shift == 0


def test_the_choice_says_why() -> None:
    assert "8 px" in choose_recipe((8, 8, 1), 100, "cpu")[1]
