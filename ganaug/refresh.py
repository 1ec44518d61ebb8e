"""What a run on data that have grown does again: which GANs are trained on, which are kept.

A run that goes on from another has a folder `refresh/`: where that one is (`last.json`), its split
(`carried.parquet`), the data on which everything was trained last (`reference.parquet`), and, once the
images are split, the decision (`decision.json`), which stands however often the run is killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from ganaug.dataset import LabelledImages
from ganaug.drift import feature_drift, population_stability_index
from ganaug.errors import RunFolderError, SettingsError
from ganaug.plan import BalancePlan
from ganaug.run import RunFolder, code_hash, sha256_file, write_atomically
from ganaug.split import SPLIT_FILE, load_split
from ganaug.split.carried import Carried

FOLDER = "refresh"
LAST_FILE = "last.json"
DECISION_FILE = "decision.json"
CARRIED_FILE = "carried.parquet"
REFERENCE_FILE = "reference.parquet"
_TRAINS = ("ganaug.training.gans", "ganaug.training.classifier")

Kind = Literal["first", "nothing", "changed", "full"]


@dataclass(frozen=True)
class Decision:
    """What is trained, and why.

    Attributes:
        kind: `first`: there is no earlier run; `nothing`: the images are the same; `changed`: what
            stands below; `full`: everything is trained anew.
        reason: Why, in a sentence.
        warm: Parts of `train` that go on from their last weights.
        kept: Parts of `train` that are taken over as they are; all others are trained from nothing.
        changes: New and vanished images of each class that has some.
        class_drift: Population stability index since everything was trained; None without an earlier run.
        feature_drift: Area under the curve of who tells new images from earlier ones; None when there are
            too few.
        settings: Of training, as they were.
        code: Hash of the code that trains.
    """

    kind: Kind
    reason: str
    warm: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    class_drift: float | None = None
    feature_drift: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    code: str = ""


_DECISION = TypeAdapter(Decision)


@dataclass(frozen=True)
class _Noted:
    """`last.json`: the run that is gone on from, relative to this one, and the classes that were asked for."""

    folder: str | None = None
    asked: tuple[str, ...] = ()


_NOTED = TypeAdapter(_Noted)


def go_on_from(run: RunFolder, last: RunFolder | None, asked: Collection[str] = ()) -> None:
    """Note that a run goes on from another; called again after a kill it changes nothing.

    Args:
        run: The new run.
        last: A finished one of the same data as they were; None when there is none.
        asked: Classes whose GANs are trained on, changed or not.
    """
    folder = run.folder / FOLDER
    if (folder / LAST_FILE).is_file():
        return
    folder.mkdir(exist_ok=True)
    if last is not None:
        before = load(last)
        is_whole = before is None or before.kind in {"first", "full"}
        reference = last.path("split") / SPLIT_FILE if is_whole else last.folder / FOLDER / REFERENCE_FILE
        shutil.copyfile(last.path("split") / SPLIT_FILE, folder / CARRIED_FILE)
        shutil.copyfile(reference, folder / REFERENCE_FILE)
    where = None if last is None else os.path.relpath(last.folder, run.folder)
    # Last: it says that the others are whole.
    write_atomically(folder / LAST_FILE, _NOTED.dump_json(_Noted(where, tuple(sorted(asked)))).decode())


def last_of(run: RunFolder) -> Path | None:
    """The folder of the run that this one goes on from."""
    where = _noted(run).folder
    return None if where is None else run.folder / where


def asked_of(run: RunFolder) -> tuple[str, ...]:
    """Classes whose GANs were asked to be trained on."""
    return _noted(run).asked


def carried_split(run: RunFolder) -> Carried | None:
    """The split that the run's images stand on already, as far as they are known."""
    path = run.folder / FOLDER / CARRIED_FILE
    return Carried.load(path) if path.is_file() else None


def carried_digest(run: RunFolder, part: str) -> str | None:  # noqa: ARG001 - what steps call
    """What of the earlier run makes a split stale."""
    path = run.folder / FOLDER / CARRIED_FILE
    return sha256_file(path) if path.is_file() else None


def load(run: RunFolder) -> Decision | None:
    """The decision, where one was made.

    Raises:
        RunFolderError: It is damaged.
    """
    path = run.folder / FOLDER / DECISION_FILE
    try:
        return _DECISION.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); delete it and give the command again") from error


def how_trained(run: RunFolder, part: str) -> dict[str, str] | None:
    """How a part of `train` begins, as far as it does not begin from nothing; a change makes it stale."""
    decision = load(run)
    how = "" if decision is None else _how(decision, part)
    if not how:
        return None
    record = _last_run(run).record("train", part)
    return {how: "" if record is None else record.digest}


