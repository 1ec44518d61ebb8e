"""A human may look at the screened images before anything is trained on them.

With `review.mode: required` a run waits after screening until somebody has approved the images,
rejected them or dropped classes; the decision is a file in the run folder, `review/decision.json`, and
holds for these very images alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import TypeAdapter

from ganaug.errors import ReviewError, SettingsError
from ganaug.plan import BalancePlan
from ganaug.run import RunFolder, write_atomically

FOLDER = "review"
DECISION_FILE = "decision.json"
WAITING_FILE = "waiting.json"
SHEET_FILE = "samples.png"

Answer = Literal["approve", "reject"]


@dataclass(frozen=True)
class Decision:
    """What somebody decided.

    Attributes:
        answer: `approve` or `reject`.
        images: Hash of the images that it is about.
        drop: Classes whose images are left out all the same.
        by: Who.
        comment: Why, in their words.
        when: In UTC.
    """

    answer: Answer
    images: str
    drop: tuple[str, ...] = ()
    by: str = ""
    comment: str = ""
    when: str = ""

    @property
    def sentence(self) -> str:
        """It in words."""
        words = {"approve": "approved", "reject": "rejected"}[self.answer]
        dropped = f", without {', '.join(self.drop)}" if self.drop and self.answer == "approve" else ""
        who = f" by {self.by}" if self.by else ""
        return f"{words} in review{who}{dropped}" + (f": {self.comment}" if self.comment else "")


@dataclass(frozen=True)
class Waiting:
    """Who waits for a decision.

    Attributes:
        flow_run: Id of the flow run.
        api: Address of its Prefect server.
        images: Hash of the images that it is about.
        until: When the settings decide, in seconds since 1970.
    """

    flow_run: UUID
    api: str
    images: str
    until: float


_DECISION, _WAITING = TypeAdapter(Decision), TypeAdapter(Waiting)


def is_required(run: RunFolder) -> bool:
    """Whether the run has to wait for a decision."""
    return run.config.review.mode == "required"


def decision_of(run: RunFolder) -> Decision | None:
    """The decision about the images as they are now; None without one.

    Raises:
        ReviewError: It cannot be read.
    """
    path = run.folder / FOLDER / DECISION_FILE
    try:
        found = _DECISION.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ReviewError(f"{path} is damaged ({error}); delete it and decide again") from error
    return found if found.images == images_digest(run) else None


def decide(
    run: RunFolder, answer: Answer, *, drop: Sequence[str] = (), by: str = "", comment: str = ""
) -> Decision:
    """Write a decision about the images as they are now.

    Raises:
        ReviewError: The run does not wait for one, or its images are not screened.
        SettingsError: A class to drop has no synthetic images.
    """
    wanted = [plan.class_name for plan in _plan(run).wanted]
    if unknown := sorted(set(drop) - set(wanted)):
        raise SettingsError(
            [f"drop: {unknown} have no synthetic images here; those that have: {', '.join(wanted) or 'none'}"]
        )
    decision = Decision(
        answer,
        images_digest(run),
        tuple(drop),
        by,
        comment,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    write_atomically(folder / DECISION_FILE, _DECISION.dump_json(decision, indent=2).decode())
    return decision


def images_digest(run: RunFolder) -> str:
    """One hash of all screened images.

    Raises:
        ReviewError: Not all are screened.
    """
    digests = []
    for plan in _plan(run).wanted:
        record = run.record("screen", plan.part)
        if record is None:
            raise ReviewError(f"there is nothing to review in {run.folder} yet: its images are not screened")
        digests.append(f"{plan.part} {record.digest}")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def left_out(run: RunFolder) -> tuple[str, ...]:
    """Classes whose images are not used, by the review's decision.

    Raises:
        ReviewError: A review is required, and nobody has decided.
    """
    if not is_required(run):
        return ()
    wanted = _plan(run).wanted
    if not wanted:
        return ()
    decision = decision_of(run)
    if decision is None:
        raise ReviewError(f"the images wait for a review: ganaug review {run.folder}")
    return tuple(plan.class_name for plan in wanted) if decision.answer == "reject" else decision.drop


def staleness(run: RunFolder, part: str) -> dict[str, Any] | None:  # noqa: ARG001 - what steps call
    """What of the review makes results stale; None without one."""
    if not is_required(run):
        return None
    decision = decision_of(run)
    return {"review": None if decision is None else [decision.answer, *sorted(decision.drop)]}


def note_waiting(run: RunFolder, flow_run: UUID, api: str, timeout_s: float) -> datetime:
    """Note who waits, so that `ganaug review` can tell them; a run that was killed waits no longer than it.

    Returns:
        Until when.
    """
    known, images = waiting(run), images_digest(run)
    is_same = known is not None and known.images == images
    until = known.until if known is not None and is_same else datetime.now(UTC).timestamp() + timeout_s
    note = Waiting(flow_run, api, images, until)
    (run.folder / FOLDER).mkdir(exist_ok=True)
    write_atomically(run.folder / FOLDER / WAITING_FILE, _WAITING.dump_json(note).decode())
    return datetime.fromtimestamp(until, UTC)


def waiting(run: RunFolder) -> Waiting | None:
    """Who waits for a decision; None when nobody does."""
    try:
        return _WAITING.validate_json((run.folder / FOLDER / WAITING_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def stop_waiting(run: RunFolder) -> None:
    """Forget who waited."""
    (run.folder / FOLDER / WAITING_FILE).unlink(missing_ok=True)


def _plan(run: RunFolder) -> BalancePlan:
    return BalancePlan.load(run.done_path("plan"))
