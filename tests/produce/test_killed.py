"""Killed at any moment and called again, a production ends with the bytes that it would have had anyway."""

import json
import subprocess
import sys

import pytest
from support import killed
from support.productions import SCREENER, order, tree

from ganaug.produce import produce

COUNTS = {"npz": 300, "parquet": 300, "folder": 60}


@pytest.mark.parametrize("how", ["all", "screened", "until kept"])
@pytest.mark.parametrize("name", COUNTS)
def test_killed_again_and_again_it_ends_with_the_same_bytes(tiny_model, tmp_path, small_screener, name, how):
    settings = {"model": str(tiny_model), "format": name, "count": COUNTS[name]}
    if how != "all":
        settings |= {"screener": str(SCREENER), "parts": 2}
    if how == "until kept":
        settings |= {"until_kept": True, "count": 25}
    words = [name, json.dumps({**settings, "out": str(tmp_path / "killed")})]
    if how != "all":
        words.append("screened")
    done = subprocess.run(
        [sys.executable, killed.__file__, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
    produce(order(**settings, out=tmp_path / "calm"))
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")
