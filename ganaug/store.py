"""The model store: `exported/<name>/<version>/` and a pointer to the current version of each.

A version never changes once it is there. It is written beside and renamed into place, which
fails for all but one of those who want the same number; then the pointer is replaced in one
step. Killed anywhere, the store is as it was or as it was to become.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ganaug import card as cards
from ganaug.card import CARD_FILE, GraphCard, ModelCard
from ganaug.errors import ModelError, OutputError
from ganaug.fetch import Source, check_card, fetch, fetched_before, is_address
from ganaug.run import writing

STORE = Path("exported")
POINTER_FILE = "current.json"
BASE_FILE = "base.onnx"

_LOCK_FILE = ".lock"
_INCOMING = ".incoming-"
_LOCK_S = 60
_STALE_S = 24 * 3600
_NAME = re.compile(r"[^\x00-\x1f./\\@:*?\"<>|][^\x00-\x1f/\\@:*?\"<>|]{0,99}")
_MAX_POINTER_BYTES = 4096


@dataclass(frozen=True)
class StoredModel:
    """One version in the store.

    Attributes:
        name: Name of the model.
        version: Its number.
        is_current: Whether the pointer names it.
        folder: Where it lies.
        card: Its card; None when that cannot be read.
        problem: What is wrong with it; None when every hash is right.
    """

    name: str
    version: int
    is_current: bool
    folder: Path
    card: ModelCard | None
    problem: str | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that it can make."""
        if self.card is None:
            return ()
        able = {name for graph in self.card.graphs for name in graph.classes}
        return tuple(name for name in self.card.class_names if name in able)

    @property
    def recipe(self) -> str:
        """Architecture that it was trained with."""
        return self.card.recipe if self.card is not None else ""

    @property
    def verdict(self) -> str:
        """What its evaluation said."""
        return (self.card.verdict if self.card is not None else None) or ""


def packaged_store() -> Path:
    """The models that come with ganaug: inside the installed package, or in a checkout."""
    package = Path(__file__).parent
    installed = package / "exported"
    return installed if installed.is_dir() else package.parent / "exported"


def resolve(model: Path | str, store: Path = STORE, *, sha256: str | None = None) -> Path:
    """Find the folder of a model version; one at an address is brought here first.

    Args:
        model: A model folder; a folder in a store, such as `exported/digits`, which means its
            current version; or a name in `store`. `@3` behind it asks for version 3. Or the address
            of a model folder, or of a model in a store, that fsspec knows.
        store: Where names are looked for first; then among the models that come with ganaug.
        sha256: Hash that `card.json` must have.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: There is no such model or version, its pointer is damaged, or it is another
            one than `sha256` says.
    """
    if is_address(model):
        return _fetched(str(model), sha256)
    folder = _find(model, store)
    if sha256:
        check_card(cards.card_sha256(folder), sha256, str(folder))
    return folder


def _fetched(address: str, sha256: str | None) -> Path:
    if versioned := re.fullmatch(r"(.+)@(\d{1,9})", address):
        return fetch(f"{versioned[1]}/{int(versioned[2])}", sha256)
    if sha256 and (known := fetched_before(sha256)):
        return known
    pointer = Source(address).read(POINTER_FILE, _MAX_POINTER_BYTES)
    if pointer is None:
        return fetch(address, sha256)
    try:
        version = _pointed_at(pointer)
    except ValueError as error:
        raise ModelError(
            f"{address}/{POINTER_FILE} is damaged: {error}. Ask for a version, as {address}@1."
        ) from error
    return fetch(f"{address.rstrip('/')}/{version}", sha256)


def _find(model: Path | str, store: Path) -> Path:
    text, version = _split_version(str(model))
    asked = Path(text)
    candidates = [asked]
    # `exported/digits` and `digits` mean the packaged model only where no folder is in the way.
    if len(asked.parts) == 1:
        candidates += [store / asked, packaged_store() / asked]
    elif asked.parts[:1] == (STORE.name,):
        candidates.append(packaged_store().joinpath(*asked.parts[1:]))
    for folder in candidates:
        if version is None and (folder / CARD_FILE).is_file():
            return folder
        if (folder / POINTER_FILE).is_file() or _versions(folder):
            return _version_folder(folder, version)
    raise ModelError(
        f"there is no model {str(model)!r} (looked in {', '.join(map(str, candidates))}). Give a model folder, "
        f"or a name that `ganaug models` lists; here: {', '.join(_names(store, packaged_store())) or 'none'}."
    )


