"""The arms' loss and the mixing of images, against plain computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ganaug.arms import make_arm
from ganaug.dataset import LabelledImages
from ganaug.training.batches import batches
from ganaug.training.classifier import fit, predict_proba
from ganaug.training.mixing import CUTMIX_PROBABILITY, mix
from ganaug.training.objective import classification_loss


def plain_loss(logits, labels, partners, share, weights, offsets, smoothing):
    """The same by sums over images and classes, in numpy."""
    n, k = logits.shape
    total = 0.0
    for row in range(n):
        scores = logits[row] + offsets
        log_p = scores - np.log(np.exp(scores).sum())
        for label, part in ((labels[row], share), (partners[row], 1 - share)):
            target = np.full(k, smoothing / k)
            target[label] += 1 - smoothing
            total -= part * weights[label] * (target * log_p).sum()
    return total / n


@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["plain", "weights", "offsets", "both"])
def test_the_loss_is_that_of_a_plain_computation(share, smoothing, kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4)).astype(np.float32)
    labels, partners = rng.integers(0, 4, 6), rng.integers(0, 4, 6)
    weights = np.array([0.5, 1, 2, 4], np.float32) if kind in {"weights", "both"} else np.ones(4, np.float32)
    offsets = (
        np.log([0.7, 0.2, 0.09, 0.01]).astype(np.float32)
        if kind in {"offsets", "both"}
        else np.zeros(4, np.float32)
    )
    found = classification_loss(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        torch.from_numpy(partners),
        None if share == 1.0 else torch.tensor([share, 1 - share]),
        weights=torch.from_numpy(weights),
        offsets=torch.from_numpy(offsets),
        smoothing=smoothing,
    )
    expected = plain_loss(logits, labels, partners, share, weights, offsets, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_adjusted_logits_are_the_log_odds_of_a_balanced_world():
    """Menon's equation 10: at the optimum f + log π = log p, so f names the class with the largest p / π."""
    prior, posterior = np.array([0.9, 0.1]), np.array([0.8, 0.2])
    logits = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100)
    offsets = torch.from_numpy(np.log(prior).astype(np.float32))

    def closure():
        optimiser.zero_grad()
        loss = sum(
            float(p)
            * classification_loss(
                logits,
                torch.tensor([label]),
                torch.tensor([label]),
                None,
                weights=torch.ones(2),
                offsets=offsets,
                smoothing=0.0,
            )
            for label, p in enumerate(posterior)
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    found = logits.detach()[0]
    expected = np.log(posterior / prior)
    assert float(found[1] - found[0]) == pytest.approx(expected[1] - expected[0], abs=1e-3)


def coded(n=16, height=6, width=8):
    """Images that are their own number everywhere, so that what came from where can be seen."""
    return torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 2, height, width).clone()


def test_mixup_blends_images_by_the_share_of_their_labels():
    images = coded()
    shares = []
    for seed in range(200):
        mixed, partner, share = mix(images, "mixup", np.random.default_rng(seed))
        number = torch.arange(16)
        expected = share * number + (1 - share) * partner
        assert torch.allclose(mixed, expected[:, None, None, None].expand_as(mixed), atol=1e-4)
        assert sorted(partner.tolist()) == list(range(16))
        shares.append(share)
    # Beta(0.2, 0.2): mean a half, variance 1 / (4 (2 * 0.2 + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / 5.6, abs=0.03)


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    images = coded()
    mixed_some = 0
    for seed in range(200):
        mixed, partner, share = mix(images, "cutmix", np.random.default_rng(seed))
        is_own = mixed == images
        is_partner = mixed == images[partner]
        assert (is_own | is_partner).all()
        moved = partner != torch.arange(16)
        assert is_own[moved].float().mean((1, 2, 3)).tolist() == pytest.approx([share] * int(moved.sum()))
        rows, columns = torch.nonzero(~is_own[moved][0, 0], as_tuple=True) if share < 1 else ([], [])
        if len(rows):
            mixed_some += 1
            assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    assert mixed_some / 200 == pytest.approx(CUTMIX_PROBABILITY, abs=0.12)


def test_nothing_is_mixed_where_the_recipe_says_so():
    images = coded()
    mixed, _, share = mix(images, "none", np.random.default_rng(0))
    assert share == 1
    assert torch.equal(mixed, images)


def dataset(counts, *, overlap=False, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 120, (len(ids), 8, 8, 1), np.uint8)
    if overlap:
        images = images[np.arange(len(ids)) % 10]
    else:
        images[:, :, :, 0] += (ids * 100).astype(np.uint8)[:, None, None]
    return LabelledImages(images, pd.DataFrame({"class_id": ids}), tuple("ab"[: len(counts)]))


def test_batches_follow_the_late_draws_from_their_step_on():
    train, synthetic = dataset([30, 6]), dataset([0, 40], seed=7)
    known = {image.tobytes() for image in synthetic.images}
    recipe = make_arm("oversampling+synthetic first").recipe(train, synthetic, [1])
    seen = [
        np.mean([image.tobytes() in known for image in images])
        for images, _ in batches(recipe, 32, 30, seed=0)
    ]
    assert len(seen) == 30
    assert np.mean(seen[:15]) == pytest.approx(0.5 * 24 / 30, abs=0.05)
    assert max(seen[15:]) == 0


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("class weights", 0.1),
        ("logit adjustment", 0.1),
        ("effective number", 0.1),
        ("deferred re-weighting", 0.01),  # its steps are the last, when the learning rate is low
    ],
)
def test_each_correction_moves_a_classifier_towards_the_rare_class(name, gain):
    """The same images under both labels, one 9 times as often: only the correction can name the rare one."""
    train = dataset([90, 10], overlap=True)
    plain, corrected = (
        predict_proba(fit(make_arm(one).recipe(train), 2, seed=0, steps=40), train.images)[:, 1].mean()
        for one in ("real", name)
    )
    assert plain < 0.3
    assert corrected > plain + gain
