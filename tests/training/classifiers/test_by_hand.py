"""`evaluate.classifier` as a user has it: the README's lines, and the command line on a run that is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.digits import digits

from ganaug import steps
from ganaug.config import EvaluateConfig, load
from ganaug.run import RunFolder, is_current
from ganaug.training.arena import run_arena

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("### Your classifier") : README.index("## What it found so far")]
SNIPPETS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The README's modules, and its program."""
    network, pipeline, program = SNIPPETS
    (tmp_path / "my_models.py").write_text(network + pipeline)
    (tmp_path / "my_train.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_models", None)


@pytest.mark.parametrize("kind", ["network", "pipeline", "program"])
def test_the_readme_s_lines_are_classifiers(kind, code):
    command = f"command: {sys.executable} {code / 'my_train.py'} {{folder}} {{predictions}} {{seed}}"
    name = command if kind == "program" else f"my_models:{kind}"
    data = digits(50)
    rows = np.random.default_rng(0).permutation(len(data))
    train, test = data.take(rows[:100]), data.take(rows[100:])
    arm = "oversampling" if kind == "program" else "oversampling+light albumentations"
    config = EvaluateConfig(classifier=name, arms=(arm,), seeds=2, steps=60, workers=2)
    found = run_arena(train, data.take(np.arange(0)), test, [2], config, code / "run")
    assert found.scores["macro_f1"].min() > 0.8


SMALL = {
    "name": "hand",
    "split.keep": {"3": 5},
    "split.near-duplicates": False,
    "plan.target": 30,
    "train.steps": 10,
    "train.class-steps": 5,
    "screen.classifiers": 1,
    "screen.folds": 2,
    "screen.steps": 150,
    "evaluate.seeds": 2,
    "evaluate.steps": 60,
    "evaluate.workers": 2,
}


@pytest.mark.slow
def test_evaluate_on_a_run_that_is_there_takes_a_user_s_function_and_notices_its_change(code, tmp_path):
    folder = tmp_path / "run"
    run = steps.open_run(load(None, {**SMALL, "run_dir": str(folder)}))
    for step in ("split", "plan", "train", "export", "produce", "screen"):
        steps.do(run, step)

    def evaluate(*words):
        return subprocess.run(
            [sys.executable, "-m", "ganaug.cli", "evaluate", "--run-dir", str(folder), *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(code), *sys.path]), "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )

    refused = evaluate("--evaluate.classifier", "my_models:missing")
    assert refused.returncode == 1
    assert "evaluate.classifier: 'my_models:missing'" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    done = evaluate("--evaluate.classifier", "my_models:pipeline")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((folder / "evaluate/verdict.json").read_text())
    assert any("'my_models:pipeline'" in note for note in verdict["notes"])
    assert "oversampling+albumentations" in verdict["before"] or verdict["before"] == "real"
    run = RunFolder.open(folder)
    assert run.config.evaluate.classifier == "my_models:pipeline"
    assert is_current(run, steps.STEPS["evaluate"])
    (code / "my_models.py").write_text((code / "my_models.py").read_text() + "\n")
    assert not is_current(run, steps.STEPS["evaluate"])
