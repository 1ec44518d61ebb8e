"""The verbs around Prefect: refreshing a series of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ganaug import steps
from ganaug.display import Display
from ganaug.errors import NotPublishedError
from ganaug.progress import listening
from ganaug.run import RunFolder
from ganaug.terminal import (
    ConfigFile,
    DeviceName,
    Flag,
    Rest,
    RunDir,
    console,
    gain,
    quiet_prefect,
    settings_of,
    show_result,
    stop_at_once_on_ctrl_c,
)

if TYPE_CHECKING:
    from ganaug.series import Ended


def refresh(
    *path: Rest,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    require_gain: Flag = False,
    retrain: Annotated[str | None, Parameter(help="Train this class's GAN on, changed or not.")] = None,
    list: Flag = False,  # noqa: A002 - what the option is called
    dry_run: Flag = False,
) -> None:
    """Do the main job again where the data have changed, going on from the last time.

    Each time is a run of its own in the folder of a series, `runs/<name>-series/0001` and so on. Where
    nothing changed, nothing is done, in seconds. Else GANs of classes with other images are trained on
    from their last weights, all others are kept, and everything is trained anew when the data have
    drifted. Images that were tested on once are never trained on.

    Examples:
        ganaug refresh images/

        ganaug refresh images/ --dry-run

        ganaug refresh images/ --retrain cracked

    Args:
        path: Your images, as they are now.
        config: YAML file of settings.
        run_dir: The folder of the series; nothing: runs/<name of the dataset>-series.
        device: auto, cpu or cuda.
        require_gain: End with 4 when the model is refused.
        retrain: Train this class's GAN on, whether or not its images changed.
        list: Print the runs of the series, why they were done and what came of them, and stop.
        dry_run: Tell whether there is anything to do, and why, and stop.
    """
    from ganaug import series

    chosen = settings_of([*path, *gain(require_gain)], config, run_dir, device)
    folder = series.series_dir(chosen)
    if list:
        console.print(_table(folder, series.history(folder)))
        return
    asked = () if retrain is None else (retrain,)
    # Before Prefect, which takes longer to start than it takes to find that there is nothing to do.
    begun = series.begin(chosen, asked, dry_run=True)
    console.print(Text(f"{folder}: {begun.reason}"), soft_wrap=True)
    if dry_run or begun.is_done:
        return
    quiet_prefect()
    stop_at_once_on_ctrl_c()
    try:
        with Display(console, [*steps.STEPS]) as display, listening(display):
            from pipeline.flows import run_refresh

            run_refresh(chosen, asked)
    except NotPublishedError:
        _show_last(folder)
        raise
    _show_last(folder)


def _show_last(folder: Path) -> None:
    from ganaug import series

    last = series.history(folder)[-1]
    console.print(Text(f"run {last.number}: {last.reason}"), soft_wrap=True)
    for word, trained in (("trained on from their last weights", last.warm), ("kept", last.kept)):
        if trained:
            console.print(Text(f"{word}: {', '.join(trained)}"), soft_wrap=True)
    show_result(RunFolder.open(series.run_folder(folder, last.number)))


def _table(folder: Path, runs: Sequence[Ended]) -> Table:
    table = Table(title=f"Runs in {escape(str(folder))}", title_justify="left")
    for column in ("run", "ended", "why", "trained on", "kept", "verdict", "version"):
        table.add_column(column)
    for run in runs:
        table.add_row(
            str(run.number),
            run.ended,
            Text(run.reason),
            Text(", ".join(run.warm) or ("" if run.kept else "everything anew")),
            Text(", ".join(run.kept)),
            run.verdict,
            "" if run.version is None else str(run.version),
        )
    return table
