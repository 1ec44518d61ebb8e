"""The run folder: a folder per step, written beside and renamed, and skipped when nothing changed.

A step is done when its folder holds `step.json`; the key in it is a hash of the step's
settings, of what it read and of the code that made it. A step that was killed leaves
`<step>.partial`, which the next run with the same key goes on from.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

import ganaug
from ganaug.config import Config, describe, load_whole
from ganaug.errors import GanaugError, MissingStepError, OutputError, RunFolderError
from ganaug.progress import Progress, silent

FORMAT = 1
RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
STEP_FILE = "step.json"
KEY_FILE = "key"
LOCKS = ".locks"
PATIENCE_S = 600.0
"""How long a part waits for another process that writes it; a dead node's lock ends with its lease."""

StepFunction = Callable[["Job"], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One step of the main job.

    Attributes:
        name: The one word for it: verb, folder, settings section and heading.
        work: Does it; gets a `Job`, returns a small summary.
        code: Modules whose change, or that of what they import, makes results stale.
        reads: Tells, for a run and a part, the steps (or `step/part`) whose results it reads.
        settings: Sections, top-level fields, and fields of sections (`screen.folds`) that matter to it.
        more: What else makes the results of a part stale, such as code of the user's; None where nothing does.
    """

    name: str
    work: StepFunction
    code: tuple[str, ...]
    reads: Callable[[RunFolder, str], Sequence[str]]
    settings: tuple[str, ...]
    more: Callable[[RunFolder, str], Any] | None = None


@dataclass(frozen=True)
class Job:
    """One call of a step: where it reads, where it writes and how it tells its progress."""

    run: RunFolder
    out: Path
    part: str
    progress: Progress


@dataclass(frozen=True)
class StepRecord:
    """What `step.json` says of a finished step."""

    step: str
    part: str
    key: str
    outputs: dict[str, dict[str, Any]]
    seconds: float
    peak_rss_bytes: int
    summary: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    ganaug: str = ""
    node: str = ""

    @property
    def digest(self) -> str:
        """One hash for everything the step left."""
        return _sha256_json({name: output["sha256"] for name, output in self.outputs.items()})


_RECORD = TypeAdapter(StepRecord)


@dataclass(frozen=True)
class Outcome:
    """A step that is done, and whether that was so before."""

    folder: Path
    record: StepRecord
    was_done: bool


class RunFolder:
    """A run on disk: its settings and the folders of its steps."""

    def __init__(self, folder: Path, config: Config, fingerprint: str) -> None:
        self.folder, self.config, self.fingerprint = folder, config, fingerprint

    @classmethod
    def create(cls, folder: Path, config: Config, fingerprint: str) -> RunFolder:
        """Begin a run, or go on with one of the same dataset; the settings may have changed.

        Raises:
            RunFolderError: The folder belongs to another dataset or format version, or is
                not a run folder at all.
            OutputError: The folder cannot be written.
        """
        with writing(folder):
            known = cls.find(folder, config, fingerprint)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / CONFIG_FILE, describe(config))
            if known is None:
                identity = {"format": FORMAT, "dataset": _dataset(config), "fingerprint": fingerprint}
                write_atomically(folder / RUN_FILE, json.dumps(identity, indent=2))
        return cls(folder, config, fingerprint)

    @classmethod
    def find(cls, folder: Path, config: Config, fingerprint: str) -> RunFolder | None:
        """The run that `create` would go on with, or None where it would begin one; writes nothing.

        Raises:
            RunFolderError: As of `create`.
        """
        known = _read_identity(folder)
        if known is None:
            if folder.is_dir() and any(entry.name != ".lock" for entry in folder.iterdir()):
                raise RunFolderError(
                    f"{folder} has files in it and is not a run folder; choose another with --run-dir"
                )
            return None
        if known["fingerprint"] != fingerprint:
            raise RunFolderError(
                f"{folder} is a run on {known['dataset']!r} as it was then; asked was {_dataset(config)!r} "
                "as it is now, which is another dataset. Give the new run a folder of its own "
                "(--run-dir runs/another), or delete the old one."
            )
        return cls(folder, config, fingerprint)

    @classmethod
    def open(cls, folder: Path) -> RunFolder:
        """Open a run that exists, with the settings that it was last given.

        Raises:
            RunFolderError: Not a run folder, or of another format version.
        """
        identity = _read_identity(folder)
        if identity is None:
            raise RunFolderError(
                f"{folder} is not a run folder (it has no {RUN_FILE}); `ganaug run` makes one"
            )
        try:
            config = load_whole(folder / CONFIG_FILE)
        except GanaugError as error:
            raise RunFolderError(
                f"{folder / CONFIG_FILE} cannot be used: {error}\nGive the settings again with `ganaug run`, or "
                "choose another folder with --run-dir."
            ) from error
        return cls(folder, config, identity["fingerprint"])

    def path(self, step: str, part: str = "") -> Path:
        """The folder of a step, or of one part of it."""
        return self.folder / step / part if part else self.folder / step

    def record(self, step: str, part: str = "") -> StepRecord | None:
        """What a finished step recorded, or nothing."""
        return _read_record(self.path(step, part))

    def done_path(self, step: str, part: str = "") -> Path:
        """The folder of a step that must be done.

        Raises:
            MissingStepError: It is not.
        """
        if self.record(step, part) is None:
            raise MissingStepError("this", step, self.folder)
        return self.path(step, part)

    def records(self) -> list[StepRecord]:
        """All finished steps and parts."""
        files = sorted(self.folder.glob(f"*/{STEP_FILE}")) + sorted(self.folder.glob(f"*/*/{STEP_FILE}"))
        found = (_read_record(file.parent) for file in files if ".partial" not in str(file))
        return [record for record in found if record is not None]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this run while the block runs.

        Raises:
            RunFolderError: Another process is at work in this run folder.
        """
        with writing(self.folder):
            lock = FileLock(self.folder / ".lock", timeout=0, thread_local=False)
            try:
                lock.acquire()
            except Timeout as error:
                raise RunFolderError(
                    f"another ganaug process is working in {self.folder}; wait for it, or use another --run-dir"
                ) from error
        try:
            yield
        finally:
            lock.release()


def perform(
    run: RunFolder, step: Step, part: str = "", progress: Progress = silent, *, node: str = ""
) -> Outcome:
    """Do one step, or one part of it, unless it is done with the same settings, inputs and code.

    Args:
        run: The run.
        step: The step.
        part: Its part, empty for a step that is done whole.
        progress: Told of the images done.
        node: Name of the machine that does it, for the record.

    Raises:
        MissingStepError: A step that it reads from is not done.
        OutputError: The disk is full or the folder cannot be written; or another process is at this
            part and does not end.
    """
    inputs = _inputs(run, step, part)
    key = _key(run, step, part, inputs)
    final = run.path(step.name, part)
    if (done := _if_done(final, key)) is not None:
        return Outcome(final, done, was_done=True)
    partial = final.with_name(final.name + ".partial")
    with writing(final), _alone(run, step.name, part):
        # Whoever was waited for may have done it.
        if (done := _if_done(final, key)) is not None:
            return Outcome(final, done, was_done=True)
        finished = _read_record(partial)
        if finished is None or finished.key != key:
            _prepare(partial, key)
            started = time.monotonic()
            summary = step.work(Job(run, partial, part, progress))
            (partial / KEY_FILE).unlink()
            finished = StepRecord(
                step=step.name,
                part=part,
                key=key,
                outputs=_outputs(partial),
                seconds=round(time.monotonic() - started, 3),
                peak_rss_bytes=peak_rss_bytes(),
                summary=summary,
                inputs=inputs,
                ganaug=ganaug.__version__,
                node=node,
            )
            write_atomically(partial / STEP_FILE, json.dumps(asdict(finished), indent=2, ensure_ascii=False))
        _put_in_place(partial, final)
    return Outcome(final, finished, was_done=False)


def is_current(run: RunFolder, step: Step, part: str = "") -> bool:
    """Whether `perform` would find this done (the files themselves are not hashed here)."""
    record = run.record(step.name, part)
    try:
        return record is not None and record.key == _key(run, step, part, _inputs(run, step, part))
    except MissingStepError:
        return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear error.

    Raises:
        OutputError: Full disk, exceeded quota, read-only or forbidden folder.
    """
    try:
        yield
    except GanaugError:
        raise
    except OSError as error:
        reason = _refusal(error)
        if reason is None:
            raise
        raise OutputError(
            f"cannot write to {path}: {reason}. Finished steps are kept: free the space or mend the "
            "permissions, or choose another place with --run-dir, and give the same command again."
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never half."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def peak_rss_bytes() -> int:
    """Largest resident memory that this process, or one of its ended children, has had."""
    try:
        import resource
    except ImportError:  # Windows has no such account.
        return 0
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(peak if sys.platform == "darwin" else peak * 1024)


_CHANGES_NO_RESULT = {"ganaug", "ganaug.config", "ganaug.errors", "ganaug.notebook", "ganaug.run"}
"""Settings count by value; the rest are the package's face, messages and what a notebook shows."""


_PARSING = threading.Lock()
"""Python's parser keeps one count of its depth for all threads, and fails where it is wrong (3.11)."""


@cache
def code_hash(module: str) -> str:
    """Hash of a ganaug module's source and of all ganaug modules that it imports."""
    package = Path(ganaug.__file__).parent
    pending, sources = [module], dict[str, str]()
    while pending:
        name = pending.pop()
        path = package.parent / Path(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in sources or name in _CHANGES_NO_RESULT or not file.is_file():
            continue
        sources[name] = source = file.read_text(encoding="utf-8")
        if path.is_dir():
            # Templates and styles that lie in a package are part of its code.
            for other in sorted(path.iterdir()):
                if other.suffix in {".j2", ".css"}:
                    sources[f"{name}/{other.name}"] = other.read_text(encoding="utf-8")
        with _PARSING:
            tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                pending += [alias.name for alias in node.names if alias.name.startswith("ganaug")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ganaug"):
                pending += [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
    return _sha256_json(sources)


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inputs(run: RunFolder, step: Step, part: str) -> dict[str, str]:
    references = step.reads(run, part)
    inputs = {}
    for reference in references:
        name, _, inner = reference.partition("/")
        record = run.record(name, inner)
        if record is None:
            raise MissingStepError(step.name, name, run.folder)
        inputs[reference] = record.digest
    return inputs or {"dataset": run.fingerprint}


def _key(run: RunFolder, step: Step, part: str, inputs: Mapping[str, str]) -> str:
    tree = run.config.model_dump(mode="json")
    more = step.more(run, part) if step.more is not None else None
    return _sha256_json(
        {
            **({} if more is None else {"more": more}),
            "step": step.name,
            "part": part,
            "settings": {name: _setting(tree, name) for name in step.settings},
            "inputs": inputs,
            "code": [code_hash(module) for module in step.code],
        }
    )


def _setting(tree: Any, name: str) -> Any:
    """A section, a top-level field, or a field of a section (`screen.folds`)."""
    for part in name.split("."):
        tree = tree[part]
    return tree


def _if_done(final: Path, key: str) -> StepRecord | None:
    done = _read_record(final)
    return done if done is not None and done.key == key and _is_intact(final, done) else None


@contextlib.contextmanager
def _alone(run: RunFolder, step: str, part: str) -> Iterator[None]:
    """Let one process at a time write a part: a task that a cluster took for lost may still be at it."""
    locks = run.folder / LOCKS
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / f"{step}-{part or 'whole'}", timeout=PATIENCE_S, poll_interval=0.5)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"another process has been writing {run.path(step, part)} for {PATIENCE_S:.0f} s. End it, or wait, "
            "and give the same command again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _prepare(partial: Path, key: str) -> None:
    """Keep a folder that the same work was killed in; clear one of other work."""
    key_file = partial / KEY_FILE
    if partial.exists() and not (key_file.is_file() and key_file.read_text() == key):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_atomically(key_file, key)


def _put_in_place(partial: Path, final: Path) -> None:
    # Two renames: killed between them, the finished folder is still there as `.partial`.
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _outputs(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files
    }


def _is_intact(folder: Path, record: StepRecord) -> bool:
    """Whether every file that the step left is still there, unchanged."""
    for name, output in record.outputs.items():
        path = folder / name
        if (
            not path.is_file()
            or path.stat().st_size != output["bytes"]
            or sha256_file(path) != output["sha256"]
        ):
            return False
    return True


def _read_record(folder: Path) -> StepRecord | None:
    try:
        return _RECORD.validate_json((folder / STEP_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunFolderError(
            f"{folder / STEP_FILE} is damaged ({error}); delete the folder {folder} and give the command again"
        ) from error


def _dataset(config: Config) -> str:
    return str(config.data.path or "digits")


def _read_identity(folder: Path) -> dict[str, Any] | None:
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = identity["format"]
        if not isinstance(identity["fingerprint"], str) or not isinstance(identity["dataset"], str):
            raise TypeError("dataset and fingerprint are texts")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error!r}; choose another folder with --run-dir") from error
    if version != FORMAT:
        raise RunFolderError(
            f"{folder} was made by a version of ganaug with run format {version}; this one reads format {FORMAT}. "
            "Choose another folder with --run-dir, or use the version that made it."
        )
    return identity


def _refusal(error: OSError) -> str | None:
    """What the system refused, in words; nothing for an error that has nothing to do with writing."""
    for number, words in _REFUSALS.items():
        # Arrow's errors carry the number in their text alone.
        if error.errno == number or f"[Errno {number}]" in str(error) or f"[errno {number}]" in str(error):
            return words
    return None


_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
}


def _sha256_json(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
