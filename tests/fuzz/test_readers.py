"""A short, always equal slice of the fuzzing that `.ci/fuzz` does for hours, and everything that it ever found."""

from pathlib import Path
from random import Random

import pytest
from fuzz import targets

FOUND = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*") if path.is_file())
SLOW = {"production", "resume", "run-folder", "classifier-weights"}

pytestmark = [
    # What damaged files make other libraries warn of is not at issue here.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("name", targets.TARGETS)
def test_an_undamaged_file_is_read(name, tmp_path):
    for case in targets.cases(name):
        targets.run(name, case, targets.emptied(tmp_path / "case"), may_refuse=False)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_damaged_file_is_read_or_refused_on_purpose(name, tmp_path):
    undamaged = targets.cases(name)
    for number in range(40 if name in SLOW else 200):
        case = targets.damaged(undamaged[number % len(undamaged)], Random(number))
        targets.run(name, case, targets.emptied(tmp_path / "case"))


@pytest.mark.parametrize("file", FOUND, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_fuzzing_found_stays_mended(file, tmp_path):
    _, _, name = file.name.partition("@")
    number = list(targets.well_formed(file.parent.name)).index(name.replace("+", "/"))
    targets.run(file.parent.name, bytes([number]) + file.read_bytes(), tmp_path)
