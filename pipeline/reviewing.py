"""The pause for a review, answered on Prefect's page or with `ganaug review`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import get_client, runtime
from prefect.exceptions import FlowPauseTimeout, ObjectNotFound
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import Field

from ganaug import review
from ganaug.errors import SettingsError
from ganaug.run import RunFolder, writing
from pipeline import artifacts
from pipeline.events import REVIEW_WAITS, emit_run

_POLL_S = 2


class Review(RunInput):
    """The form on Prefect's page."""

    decision: Literal["approve", "reject"] = Field("approve", description="Whether the images may be used.")
    drop: list[str] = Field(
        default_factory=list, description="Classes whose images are left out all the same."
    )
    by: str = Field("", description="Your name.")
    comment: str = Field("", description="Why.")


def wait_for_review(run: RunFolder) -> review.Decision:
    """Pause the flow run until there is a decision about the screened images.

    A decision that stands in the run folder counts; a timeout decides as the settings say.
    """
    decided = review.decision_of(run)
    while decided is None:
        sheet = artifacts.review_sheet(run)
        with get_client(sync_client=True) as client:
            api = str(client.api_url)
        with writing(run.folder):
            until = review.note_waiting(run, UUID(runtime.flow_run.id), api, run.config.review.timeout_s)
            if sheet is not None:
                (run.folder / review.FOLDER / review.SHEET_FILE).write_bytes(sheet)
        emit_run(REVIEW_WAITS, run, until=until.isoformat())
        left_s = max(1, int((until - datetime.now(UTC)).total_seconds()))
        given = _answered(run, left_s)
        decided = review.decision_of(run)
        if decided is None and given is not None:
            try:
                decided = review.decide(
                    run, given.decision, drop=given.drop, by=given.by, comment=given.comment
                )
            except SettingsError as error:
                get_run_logger().warning(f"asked again: {error}")
    review.stop_waiting(run)
    return decided


def _answered(run: RunFolder, left_s: int) -> Review | None:
    """What was answered on the page; by nobody in time: what the settings say. None: look into the folder."""
    form = Review.with_initial_data(description=artifacts.review_text(run))
    try:
        answer: Review = pause_flow_run(wait_for_input=form, timeout=left_s, poll_interval=_POLL_S)
    except FlowPauseTimeout:
        return Review(decision=run.config.review.on_timeout, by="timeout")
    return answer


def tell(run: RunFolder, decision: review.Decision) -> bool:
    """Let the flow run that waits go on; False when none could be reached.

    It finds the decision in the run folder when it is started again, too.
    """
    waits = review.waiting(run)
    if waits is None:
        return False
    given: dict[str, Any] = {
        "decision": decision.answer,
        "drop": list(decision.drop),
        "by": decision.by,
        "comment": decision.comment,
    }
    try:
        with temporary_settings({PREFECT_API_URL: waits.api}), get_client(sync_client=True) as client:
            client.resume_flow_run(waits.flow_run, run_input=given)
    except (httpx.HTTPError, ObjectNotFound):
        return False
    return True