def publish(
    folder: Path, store: Path, name: str, beside: Callable[[Path, ModelCard], None] | None = None
) -> int:
    """Copy a model into the store as its next version, and make that the current one.

    Args:
        folder: The model; it stays as it is.
        store: The store; made when it does not exist.
        name: Name of the model.
        beside: Given the version's folder and card before anybody can see it, writes what else
            belongs there.

    Returns:
        The version's number.

    Raises:
        ModelError: The model is damaged, or `name` cannot be a name.
        OutputError: The store cannot be written.
    """
    _check_name(name)
    card = cards.verify(folder)
    home = store / name
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        incoming = home / f"{_INCOMING}{os.getpid()}-{secrets.token_hex(4)}"
        incoming.mkdir()
        try:
            for graph in card.graphs:
                _write(incoming / graph.file, cards.read_graph(folder, graph))
            version = _claim(incoming, home, card.model_copy(update={"name": name}), beside)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        with _locked(home):
            current = 0
            # A damaged pointer is mended by the new one.
            with contextlib.suppress(ModelError):
                current = _read_pointer(home) or 0
            # Of two who publish at once the one with the lower number may come here last.
            if version > current:
                _write_pointer(home, version)
    return version


def rollback(store: Path, name: str, version: int) -> None:
    """Make a version that lies in the store the current one.

    Raises:
        ModelError: It is not there, or damaged.
        OutputError: The store cannot be written.
    """
    _check_name(name)
    home = store / name
    cards.verify(_version_folder(home, version))
    with writing(home), _locked(home):
        _write_pointer(home, version)


def list_models(store: Path = STORE) -> list[StoredModel]:
    """Every version of every model in a store, each verified; damage is told, not raised."""
    found = []
    for home in sorted(path for path in store.glob("*") if path.is_dir()):
        versions = _versions(home)
        current, pointer_problem = None, None
        try:
            current = _read_pointer(home)
        except ModelError as error:
            pointer_problem = str(error)
        for version in versions:
            folder, card, problem = home / str(version), None, pointer_problem
            try:
                card = ModelCard.load(folder)
                cards.verify(folder)
            except ModelError as error:
                problem = str(error)
            found.append(StoredModel(home.name, version, version == current, folder, card, problem))
    return found


def verify(model: Path | str, store: Path = STORE) -> ModelCard:
    """Check card and hashes of a model, found as in `resolve`.

    Raises:
        ModelError: There is no such model, or something of it is missing, damaged or swapped.
    """
    return cards.verify(resolve(model, store))


def assemble_model(
    folders: Sequence[Path],
    out: Path,
    *,
    name: str,
    verdict: str | None = None,
    metrics: Mapping[str, float | int | str | None] | None = None,
) -> ModelCard:
    """Put exported generators together into one model: the base and its specialists.

    Args:
        folders: Export folders, the base first; each has a card with one graph.
        out: Folder of the model; gets `base.onnx`, a graph for each class and `card.json`.
        name: Name of the model.
        verdict: What the evaluation said.
        metrics: Numbers behind it.

    Returns:
        The model's card.

    Raises:
        ModelError: A part is damaged, they are of different datasets, or two specialists
            make the same class.
        OutputError: `out` cannot be written.
    """
    # Here, because it brings pandas, which who only makes images does without.
    from ganaug.plan import part_name

    parts = [cards.verify(folder) for folder in folders]
    base = parts[0]
    graphs: list[GraphCard] = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for folder, card in zip(folders, parts, strict=True):
            _check_part(folder, card, base, graphs[1:])
            graph = card.graphs[0]
            ids = [card.class_id(class_name) for class_name in graph.classes]
            file = f"{part_name(ids[0], graph.classes[0])}.onnx" if graphs else BASE_FILE
            _write(out / file, cards.read_graph(folder, graph))
            graphs.append(graph.model_copy(update={"file": file}))
        model = base.model_copy(
            update={
                "name": name,
                "graphs": tuple(graphs),
                "created": cards.now(),
                "verdict": verdict,
                "metrics": dict(metrics or {}),
            }
        )
        # Copies are not validated: read it back as anybody will.
        model.save(out)
    return ModelCard.load(out)


