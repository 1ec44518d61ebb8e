"""The report: one self-contained HTML page of what a run did and whether it helped."""

from __future__ import annotations

from pathlib import Path

from ganaug.config import Config
from ganaug.errors import MissingExtraError

REPORT_FILE = "report.html"


def write_report(run_folder: Path, out: Path, config: Config) -> Path:
    """Write `report.html` from whatever steps of a run are done.

    Args:
        run_folder: The run; only finished step folders are read.
        out: Folder that gets the page.
        config: The run's settings.

    Returns:
        Path of the page. It needs no network and no file beside it.

    Raises:
        MissingExtraError: Jinja2 is not installed.
        RunFolderError: A `step.json` of the run is damaged.
    """
    try:
        from ganaug.report.page import render
    except ModuleNotFoundError as error:
        if error.name not in {"jinja2", "markupsafe"}:
            raise
        raise MissingExtraError("the report", "report") from error
    from ganaug.report.collect import collect
    from ganaug.report.samples import gather

    report = collect(run_folder, config)
    rows = report.errors.rows if report.errors else ()
    samples = gather(run_folder, report.classes, report.reasons, config.report.samples, error_rows=rows)
    out.mkdir(parents=True, exist_ok=True)
    page = out / REPORT_FILE
    beside = out / f"{REPORT_FILE}.new"
    beside.write_text(render(report, samples), encoding="utf-8")
    beside.replace(page)
    return page
