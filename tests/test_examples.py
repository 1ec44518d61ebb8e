import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_imbalanced_learn_example():
    done = subprocess.run(
        [sys.executable, "examples/imbalanced_learn.py", "--splits", "1", "--steps", "100"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("Recall of (3, 5, 8) in held-out real images")[2]
    rows = dict(re.findall(r"^(\w[\w, ]*?) +((?:[\d.]+ *){4})$", table, flags=re.MULTILINE))
    assert list(rows) == [
        "nothing",
        "RandomOverSampler",
        "SMOTE",
        "GanOverSampler",
        "GanOverSampler, rows",
    ]
    recall = {name: float(numbers.split()[0]) for name, numbers in rows.items()}
    assert all(0 <= share <= 100 for share in recall.values())
    # Without more of the rare digits the classifier hardly finds them: the samplers have something to do.
    assert min(recall, key=recall.get) == "nothing"
    trained = re.findall(r"(Gan.*) trained (\d+) steps on (\d+) real images, (\d+) of them", done.stdout)
    assert trained == [("GanOverSampler", "100", "644", "5"), ("GanOverSampler, rows", "300", "644", "5")]
