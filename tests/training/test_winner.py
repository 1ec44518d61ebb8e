"""The recipe that leaves: its README's lines are run, in a process without ganaug, and draw what was measured."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ganaug.arms import make_arm
from ganaug.dataset import LabelledImages
from ganaug.training.batches import pipeline_of
from ganaug.training.winner import winner_of, write_winner
from ganaug.verdict import Verdict

COUNTS, MADE = (30, 12, 5), (0, 0, 40)
VERDICT = Verdict("cannot tell", "These data cannot tell.", "oversampling")
ARMS = [
    "real",
    "oversampling+albumentations",
    "smote+light albumentations",
    "deferred re-weighting+mixup",
    "logit adjustment+cutmix",
    "oversampling+albumentations+synthetic",
    "oversampling+synthetic only",
    "oversampling+albumentations+mixup+synthetic first",
]


def labelled(counts, chosen, **columns):
    ids = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(chosen).integers(0, 256, (len(ids), 8, 10, 3), np.uint8)
    index = pd.DataFrame({"class_id": ids, **{name: column(len(ids)) for name, column in columns.items()}})
    return LabelledImages(images, index, ("mole", "nævus", "3"))


TRAIN = labelled(COUNTS, 0, path=lambda n: [f"photos/{k}.png" for k in range(n)])
SYNTHETIC = labelled(
    MADE, 1, model_sha256=lambda n: ["ab"] * n, seed=lambda n: [0] * n, index=lambda n: list(range(n))
)

CHECK = """
torch.manual_seed(0)
np.random.seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(len(recipe["class_names"])))
seen = []
for late in (False, True):
    for _ in range(3):
        for images, labels in loader(late):
            assert images.shape[1:] == (3, 8, 10) and images.abs().max() <= 1
            value = training_loss(model, images, labels, late)
            value.backward()
            assert torch.isfinite(value)
