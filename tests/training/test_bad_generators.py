"""The gate does no harm: what a bad generator makes is refused, with the screen and without it.

Real digits, three classes of five training images each, real classifiers. What an ideal generator
would make (real images that were cut from training) passes the same gate, so that it is not shut.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from support.digits import RARE, as_synthetic, rare_digits

from ganaug.config import EvaluateConfig, ExportConfig, ScreenConfig
from ganaug.publish import publish_model
from ganaug.refusal import Checked, label_rates, refuse_mislabelled
from ganaug.screen import Screener, fit_screener, screen_class
from ganaug.store import list_models
from ganaug.training.arena import run_arena
from ganaug.training.classifier import train_classifiers
from ganaug.training.export import export_classifiers

pytestmark = pytest.mark.slow

TRAIN, TEST, CUT = rare_digits()
CHEAP, OURS = "oversampling+albumentations", "oversampling+albumentations+synthetic"
CONFIG = EvaluateConfig(arms=(CHEAP, OURS), seeds=3, steps=150, workers=2)
EACH = 120
LOOKS_LIKE = {3: 9, 5: 6, 8: 1}


def train_images(class_id):
    return TRAIN.images[TRAIN.class_ids == class_id]


def noise(class_id, rng):
    return rng.integers(0, 256, (EACH, 8, 8, 1)).astype(np.uint8)


def wrong_label(class_id, rng):
    """Digits of another class, each a little other than the real one."""
    real = train_images(LOOKS_LIKE[class_id])
    chosen = real[rng.integers(0, len(real), EACH)]
    return np.clip(chosen + rng.normal(0, 20, chosen.shape), 0, 255).astype(np.uint8)


def one_image(class_id, rng):
    """All modes collapsed into the mean of the real images."""
    return np.repeat(train_images(class_id).mean(axis=0, keepdims=True).astype(np.uint8), EACH, axis=0)


def copies(class_id, rng):
    real = train_images(class_id)
    return real[rng.integers(0, len(real), EACH)]


BAD = {"noise": noise, "wrong labels": wrong_label, "one image": one_image, "copies of real images": copies}


def made_by(generator):
    rng = np.random.default_rng(0)
    images = [generator(class_id, rng) for class_id in RARE]
    return as_synthetic(np.concatenate(images), np.repeat(RARE, EACH))


@pytest.fixture(scope="module")
def cheap_fits(tmp_path_factory):
    """The fits of the arm without synthetic images, which all comparisons share."""
    folder = tmp_path_factory.mktemp("cheap")
    run_arena(TRAIN, CUT.take(np.arange(0)), TEST, RARE, CONFIG, folder)
    return folder / "fits"


@pytest.fixture(scope="module")
def screener(tmp_path_factory):
    """The real screener of these digits: real classifiers, thresholds measured on folds."""
    folder = tmp_path_factory.mktemp("screener")
    train_classifiers(TRAIN, 2, folder / "train", seed=0, folds=2, steps=250)
    export_classifiers(folder / "train", folder / "export", ExportConfig())
    graphs, folds = sorted(folder.glob("export/*.onnx")), sorted(folder.glob("train/fold-*.npz"))
    fit_screener(TRAIN, graphs, folds, ScreenConfig(), folder / "screener")
    return Screener.open(folder / "screener")


@pytest.fixture
def gate(tmp_path, cheap_fits, write_model):
    """Compares arms with these synthetic images, and asks the gate: verdict, publication, recipe."""

    def call(synthetic, checked=None):
        shutil.copytree(cheap_fits, tmp_path / "fits")
        verdict = run_arena(TRAIN, synthetic, TEST, RARE, CONFIG, tmp_path, checked=checked).verdict
        write_model(tmp_path / "export")
        stored = json.loads((tmp_path / "verdict.json").read_text())
        published = publish_model([tmp_path / "export"], stored, tmp_path / "store", "digits", tmp_path)
        recipe = json.loads((tmp_path / "recipe" / "recipe.json").read_text())
        manifest = pd.read_parquet(tmp_path / "recipe" / "manifest.parquet")
        return verdict, published, recipe["arm"], bool(manifest["is_synthetic"].any())

    call.store = tmp_path / "store"
    return call


def screened(screener, synthetic, folder):
    """What the real screen keeps, and what is known of each class's labels."""
    kept, reasons = [], {}
    for class_id in RARE:
        own = synthetic.images[synthetic.class_ids == class_id]
        manifest = pd.DataFrame({"class_id": np.full(len(own), class_id)})
        screen_class([own], manifest, screener.for_class(class_id), folder / str(class_id))
        reasons[class_id] = pd.read_parquet(folder / str(class_id) / "screened.parquet")["reason"]
        kept.append(as_synthetic(np.load(folder / str(class_id) / "kept.npy"), class_id))
    everything = as_synthetic(
        np.concatenate([part.images for part in kept]), np.concatenate([part.class_ids for part in kept])
    )
    return refuse_mislabelled(
        everything, label_rates(reasons, TRAIN.class_names, EvaluateConfig().min_right_label)
    )


def assert_refused(gate, synthetic, checked: Checked | None = None):
    verdict, published, arm, has_synthetic = gate(synthetic, checked)
    assert verdict.verdict != "helps", verdict.sentence
    assert not published["published"]
    assert list_models(gate.store) == []
    assert (arm, has_synthetic) == (CHEAP, False)
    return verdict


@pytest.mark.parametrize("generator", BAD.values(), ids=BAD.keys())
def test_with_the_screen_a_bad_generator_is_refused(generator, gate, screener, tmp_path):
    synthetic, checked = screened(screener, made_by(generator), tmp_path / "screen")
    # Of one image over and over the first may pass: it is no copy of itself.
    assert len(synthetic) <= len(RARE)
    verdict = assert_refused(gate, synthetic, checked)
    if not len(synthetic):
        assert (verdict.verdict, verdict.after) == ("cannot tell", "")
        assert checked.nothing in verdict.sentence


def test_images_of_other_classes_are_refused_before_the_arena(gate, screener, tmp_path):
    synthetic, checked = screened(screener, made_by(wrong_label), tmp_path / "screen")
    assert all(rate.is_refused for rate in checked.label_rates)
    verdict = assert_refused(gate, synthetic, checked)
    assert "the generator was refused before the arena" in verdict.sentence
    stored = json.loads((tmp_path / "verdict.json").read_text())
    assert [rate["class_name"] for rate in stored["label_rates"]] == ["3", "5", "8"]
    assert set(pd.read_parquet(tmp_path / "scores.parquet")["arm"]) == {CHEAP}


@pytest.mark.parametrize("generator", BAD.values(), ids=BAD.keys())
def test_with_the_screen_bypassed_the_arena_refuses_a_bad_generator(generator, gate):
    assert assert_refused(gate, made_by(generator)).after == OURS


def test_what_an_ideal_generator_makes_passes(gate):
    verdict, published, arm, has_synthetic = gate(CUT)
    assert verdict.verdict == "helps", verdict.sentence
    assert published["published"]
    assert (arm, has_synthetic) == (OURS, True)