def start_of(run: RunFolder, part: str) -> Path | None:
    """The folder of the weights that a part of `train` goes on from."""
    decision = load(run)
    return _last_run(run).path("train", part) if decision is not None and part in decision.warm else None


def take_over(run: RunFolder, part: str, out: Path) -> dict[str, Any] | None:
    """Take a part of `train` as the last run left it, if that was decided.

    Returns:
        The summary; None when the part is to be trained.

    Raises:
        RunFolderError: What the last run left is damaged.
    """
    decision = load(run)
    if decision is None or part not in decision.kept:
        return None
    last = _last_run(run)
    record = last.record("train", part)
    for name, output in ({} if record is None else record.outputs).items():
        source = last.path("train", part) / name
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copyfile(source, out / name)
        if not source.is_file() or sha256_file(out / name) != output["sha256"]:
            raise RunFolderError(
                f"{source} is missing or damaged, and the GAN in it was to be kept. Train everything anew: "
                "--refresh.mode full"
            )
    return {**({} if record is None else record.summary), "kept_from": last.folder.name}


def decide(run: RunFolder, plan: BalancePlan, *, has_base: bool) -> Decision:
    """Decide once what is trained, from the images as they were and as they are.

    A decision stands as long as settings and code of training are those that it was made with: a run that
    was stopped and is given others keeps no weights that those did not make.

    Args:
        run: A run whose `split` and `plan` are done.
        plan: Its plan.
        has_base: Whether a GAN on all classes is among the parts.

    Raises:
        SettingsError: A class was asked for that gets no GAN of its own.
    """
    decision, (settings, code) = load(run), _of_training(run)
    if decision is None or (decision.settings, decision.code) != (settings, code):
        decision = _decide(run, plan, has_base=has_base)
        write_atomically(
            run.folder / FOLDER / DECISION_FILE, _DECISION.dump_json(decision, indent=2).decode()
        )
    return decision


def _decide(run: RunFolder, plan: BalancePlan, *, has_base: bool) -> Decision:
    own = {row.class_name: row.part for row in plan.wanted if row.trains_own}
    asked = asked_of(run)
    if unknown := sorted(set(asked) - set(own)):
        raise SettingsError(
            [f"{unknown} have no GAN of their own; those that have: {', '.join(own) or 'none'}"]
        )
    settings, code = _of_training(run)
    if last_of(run) is None:
        return Decision("first", "first run", settings=settings, code=code)
    last = _last_run(run)
    before, now = load_split(last.path("split")), load_split(run.path("split"))
    changes = _changes(before.index, before.class_names, now.index, now.class_names)
    whole = _why_full(run, last, before, now, settings, code)
    drift = _Drift.measured(run, last, now) if not whole else _Drift()
    told = Decision(
        "full",
        f"everything is trained anew: {whole or drift.reason(run)}",
        changes=changes,
        class_drift=drift.classes,
        feature_drift=drift.features,
        settings=settings,
        code=code,
    )
    if whole or drift.reason(run):
        return told
    changed = _changed(before, now)
    training = sorted({name for name, part in changed if part == "train"} | set(asked))
    warm = [own[name] for name in training if name in own]
    if has_base and not own and training:
        warm = ["base"]
    names = [*(["base"] if has_base else []), *own.values()]
    known = [part for part in names if last.record("train", part) is not None]
    kept = [part for part in known if part not in warm]
    return replace(
        told,
        kind="changed" if changed or asked or len(kept) < len(names) else "nothing",
        reason=_sentence(changes, asked, len(now.class_names)),
        warm=tuple(part for part in warm if part in known),
        kept=tuple(kept),
    )


def _of_training(run: RunFolder) -> tuple[dict[str, Any], str]:
    """Settings and hash of the code that train."""
    settings = {**run.config.train.model_dump(mode="json"), "device": run.config.device}
    return settings, hashlib.sha256("".join(map(code_hash, _TRAINS)).encode()).hexdigest()


def _why_full(
    run: RunFolder,
    last: RunFolder,
    before: LabelledImages,
    now: LabelledImages,
    settings: Mapping[str, Any],
    code: str,
) -> str:
    """Why weights of the last run are of no use; empty when they are."""
    decided = load(last)
    if run.config.refresh.mode == "full":
        return "refresh.mode is full"
    if before.class_names != now.class_names:
        new = sorted(set(now.class_names) - set(before.class_names))
        gone = sorted(set(before.class_names) - set(now.class_names))
        parts = [f"{word} {', '.join(names)}" for word, names in (("new:", new), ("gone:", gone)) if names]
        return f"the classes are others ({'; '.join(parts) or 'their order'})"
    if before.images.shape[1:] != now.images.shape[1:]:
        return f"images have another size ({before.images.shape[1:]}, now {now.images.shape[1:]})"
    if decided is None or decided.code != code:
        return "the code that trains is another"
    if moved := [name for name in settings if settings[name] != decided.settings.get(name)]:
        return "settings of training are others: " + ", ".join(
            f"{name} {decided.settings.get(name)} → {settings[name]}" for name in moved
        )
    return ""