rows = [row for late in (False, True) for _ in range(60) for row in loader(late).sampler]
from_torch = [np.bincount(rows[: len(rows) // 2], minlength=len(manifest)).tolist(),
              np.bincount(rows[len(rows) // 2 :], minlength=len(manifest)).tolist()]
logits = torch.tensor([[1.0, -0.5, 0.25], [0.0, 2.0, 1.0]])
losses = [float(loss(logits, torch.tensor([0, 2]), late)) for late in (False, True)]
print(json.dumps({"draws": from_torch, "losses": losses}))
"""


def leave(folder, name):
    arm = make_arm(name)
    recipe = arm.recipe(TRAIN, SYNTHETIC, [2], synthetic_share=0.4)
    write_winner(folder, arm, recipe, TRAIN, SYNTHETIC, steps=40, verdict=VERDICT)
    return recipe


def run_snippet(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    (folder / "snippet.py").write_text(snippet + CHECK, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::UserWarning:torch", "snippet.py"],
        cwd=folder,
        env={**environment, "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ARMS)
def test_the_readme_s_lines_load_it_and_draw_what_the_arena_drew(name, tmp_path):
    recipe = leave(tmp_path, name)
    found = run_snippet(tmp_path)
    late = recipe.draw_probability if recipe.late is None else recipe.late.draw_probability
    for counts, probability in zip(found["draws"], (recipe.draw_probability, late), strict=True):
        kept = probability[(recipe.draw_probability > 0) | (late > 0)]
        share = np.array(counts) / sum(counts)
        assert np.abs(share - kept).sum() < 0.25  # the noise of 60 rounds
        assert (share[kept == 0] == 0).all()
    logits, labels = np.array([[1.0, -0.5, 0.25], [0.0, 2.0, 1.0]]), np.array([0, 2])
    for value, step in zip(found["losses"], (0, 39), strict=True):
        scores = logits + recipe.logit_offsets
        log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        target = np.full((2, 3), recipe.label_smoothing / 3)
        target[[0, 1], labels] += 1 - recipe.label_smoothing
        weights = recipe.loss_weights_at(step, 40)[labels]
        assert value == pytest.approx(-(weights[:, None] * target * log_p).sum(1).mean(), rel=1e-5)


def test_the_readme_s_lines_decide_as_the_moved_classifier_did(tmp_path):
    arm = make_arm("oversampling+thresholds on folds")
    recipe = replace(arm.recipe(TRAIN), decision_offsets=np.array([0, 0.5, 2], np.float32))
    write_winner(tmp_path, arm, recipe, TRAIN, SYNTHETIC, steps=40, verdict=VERDICT)
    load, decide = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    names = {}
    with contextlib.chdir(tmp_path):
        exec(load + decide, names)
    logits = torch.tensor([[1.5, 0.0, 0.0], [2.5, 0.0, 0.0], [0.0, 0.0, -1.75]])
    assert names["decide"](lambda images: images, logits).tolist() == [2, 0, 1]
    assert "decide" not in readme_of("oversampling", tmp_path / "plain")


def readme_of(name, folder):
    leave(folder, name)
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ARMS)
def test_the_manifest_has_every_image_that_is_drawn_with_its_origin(name, tmp_path):
    recipe = leave(tmp_path, name)
    manifest = pd.read_parquet(tmp_path / "manifest.parquet")
    pixels = np.load(tmp_path / "images.npy")
    assert len(manifest) == len(pixels) == json.loads((tmp_path / "recipe.json").read_text())["images"]
    assert manifest["draw_weight"].sum() == pytest.approx(1)
    real = manifest[manifest["origin"] == "real"]
    known = dict(zip(TRAIN.index["path"], TRAIN.images, strict=True))
    assert all(
        np.array_equal(known[path], pixels[row]) for path, row in zip(real["path"], real["row"], strict=True)
    )
    made = manifest[manifest["is_synthetic"]]
    assert len(made) == (40 if recipe.has_synthetic(len(TRAIN)) else 0)
    assert (made["origin"] == "synthetic").all()
    assert set(made["class_name"]) <= {"3"}
    assert not made["is_augmented"].any()
    for index, row in zip(made.get("index", []), made["row"], strict=True):
        assert np.array_equal(SYNTHETIC.images[int(index)], pixels[row])
    assert (manifest["origin"] == "computed").sum() == (18 + 25 if "smote" in name else 0)


def test_synthetic_only_keeps_no_real_image_of_the_wanted_class(tmp_path):
    leave(tmp_path, "oversampling+synthetic only")
    manifest = pd.read_parquet(tmp_path / "manifest.parquet")
    assert set(manifest.loc[manifest["class_name"] == "3", "origin"]) == {"synthetic"}


def test_the_pipeline_that_leaves_does_what_the_measured_one_does(tmp_path):
    import albumentations

    recipe = leave(tmp_path, "oversampling+albumentations")
    loaded = albumentations.load(tmp_path / "albumentations.yaml", data_format="yaml")
    measured = pipeline_of(recipe, seed=0)
    for pipeline in (loaded, measured):
        pipeline.set_random_seed(5)
    pairs = [(loaded(image=image)["image"], measured(image=image)["image"]) for image in TRAIN.images[:20]]
    assert all(np.array_equal(first, second) for first, second in pairs)
    assert not np.array_equal(pairs[0][0], TRAIN.images[0])


def test_no_pipeline_of_an_earlier_winner_stays(tmp_path):
    leave(tmp_path, "oversampling+albumentations")
    leave(tmp_path, "real")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("manifest.parquet", "images.npy", "recipe.json", "README.md")
    }


@pytest.mark.parametrize(
    ("verdict", "winner"),
    [("helps", "ours"), ("no difference", "cheap"), ("hurts", "cheap"), ("cannot tell", "cheap")],
)
def test_synthetic_images_win_only_where_they_help(verdict, winner):
    assert winner_of(Verdict(verdict, "", "cheap", "ours")) == winner


def test_the_arena_leaves_the_winner(tmp_path):
    from ganaug.config import EvaluateConfig
    from ganaug.training.arena import run_arena

    config = EvaluateConfig(arms=("real", "oversampling+light albumentations"), seeds=2, steps=4, workers=1)
    found = run_arena(TRAIN, TRAIN.take(np.arange(0)), TRAIN, [2], config, Path(tmp_path))
    tree = json.loads((tmp_path / "recipe" / "recipe.json").read_text())
    assert tree["arm"] == found.verdict.before
    assert tree["steps"] == 4
