"""The verbs of production: a series of runs, and ganaug on a Prefect server."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ganaug import steps
from ganaug.display import Display, class_table
from ganaug.errors import NotPublishedError, SettingsError
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
            from pipeline.server import start_server

            wait_for_server = start_server()
            from pipeline.flows import balance, retrain_class

            wait_for_server()
            if retrain is None:
                balance(chosen, refresh=True)
            else:
                retrain_class(chosen, retrain)
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


Cron = Annotated[str, Parameter(help="When `balance` runs, as a cron line; '' is never by itself.")]
Zone = Annotated[str, Parameter(help="Time zone of the cron line.")]
Gpus = Annotated[int, Parameter(help="Tasks that may hold a GPU at the same time.")]


def deploy(
    *path: Rest,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    cron: Cron = "0 2 * * *",
    timezone: Zone = "UTC",
    pool: str = "ganaug",
    gpus: Gpus = 1,
    working_dir: Path = Path(),
    print: Flag = False,  # noqa: A002 - what the option is called
) -> None:
    """Put the flows on a Prefect server: a nightly `balance`, `retrain-class`, and `produce`.

    Creates or renews the work pool, the concurrency limit `gpu`, the three deployments with these settings
    as their parameters, and two automations by which a run whose worker died goes on. Start a worker then:
    `prefect worker start --pool ganaug`.

    Examples:
        ganaug deploy images/ --config run.yaml --cron '0 2 * * *' --timezone Europe/Berlin

        ganaug deploy images/ --print > prefect.yaml

    Args:
        path: Your images, where the workers see them.
        config: YAML file of settings.
        run_dir: The folder of the series of runs; nothing: runs/<name of the dataset>-series.
        device: auto, cpu or cuda.
        cron: When `balance` runs, as a cron line; '' is never by itself.
        timezone: Time zone of the cron line.
        pool: The work pool; made when it is not there.
        gpus: Tasks that may hold a GPU at the same time.
        working_dir: Folder that relative paths start from, on the workers; nothing: this one.
        print: Print a prefect.yaml that says the same, and stop.
    """
    chosen = settings_of(path, config, run_dir, device)
    quiet_prefect()
    from pipeline import deploy as deploying

    how = deploying.Deploying(pool=pool, cron=cron, timezone=timezone, gpus=gpus, working_dir=working_dir)
    if print:
        sys.stdout.write(deploying.as_yaml(chosen, how))
        return
    for name in deploying.deploy(chosen, how):
        console.print(Text.assemble(("✓ ", "green"), f"deployment {name}"))
    console.print(Text(f"next: prefect worker start --pool {pool}"))
    console.print(Text(f"now: prefect deployment run balance/{steps.run_name(chosen)} --watch"))


def serve(
    *path: Rest,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    cron: Cron = "0 2 * * *",
    timezone: Zone = "UTC",
    gpus: Gpus = 1,
) -> None:
    """The same flows from this one process, without a work pool; stops with Ctrl-C.

    Uses the Prefect server that is configured, and starts one of its own where none is.

    Examples:
        ganaug serve images/ --cron '0 2 * * *'

    Args:
        path: Your images.
        config: YAML file of settings.
        run_dir: The folder of the series of runs; nothing: runs/<name of the dataset>-series.
        device: auto, cpu or cuda.
        cron: When `balance` runs, as a cron line; '' is never by itself.
        timezone: Time zone of the cron line.
        gpus: Tasks that may hold a GPU at the same time.
    """
    chosen = settings_of(path, config, run_dir, device)
    from pipeline import deploy as deploying

    deploying.serve(chosen, deploying.Deploying(cron=cron, timezone=timezone, gpus=gpus))


def watch(
    *path: Rest,
    config: ConfigFile = None,
    every: Annotated[float, Parameter(help="Seconds between two looks.")] = 60.0,
    once: Flag = False,
) -> None:
    """Look at a dataset again and again, and tell Prefect when it has changed: its `balance` begins.

    The event is `ganaug.dataset.changed`. It is told when a change has settled: two looks find the same.

    Examples:
        ganaug watch images/ --every 60

    Args:
        path: The dataset.
        config: YAML file of settings, as it was deployed with.
        every: Seconds between two looks.
        once: Tell it now, changed or not, and stop: for those who know that it has.
    """
    from ganaug.readers import fingerprint

    chosen = settings_of(path, config, None, None)
    quiet_prefect()
    from pipeline.deploy import check_server
    from pipeline.events import DATASET_CHANGED, emit_changed

    check_server()
    told = "" if once else fingerprint(chosen.data)
    seen = told
    while True:
        now = fingerprint(chosen.data)
        if now != told and (once or now == seen):
            emit_changed(chosen, fingerprint=now)
            told = now
            console.print(f"{DATASET_CHANGED}: {steps.run_name(chosen)} {now[:12]}")
        if once:
            return
        seen = now
        time.sleep(every)


def review(
    run: Path,
    *,
    approve: Flag = False,
    reject: Flag = False,
    drop: Annotated[
        str, Parameter(help="Classes to leave out, separated by commas; the others are approved.")
    ] = "",
    by: str | None = None,
    comment: str = "",
) -> None:
    """Decide about the images of a run that waits for a review; without an answer, show them.

    Examples:
        ganaug review runs/photos

        ganaug review runs/photos --drop cracked,bent --comment 'cracks look painted'

    Args:
        run: The run folder.
        approve: Use the images.
        reject: Use none; the classifier is measured without them, and nothing is published.
        drop: Classes to leave out, separated by commas; the others are approved.
        by: Your name; nothing: the user's.
        comment: Why.
    """
    from ganaug import review as reviews
    from ganaug.report.collect import class_rows

    folder = RunFolder.open(run)
    dropped = [name.strip() for name in drop.split(",") if name.strip()]
    if approve + reject > 1 or (reject and dropped):
        raise SettingsError(["one answer is enough: --approve, --reject or --drop"])
    if not (approve or reject or dropped):
        decided = reviews.decision_of(folder)
        console.print(class_table(class_rows(folder.folder)))
        sheet = folder.folder / reviews.FOLDER / reviews.SHEET_FILE
        if sheet.is_file():
            console.print(Text(f"left real, right synthetic: {sheet}"), soft_wrap=True)
        told = (
            "nobody has decided: --approve, --reject or --drop CLASSES"
            if decided is None
            else decided.sentence
        )
        console.print(Text(told), soft_wrap=True)
        return
    decided = reviews.decide(
        folder, "reject" if reject else "approve", drop=dropped, by=by or getpass.getuser(), comment=comment
    )
    console.print(Text(decided.sentence), soft_wrap=True)
    if reviews.waiting(folder) is None:
        console.print("no flow run waits; the next `ganaug run` or `ganaug refresh` goes on from here")
        return
    quiet_prefect()
    from pipeline.reviewing import tell

    if not tell(folder, decided):
        console.print(
            "the flow run that waited does not answer: start it again, and it goes on from here",
            style="yellow",
        )


def metrics(run: Path) -> None:
    """Print a run's figures in Prometheus' text format.

    With `--pipeline.metrics-file PATH` each run writes them, after each step, for node_exporter's textfile
    collector.

    Args:
        run: The run folder.
    """
    from ganaug.metrics import as_text, read_metrics

    sys.stdout.write(as_text(read_metrics(RunFolder.open(run))))