@dataclass(frozen=True)
class _Drift:
    """How far the data have moved since everything was trained."""

    classes: float | None = None
    features: float | None = None

    @classmethod
    def measured(cls, run: RunFolder, last: RunFolder, now: LabelledImages) -> _Drift:
        reference = pd.read_parquet(run.folder / FOLDER / REFERENCE_FILE, columns=["sha256", "class_name"])
        counts = reference["class_name"].value_counts()
        before = np.array([counts.get(name, 0) for name in now.class_names], np.int64)
        is_new = ~now.index["sha256"].isin(reference["sha256"]).to_numpy()
        return cls(
            round(population_stability_index(before, now.counts()), 4), _feature_drift(last, now, is_new)
        )

    def reason(self, run: RunFolder) -> str:
        """Why that is too far; empty when it is not."""
        limits = run.config.refresh
        if self.classes is not None and self.classes > limits.max_class_drift:
            return (
                f"the classes' shares have moved by {self.classes:.2f} (population stability index; "
                f"refresh.max_class_drift is {limits.max_class_drift:g})"
            )
        if self.features is not None and self.features > limits.max_feature_drift:
            return (
                f"new images look different: a classifier tells them from earlier ones with an area under the "
                f"curve of {self.features:.2f} (refresh.max_feature_drift is {limits.max_feature_drift:g})"
            )
        return ""


def _feature_drift(last: RunFolder, now: LabelledImages, is_new: Any) -> float | None:
    """In the features of the last run's classifier: of new images, and of earlier ones that it has not seen."""
    from ganaug.screen.fitting import features_of

    seen = load_split(last.path("split")).index
    trained = set(seen.loc[seen["split"] == "train", "sha256"])
    fresh = ~now.index["sha256"].isin(trained).to_numpy()
    rows = {"new": np.flatnonzero(is_new & fresh), "earlier": np.flatnonzero(~is_new & fresh)}
    if not all(len(some) for some in rows.values()):
        return None
    classifier = sorted(last.path("export", "classifiers").glob("*.onnx"))[0]
    found = {name: features_of(now, some, classifier) for name, some in rows.items()}
    ids = now.class_ids
    drift = feature_drift(found["earlier"], ids[rows["earlier"]], found["new"], ids[rows["new"]])
    return None if drift is None else round(drift, 4)


def _changes(
    before: pd.DataFrame, before_names: Sequence[str], now: pd.DataFrame, now_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """New and vanished images of each class that has some."""
    sets = []
    for index, names in ((before, before_names), (now, now_names)):
        ids = index["class_id"].to_numpy(np.int64)
        sets.append({name: set(index["sha256"].to_numpy()[ids == k]) for k, name in enumerate(names)})
    found = {}
    for name in dict.fromkeys([*now_names, *before_names]):
        was, now_is = (one.get(name, set()) for one in sets)
        if was != now_is:
            found[name] = {"new": len(now_is - was), "gone": len(was - now_is)}
    return found


def _changed(before: LabelledImages, now: LabelledImages) -> set[tuple[str, str]]:
    """Classes whose images of a side are others than they were, with that side."""
    found = set()
    for part in ("train", "test"):
        sets = []
        for data in (before, now):
            is_part = data.index["split"].to_numpy() == part
            hashes, ids = data.index["sha256"].to_numpy(), data.class_ids
            sets.append([frozenset(hashes[is_part & (ids == k)]) for k in range(len(data.class_names))])
        found |= {
            (name, part) for name, was, is_now in zip(now.class_names, *sets, strict=True) if was != is_now
        }
    return found


def _sentence(changes: Mapping[str, Mapping[str, int]], asked: Collection[str], n_classes: int) -> str:
    if asked:
        return f"asked for: {', '.join(asked)}"
    if not changes:
        return "the images are the same"
    words = [
        f"{name} ({', '.join(f'{sign}{count[what]}' for what, sign in (('new', '+'), ('gone', '-')) if count[what])})"
        for name, count in changes.items()
    ]
    return f"images of {len(changes)} of {n_classes} classes changed: {', '.join(words)}"


def _how(decision: Decision, part: str) -> str:
    return "warm" if part in decision.warm else "kept" if part in decision.kept else ""


def _noted(run: RunFolder) -> _Noted:
    path = run.folder / FOLDER / LAST_FILE
    try:
        return _NOTED.validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Noted()
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); delete the run folder {run.folder}") from error


def _last_run(run: RunFolder) -> RunFolder:
    last = last_of(run)
    assert last is not None
    return RunFolder.open(last)
