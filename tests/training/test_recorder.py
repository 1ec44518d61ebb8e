"""Recorded steps: on a GPU the weights that plain steps give, and on a CPU nothing but plain steps."""

from __future__ import annotations

import logging

import pytest
import torch
from support.bars import bars, game_of, settings
from torch import Tensor

from ganaug.arms import make_arm
from ganaug.training.classifier import fit
from ganaug.training.players import Players, restore_players, save_players
from ganaug.training.recorder import PLAIN, SWITCH, Recorder
from ganaug.training.step import play_step

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GANS = ("cgan", "pair", "strided", "sgan", "modern", "multi-discriminator", "dcgan", "long-tail")


def weights(*modules: torch.nn.Module) -> Tensor:
    values = [value.detach().double().flatten() for one in modules for value in one.state_dict().values()]
    return torch.cat(values).cpu()


def played(
    recipe: str, steps: int, *, records: bool, **changes: object
) -> tuple[Players, list[dict[str, float]]]:
    players, game = game_of(bars((16, 16, 3)), settings(recipe, **changes), device="cuda")
    players.recorder.is_on &= records
    found = [play_step(players, game, players.preset) for _ in range(steps)]
    return players, [{name: float(value) for name, value in metrics.items()} for metrics in found]


def test_on_a_cpu_every_step_is_played_as_it_is_given():
    recorder, seen = Recorder("cpu"), []

    def step(given):
        seen.append(given)
        return {"y": given["x"] + 1}

    for number in range(2 * PLAIN):
        inputs = {"x": torch.tensor(number)}
        assert recorder.play("any", step, inputs) == {"y": number + 1}
        assert seen[-1] is inputs


def test_a_hand_made_of_its_own_tensors_is_the_same_hand():
    players, game = game_of(bars((16, 16, 3)), settings("strided"))
    hand = game.deal(8, players.rng, 1.0)
    tensors = hand.tensors()
    assert {"real", "condition", "labels", "z", "mix", "noise", "matrices", "keep"} <= tensors.keys()
    again = hand.with_tensors({name: value.clone() for name, value in tensors.items()})
    assert all(torch.equal(value, tensors[name]) for name, value in again.tensors().items())
    assert torch.equal(again.augmentation.apply(again.real), hand.augmentation.apply(hand.real))


@needs_gpu
def test_a_recording_reads_its_inputs_anew_and_what_it_returned_stays():
    recorder, total = Recorder("cuda"), torch.zeros(3, device="cuda")

    def step(given):
        total.add_(given["x"])
        return {"twice": 2 * given["x"]}

    found = [recorder.play("sum", step, {"x": torch.full((3,), float(n), device="cuda")}) for n in range(8)]
    assert len(recorder._recordings) == 1
    assert total.tolist() == [28.0] * 3
    assert [one["twice"].tolist() for one in found] == [[2.0 * n] * 3 for n in range(8)]


@needs_gpu
def test_a_step_that_cannot_be_recorded_is_played_plainly(caplog):
    recorder, total = Recorder("cuda"), torch.zeros((), device="cuda")

    def step(given):
        total.add_(given["x"].item())
        return {}

    with caplog.at_level(logging.WARNING):
        for _ in range(PLAIN + 3):
            recorder.play("asks", step, {"x": torch.ones((), device="cuda")})
    assert total.item() == PLAIN + 3
    assert not recorder.is_on
    assert "played plainly" in caplog.text


@needs_gpu
def test_the_switch_turns_it_off(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    assert not Recorder("cuda").is_on


@needs_gpu
@pytest.mark.parametrize("recipe", GANS)
def test_a_gan_of_recorded_steps_has_the_weights_of_one_played_plainly(recipe):
    (plain, told), (recorded, told_too) = (played(recipe, 24, records=records) for records in (False, True))
    assert recorded.recorder._recordings
    assert not plain.recorder._recordings
    assert [one.keys() for one in told] == [one.keys() for one in told_too]
    one, other = (weights(who.generator, who.discriminator, who.average) for who in (plain, recorded))
    # Sums that a GPU makes in another order each time are all that may differ.
    assert (one - other).abs().mean() < 1e-4
    assert told_too[-1]["discriminator_loss"] == pytest.approx(
        told[-1]["discriminator_loss"], rel=0.05, abs=0.02
    )


@needs_gpu
def test_after_a_checkpoint_is_restored_and_rates_changed_the_new_ones_are_played(tmp_path):
    found = []
    for records in (False, True):
        players, game = game_of(bars((16, 16, 3)), settings("strided"), device="cuda")
        players.recorder.is_on &= records
        for turn in range(3):
            for _ in range(12):
                play_step(players, game, players.preset)
            if turn == 0:
                save_players(players, tmp_path / str(records))
            if turn == 1:
                restore_players(players, tmp_path / str(records))
                players.set_rates(0.25, 0.5)
        found.append(weights(players.generator, players.discriminator))
    assert (found[0] - found[1]).abs().mean() < 1e-4


@needs_gpu
@pytest.mark.parametrize(
    "arm", ["real", "oversampling+albumentations+mixup", "oversampling+cutmix", "deferred re-weighting"]
)
def test_a_classifier_of_recorded_steps_is_the_one_trained_plainly(arm, monkeypatch):
    recipe, found = make_arm(arm).recipe(bars((16, 16, 3))), []
    for switch, steps in (("0", 40), ("1", 40), ("0", 20)):
        monkeypatch.setenv(SWITCH, switch)
        found.append(weights(fit(recipe, 3, seed=0, steps=steps, device="cuda")))
    plain, recorded, other = found
    # Sums that a GPU makes in another order each time are all that may differ.
    assert (plain - recorded).abs().mean() < 1e-3 < (plain - other).abs().mean()
