"""Productions of tiny models, in one given way that nobody measures first."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.productions import with_small_screener

from ganaug.produce import calibrate


@pytest.fixture(autouse=True)
def _measures_nothing(monkeypatch):
    """One batch is enough of a trial: the tests say themselves how the runtime is called."""
    monkeypatch.setattr(calibrate, "TRY_S", 0.0)


@pytest.fixture(params=["tiny_model", "tiny_pair_model"])
def model(request) -> Path:
    """Both kinds of generator keep the same promises."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder for the images, not there yet."""
    return tmp_path / "out"


@pytest.fixture
def small_screener(monkeypatch) -> None:
    """Whatever screener the settings name, it is a small one that remembers what it kept."""
    with_small_screener(monkeypatch)
