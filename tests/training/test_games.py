"""Hands are dealt by class, whole and in parts alike, and nothing held out is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.bars import bars, game_of, settings

from ganaug.training.games import UNLABELLED, ClassGame, Reals, class_weights, hold_out

RARE = 2


def test_rare_and_common_classes_are_drawn_equally_often_and_a_focus_half_the_time() -> None:
    reals, rng = Reals(bars(), "cpu"), torch.Generator().manual_seed(0)
    for focus, expected in ((None, [1 / 3, 1 / 3, 1 / 3]), (RARE, [0.25, 0.25, 0.5])):
        drawn = reals.draw_classes(6000, class_weights(reals, 1.0, least=2, focus=focus), rng)
        shares = torch.bincount(drawn, minlength=3) / 6000
        assert shares.tolist() == pytest.approx(expected, abs=0.03)


def test_the_balance_goes_from_all_alike_to_as_they_come() -> None:
    reals = Reals(bars(counts=(64, 16, 4)), "cpu")
    assert class_weights(reals, 1.0, least=2).tolist() == pytest.approx([1 / 3] * 3)
    assert class_weights(reals, 0.5, least=2).tolist() == pytest.approx([8 / 14, 4 / 14, 2 / 14])
    assert class_weights(reals, 0.0, least=2).tolist() == pytest.approx([64 / 84, 16 / 84, 4 / 84])


def test_pairs_are_two_different_images_of_one_class() -> None:
    data = bars(counts=(20, 2, 3))
    reals, rng = Reals(data, "cpu"), torch.Generator().manual_seed(0)
    classes = reals.draw_classes(3000, class_weights(reals, 1.0, least=2), rng)
    first, second = reals.draw_rows(classes, rng)
    owner = torch.repeat_interleave(torch.arange(3), reals.counts)
    assert (first != second).all()
    assert torch.equal(owner[first], classes)
    assert torch.equal(owner[second], classes)
    assert len(set(first.tolist())) == len(set(second.tolist())) == 25


@pytest.mark.parametrize("recipe", ["cgan", "pair"])
def test_the_parts_of_a_hand_are_the_hand(recipe: str) -> None:
    _, game = game_of(bars(), settings(recipe))
    hand = game.deal(10, torch.Generator().manual_seed(0), share=0.8)
    parts = hand.parts(3)
    assert [len(part) for part in parts] == [3, 4, 3]
    for name in ("real", "condition", "labels", "z", "mix"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(hand, name)), name
    seen = torch.cat([part.augmentation.apply(part.real) for part in parts])
    torch.testing.assert_close(seen, hand.augmentation.apply(hand.real))
    assert len(hand.parts(40)) == 10


def test_the_images_of_a_hand_are_of_its_classes() -> None:
    data = bars()
    _, game = game_of(data, settings("cgan"))
    hand = game.deal(64, torch.Generator().manual_seed(0), share=0.0)
    light = hand.real.mean(dim=(1, 3))
    thirds = torch.stack([part.mean(1) for part in light.tensor_split(3, dim=1)], dim=1)
    assert torch.equal(thirds.argmax(1), hand.labels)
    assert torch.equal(hand.labels, hand.condition)


def test_common_classes_give_some_images_to_check_with_and_rare_ones_none() -> None:
    data = bars(counts=(100, 60, 40))
    train, held_out, rows = hold_out(data, 0.1, seed=0)
    assert held_out.counts().tolist() == [10, 6, 0]
    assert train.counts().tolist() == [90, 54, 40]
    assert np.array_equal(data.images[rows], held_out.images)
    assert np.array_equal(hold_out(data, 0.1, seed=0)[2], rows)
    assert not np.array_equal(hold_out(data, 0.1, seed=1)[2], rows)
    assert len(hold_out(data, 0.0, seed=0)[1]) == 0


def test_images_of_a_group_are_held_out_together() -> None:
    data = bars(counts=(100, 60))
    data.index["group"] = [f"photo {row // 4}" for row in range(160)]
    train, held_out, _ = hold_out(data, 0.1, seed=0)
    assert len(held_out)
    assert not set(train.index["group"]) & set(held_out.index["group"])


@pytest.mark.parametrize("recipe", ["cgan", "pair"])
def test_held_out_images_are_dealt_beside_training_images_of_the_same_classes(recipe: str) -> None:
    train, held_out, _ = hold_out(bars(counts=(100, 60, 6)), 0.1, seed=0)
    _, game = game_of(train, settings(recipe), held_out)
    dealt = game.deal_held_out(32, torch.Generator().manual_seed(0), 0.0)
    assert dealt is not None
    hand, real = dealt
    assert set(hand.labels.tolist()) == {0, 1}
    known = {image.tobytes() for image in held_out.images}
    seen = ((hand.real + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    assert {image.tobytes() for image in seen} <= known
    half = [part.mean(dim=(1, 2, 3)) for part in real.tensor_split(3, dim=2)]
    assert torch.equal(torch.stack(half, 1).argmax(1), hand.labels)
    _, alone = game_of(train, settings(recipe))
    assert alone.deal_held_out(32, torch.Generator(), 0.0) is None


def test_unlabelled_images_take_the_place_of_real_ones_without_a_label() -> None:
    data = bars()
    players, _ = game_of(data, settings("sgan"))
    white = np.full((5, 8, 8, 1), 255, np.uint8)
    game = ClassGame(Reals(data, "cpu"), players.preset, unlabelled=white)
    hand = game.deal(200, torch.Generator().manual_seed(0), share=0.0)
    is_white = (hand.real == 1.0).all(dim=(1, 2, 3))
    assert torch.equal(is_white, hand.labels == UNLABELLED)
    assert 60 < is_white.sum() < 140
    assert (hand.condition >= 0).all()


def test_noise_for_penalties_is_drawn_where_one_needs_it() -> None:
    players, game = game_of(bars(), settings("cgan"))
    assert game.deal(4, players.rng, 0.0).noise.shape == (4, 1, 1, 1)
    game.preset = replace(players.preset, regularizers={"dragan": 1.0})  # type: ignore[attr-defined]
    assert game.deal(4, players.rng, 0.0).noise.shape == (4, 1, 8, 8)
