"""A series of runs on data that grow: each goes on from the one before it.

The folder of a series holds run folders `0001`, `0002`, … A run is finished when it has
`outcome.json`. `begin` finds what is to be done: nothing, going on with a run that was killed, doing
later steps of the last one again, or a new run.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from ganaug import refresh
from ganaug.config import Config
from ganaug.errors import RunFolderError
from ganaug.run import RUN_FILE, RunFolder, is_current, write_atomically, writing
from ganaug.steps import STEPS, check_settings, parts, run_name

OUTCOME_FILE = "outcome.json"
SAME_FILE = "same.json"
_GONE = ".gone-"
_STAYS = {"report", "refresh", OUTCOME_FILE, RUN_FILE, "config.yaml", "evaluate", "publish", "plan"}
"""What stays of a run whose turn to shrink has come; of `evaluate` and the like these are small files."""


@dataclass(frozen=True)
class Begun:
    """What a refresh has to do.

    Attributes:
        run: The run folder; None in a dry run where it would be a new one.
        reason: What there is to do, or why there is nothing, in a sentence.
        is_done: Whether there is nothing to do.
    """

    run: RunFolder | None
    reason: str
    is_done: bool = False


@dataclass(frozen=True)
class Ended:
    """A finished run of a series, as `outcome.json` has it."""

    number: int
    ended: str
    kind: str
    reason: str
    warm: tuple[str, ...]
    kept: tuple[str, ...]
    verdict: str
    version: int | None


_ENDED, _SAME = TypeAdapter(Ended), TypeAdapter(dict[str, int])


def series_dir(config: Config) -> Path:
    """The folder of the series: `run_dir` where it is set, else `runs/<name>-series`."""
    return config.run_dir or Path("runs") / f"{run_name(config)}-series"


def begin(config: Config, asked: Collection[str] = (), *, dry_run: bool = False) -> Begun:
    """Find out what is to be done on the data as they are now, and open the run for it.

    Args:
        config: All settings; `run_dir` is the folder of the series.
        asked: Classes whose GANs are to be trained on, whether or not anything changed.
        dry_run: Look only.

    Raises:
        PathNotFoundError: The dataset does not exist.
        RunFolderError: The folder is something else than a series, or damaged.
    """
    from ganaug.readers import fingerprint

    check_settings(config)
    folder, now = series_dir(config), fingerprint(config.data)
    if (folder / RUN_FILE).is_file():
        raise RunFolderError(
            f"{folder} is a single run, not a series of runs: choose a folder for the series with --run-dir"
        )
    if not dry_run:
        _sweep(folder)
    numbers = _numbers(folder)
    finished = [number for number in numbers if (run_folder(folder, number) / OUTCOME_FILE).is_file()]
    last = RunFolder.open(run_folder(folder, finished[-1])) if finished else None
    if numbers and (not finished or numbers[-1] > finished[-1]):
        number = numbers[-1]
        killed = _opened(run_folder(folder, number))
        if killed is not None and killed.fingerprint == now and set(refresh.asked_of(killed)) == set(asked):
            return Begun(
                None if dry_run else _open(config, folder, number, now, last, asked),
                f"run {number} goes on, which was stopped",
            )
        if not dry_run:
            # The data moved on while it lay there: the weights to go on from are the last finished run's.
            _remove(run_folder(folder, number))
        numbers = numbers[:-1]
    if last is not None and not asked and _same(folder, finished[-1], now, last.fingerprint):
        stale = _stale(RunFolder(last.folder, _config_of(config, last.folder), last.fingerprint))
        if not stale:
            return Begun(last, f"nothing changed since run {finished[-1]}", is_done=True)
        if not stale & {"split", "train"}:
            reason = f"settings or code changed: {', '.join(s for s in STEPS if s in stale)} of run {finished[-1]} again"
            if dry_run:
                return Begun(None, reason)
            return Begun(
                RunFolder.create(last.folder, _config_of(config, last.folder), last.fingerprint), reason
            )
        reason = f"settings or code of {' and '.join(sorted(stale & {'split', 'train'}))} changed"
    else:
        reason = f"asked for: {', '.join(sorted(asked))}" if asked else "the data changed"
    number = (numbers[-1] if numbers else 0) + 1
    reason = f"{'first run' if last is None else reason}: run {number}"
    return Begun(None if dry_run else _open(config, folder, number, now, last, asked), reason)


def drop_unchanged(config: Config, run: RunFolder) -> Begun | None:
    """After the decision that nothing changed: forget the new run, where the files' dates alone had moved.

    Returns:
        What is left to do in the last run instead; None when this run has to go on, because settings or
        code are others.
    """
    last = RunFolder.open(_existing(refresh.last_of(run)))
    folder = series_dir(config)
    if _stale(RunFolder(last.folder, _config_of(config, last.folder), last.fingerprint)) & {"split", "train"}:
        return None
    known = _same_fingerprints(folder)
    number = int(last.folder.name)
    known[run.fingerprint] = number
    write_atomically(folder / SAME_FILE, _SAME.dump_json(known, indent=2).decode())
    _remove(run.folder)
    return begin(config)


def end(run: RunFolder, config: Config, result: Mapping[str, Any]) -> None:
    """Mark a run of a series finished, and shrink those whose turn has come.

    Args:
        run: The run.
        config: The settings.
        result: The summaries of `evaluate` and `publish`.
    """
    decision = refresh.load(run)
    assert decision is not None
    outcome = Ended(
        number=int(run.folder.name),
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=decision.kind,
        reason=decision.reason,
        warm=decision.warm,
        kept=decision.kept,
        verdict=result["evaluate"]["verdict"],
        version=result["publish"]["version"],
    )
    write_atomically(run.folder / OUTCOME_FILE, _ENDED.dump_json(outcome, indent=2).decode())
    folder = run.folder.parent
    for number in _numbers(folder)[: -config.refresh.keep_runs]:
        for path in run_folder(folder, number).iterdir():
            if path.name not in _STAYS:
                _remove(path)


def history(folder: Path) -> list[Ended]:
    """The finished runs of a series, oldest first.

    Raises:
        RunFolderError: An outcome is damaged.
    """
    found = []
    for number in _numbers(folder):
        path = run_folder(folder, number) / OUTCOME_FILE
        try:
            found.append(_ENDED.validate_json(path.read_bytes()))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise RunFolderError(
                f"{path} is damaged ({error}); delete it to have the run done again"
            ) from error
    return found


@contextlib.contextmanager
def locked(config: Config, wait_s: float = 0) -> Iterator[None]:
    """Keep other processes out of a series while the block runs.

    Args:
        config: The settings.
        wait_s: How long to wait for another process to leave it.

    Raises:
        RunFolderError: Another process is at work in it.
    """
    folder = series_dir(config)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=wait_s, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunFolderError(f"another ganaug process is working in {folder}; wait for it") from error
    try:
        yield
    finally:
        lock.release()


def _open(
    config: Config,
    folder: Path,
    number: int,
    fingerprint: str,
    last: RunFolder | None,
    asked: Collection[str],
) -> RunFolder:
    where = run_folder(folder, number)
    run = RunFolder.create(where, _config_of(config, where), fingerprint)
    refresh.go_on_from(run, last, asked)
    return run


def _opened(folder: Path) -> RunFolder | None:
    """A run folder that a kill may have left at any moment; None when it is not yet one."""
    try:
        return RunFolder.open(folder)
    except RunFolderError:
        return None


def _stale(run: RunFolder) -> set[str]:
    """Steps of a finished run that would be done again."""
    found = set()
    for name, step in STEPS.items():
        if any(not is_current(run, step, part) for part in parts(run, name)):
            found.add(name)
    return found


def _config_of(config: Config, folder: Path) -> Config:
    return config.model_copy(update={"run_dir": folder})


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch(r"\d{4,}", path.name))


def run_folder(folder: Path, number: int) -> Path:
    """The folder of one run of a series."""
    return folder / f"{number:04d}"


def _same(folder: Path, number: int, now: str, own: str) -> bool:
    return now == own or _same_fingerprints(folder).get(now) == number


def _same_fingerprints(folder: Path) -> dict[str, int]:
    """Fingerprints of data that turned out to be those of a run."""
    try:
        return _SAME.validate_json((folder / SAME_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        # Told again when the images are read.
        return {}


def _existing(path: Path | None) -> Path:
    assert path is not None
    return path.resolve()


def _remove(path: Path) -> None:
    """Remove so that nobody takes what is left after a kill for a whole."""
    gone = path.with_name(f"{_GONE}{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()


def _sweep(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.glob(f"{_GONE}*"):
            shutil.rmtree(path, ignore_errors=True)