def _check_part(folder: Path, card: ModelCard, base: ModelCard, specialists: Sequence[GraphCard]) -> None:
    if len(card.graphs) != 1:
        raise ModelError(f"{folder} has {len(card.graphs)} graphs; an export has one")
    for field in ("class_names", "image_shape", "dataset_sha256"):
        if getattr(card, field) != getattr(base, field):
            raise ModelError(
                f"{folder} does not belong to the base: its {field} is {getattr(card, field)!r}, the base's "
                f"{getattr(base, field)!r}. Export all of them from one run."
            )
    for other in specialists:
        if twice := set(other.classes) & set(card.graphs[0].classes):
            raise ModelError(
                f"{folder}: another specialist makes {sorted(twice)} already; a class has one graph"
            )


def _claim(
    incoming: Path, home: Path, card: ModelCard, beside: Callable[[Path, ModelCard], None] | None
) -> int:
    """Rename `incoming` to the next free number, which its card says too."""
    while True:
        version = max([*_versions(home), 0]) + 1
        numbered = card.model_copy(update={"version": version})
        numbered.save(incoming)
        if beside is not None:
            beside(incoming, numbered)
        _sync(incoming)
        try:
            # Renaming onto a folder that has files in it fails: the number is taken.
            incoming.rename(home / str(version))
        except OSError:
            if not (home / str(version)).exists():
                raise
            continue
        _sync(home)
        return version


def _version_folder(home: Path, version: int | None) -> Path:
    versions = _versions(home)
    if version is None:
        version = _read_pointer(home)
        if version is None:
            raise ModelError(
                f"{home} has no current version ({POINTER_FILE} is missing); it has {versions}: "
                f"ask for one, as {home.name}@{versions[-1]}, or make it current with store.rollback"
            )
    if version not in versions:
        raise ModelError(f"{home} has no version {version}; it has {versions or 'none'}")
    return home / str(version)


def _versions(home: Path) -> list[int]:
    """Numbers of the versions that lie there, ascending."""
    if not home.is_dir():
        return []
    return sorted(int(path.name) for path in home.iterdir() if re.fullmatch(r"[1-9]\d{0,8}", path.name))


def _read_pointer(home: Path) -> int | None:
    try:
        with (home / POINTER_FILE).open("rb") as file:
            return _pointed_at(file.read(_MAX_POINTER_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(_pointer_damage(home, str(error))) from error


def _pointed_at(content: bytes) -> int:
    """The version that a pointer names.

    Raises:
        ValueError: It is damaged.
    """
    tree = json.loads(content)
    version = tree.get("version") if isinstance(tree, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f'it holds {tree!r}, not {{"version": number}}')
    return version


def _pointer_damage(home: Path, why: str) -> str:
    return (
        f"{home / POINTER_FILE} is damaged: {why}. The versions there are {_versions(home)}; ask for one, as "
        f"{home.name}@1, or write the pointer again with ganaug.store.rollback(store, {home.name!r}, version)."
    )


def _write_pointer(home: Path, version: int) -> None:
    beside = home / f"{_INCOMING}{POINTER_FILE}-{os.getpid()}-{secrets.token_hex(4)}"
    _write(beside, json.dumps({"version": version}).encode())
    beside.replace(home / POINTER_FILE)
    _sync(home)


def _split_version(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)@(\d{1,9})", text)
    # A folder may have such a name; it is then what was meant.
    return (match[1], int(match[2])) if match and not Path(text).exists() else (text, None)


def _names(*stores: Path) -> list[str]:
    return sorted({home.name for store in stores for home in store.glob("*") if _versions(home)})


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ModelError(
            f'{name!r} cannot be the name of a model: up to 100 characters, none of / \\ @ : * ? " < > |, '
            "and no dot at the front. Choose one with --publish.name."
        )


def _sweep(home: Path) -> None:
    """Remove what publishers left that were killed."""
    for path in home.glob(f"{_INCOMING}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        with FileLock(home / _LOCK_FILE, timeout=_LOCK_S):
            yield
    except Timeout as error:
        raise OutputError(
            f"another process has held {home / _LOCK_FILE} for {_LOCK_S} s; end it and give the command again"
        ) from error
