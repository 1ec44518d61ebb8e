"""`ganaug`: one verb per step, `ganaug run` for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import ganaug
from ganaug import cli_pipeline, cli_production, cli_store, steps
from ganaug import config as settings
from ganaug.config import Config
from ganaug.cores import limit_threads
from ganaug.display import Display
from ganaug.errors import GanaugError, MissingExtraError, NotPublishedError
from ganaug.progress import listening
from ganaug.publish import fail_without_gain
from ganaug.run import RunFolder, is_current
from ganaug.terminal import (
    EXIT_STOPPED,
    STOPPED,
    ConfigFile,
    DeviceName,
    Flag,
    Rest,
    RunDir,
    below,
    console,
    do_step,
    errors,
    gain,
    quiet_prefect,
    settings_of,
    show_result,
    stop_at_once_on_ctrl_c,
)

EXIT_ERROR = 1
EXIT_NOT_PUBLISHED = 4
"""Of `run` and `publish`, when a gain was required and the model was refused."""
_EXTRAS = {
    "prefect": "all",
    "torch": "train",
    "albumentations": "train",
    "onnx": "train",
    "faiss": "screen",
    "threadpoolctl": "screen",
    "fsspec": "remote",
    "cryptography": "sign",
    "prefect_ray": "ray",
    "mlflow": "mlflow",
    "safetensors": "train",
    "torchmetrics": "train",
    "cv2": "data",
    "sklearn": "data",
    "scipy": "data",
    "jinja2": "report",
}
"""The extra that brings each optional package."""

app = App(
    name="ganaug",
    version=ganaug.__version__,
    suppress_keyboard_interrupt=False,
    help=(
        "Balance rare image classes with GANs, and measure on real held-out images whether it helped.\n\n"
        "`ganaug run` does the main job on scikit-learn's digits; `ganaug run PATH` on your images."
    ),
    help_epilogue="Any setting can be given as an option, for example `--train.steps 500`; "
    "`ganaug run --print-config` prints all of them with their meaning. "
    "`--debug` shows the traceback of an error.",
)


def run(
    *path: Rest,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    require_gain: Flag = False,
    print_config: Flag = False,
    dry_run: Flag = False,
) -> None:
    """Do the main job: split, plan, train, export, produce, screen, assemble, evaluate, publish, report.

    What is done already is not done again: after a kill, give the same command.

    Examples:
        ganaug run

        ganaug run photos.zip --data.group-pattern '^(.*)-' --split.keep.WBC 20

        ganaug run images/ --config run.yaml --train.steps 500 --device cuda

    Args:
        path: Your images.
        config: YAML file of settings.
        run_dir: The run folder.
        device: auto, cpu or cuda.
        require_gain: End with 4 when the model is refused; all else is done and kept.
        print_config: Print the full effective settings with each one's meaning, and stop.
        dry_run: Tell what would be done and what is done already, and stop.
    """
    chosen = settings_of([*path, *gain(require_gain)], config, run_dir, device)
    if print_config:
        # Plain print: what comes out is a YAML file, whatever the width of the terminal.
        sys.stdout.write(settings.describe(chosen))
        return
    if dry_run:
        _show_dry_run(chosen)
        return
    # Before Prefect, which takes ten seconds to start: what would stop the run is told at once.
    steps.find_run(chosen)
    quiet_prefect()
    stop_at_once_on_ctrl_c()
    folder = steps.run_dir(chosen)
    try:
        with Display(console, list(steps.STEPS)) as display, listening(display):
            console.print(Text(f"run folder {folder}", style="dim"))
            from pipeline.server import start_server

            wait_for_server = start_server()
            from pipeline.flows import balance, import_torch

            import_torch()
            wait_for_server()
            balance(chosen)
    except NotPublishedError:
        show_result(RunFolder.open(folder))
        raise
    show_result(RunFolder.open(folder))


def _step_verb(step: str, text: str) -> None:
    """Add the verb of one step."""

    def verb(
        *path: Rest,
        config: ConfigFile = None,
        run_dir: RunDir = None,
        device: DeviceName = None,
        part: Annotated[
            str | None, Parameter(help="Only this part: base, classifiers or a class's name.")
        ] = None,
    ) -> None:
        do_step(step, settings_of(path, config, run_dir, device, continues=True), part)

    verb.__name__ = step
    verb.__doc__ = text
    app.command(verb, name=step, help_epilogue=below(verb, step))


_STEP_HELP = {
    "split": "Read and check the images, group near-duplicates, and lock the test split away.",
    "plan": "Count the classes and plan how many synthetic images each wants (and split, if that is not done).",
    "train": "Train the base GAN, the screening classifiers, and a GAN for each wanted class.",
    "export": "Export every generator to one self-contained ONNX file, checked against torch.",
    "assemble": "Write the balanced training set, real and synthetic, with the origin of every image.",
    "evaluate": "Measure on the locked real test split whether the synthetic images helped.",
    "report": "Write the HTML report of what is done so far.",
}


for _name, _text in _STEP_HELP.items():
    _step_verb(_name, _text)


def publish(
    *path: Rest,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    require_gain: Flag = False,
) -> None:
    """Move the model into the store as a new version, if its verdict is *helps*.

    Or *no difference*, with `--publish.accept 'no difference'`; *cannot tell* and *hurts* never
    ship, and a set that was refused before the arena does not either. A refusal is a result: the
    earlier version stays current, the reason is told, and the exit status is 0.

    Args:
        path: The dataset of the run.
        config: YAML file of settings of the run.
        run_dir: The run folder.
        device: auto, cpu or cuda.
        require_gain: End with 4 when the model is refused.
    """
    tokens = [*path, *gain(require_gain)]
    chosen = settings_of(tokens, config, run_dir, device, continues=True)
    (outcome,) = do_step("publish", chosen, None)
    fail_without_gain(outcome.record.summary, chosen.publish)


def evaluate_generator(
    *path: Rest,
    model: str | None = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    count: int = 500,
    seeds: int = 1,
    synthetic: Literal["produced", "screened"] = "produced",
    held_out: Literal["fold", "test"] = "fold",
    score: bool = True,
) -> None:
    """Measure how good the generators are: Fréchet and kernel distance, precision and recall, CAS, memorisation.

    On a run whose `train` and `export` are done, from its exported generators; the numbers go to
    `quality/quality.json` in the run folder too. With `--model`, on a published model: a
    classifier is trained on the dataset first, and nothing is written.

    Examples:
        ganaug evaluate-generator

        ganaug evaluate-generator photos.zip --count 200 --seeds 3

        ganaug evaluate-generator --model exported/digits

    Args:
        path: The dataset of the run, or the one to measure the model on.
        model: A model folder, or a name that `ganaug models` lists; nothing: the run's generators.
        run_dir: The run folder.
        device: auto, cpu or cuda.
        count: Synthetic images of each class.
        seeds: Classifiers that are trained on synthetic images for CAS, each with its own seed.
        synthetic: produced: images as the generators make them; screened: those that the run's screen kept.
        held_out: Real images to compare with. fold: a part of the training split, or what training kept back.
            test: the locked test split; who then changes settings spoils the final verdict.
        score: Train classifiers for CAS (classification accuracy score), which takes most of the time.
    """
    from ganaug.quality import evaluate as quality
    from ganaug.quality.tables import tables

    chosen = settings_of(path, None, run_dir, device, continues=model is None)
    asked = quality.Asked(count, seeds, synthetic, held_out, score, chosen.device)
    if held_out == "test":
        errors.print(Text(f"! {quality.SPOILS}", style="yellow"), soft_wrap=True)
    with Display(console, ["split", "train", "produce", "measure"]) as display, listening(display):
        found = quality.evaluate(model, chosen, asked)
    for table in tables(found):
        console.print(table)


_VERBS: list[tuple[Callable[..., None], str]] = [
    (run, ""),
    (cli_production.produce, "produce"),
    (cli_production.screen, "screen"),
    (cli_production.reproduce, ""),
    (publish, "publish"),
    (cli_pipeline.refresh, "refresh"),
    (cli_pipeline.review, "review"),
    (cli_pipeline.deploy, ""),
    (cli_pipeline.serve, ""),
    (cli_pipeline.watch, ""),
    (cli_pipeline.metrics, ""),
    *((verb, "") for verb in cli_store.VERBS),
    (evaluate_generator, ""),
]
for _verb, _section in _VERBS:
    app.command(_verb, name=_verb.__name__.replace("_", "-"), help_epilogue=below(_verb, _section))


def _show_dry_run(chosen: Config) -> None:
    """What would be done, without beginning a run."""
    known = steps.find_run(chosen)
    table = Table(title=f"Dry run: {escape(str(steps.run_dir(chosen)))}", title_justify="left")
    table.add_column("step")
    table.add_column("part")
    table.add_column("state")
    for name, step in steps.STEPS.items():
        has_plan = known is not None and known.record("plan") is not None
        names = (
            steps.parts(known, name)
            if known is not None and (has_plan or name in {"split", "plan"})
            else ("",)
        )
        for part in names:
            is_done = known is not None and is_current(known, step, part)
            table.add_row(name, Text(part), "done" if is_done else "to do")
    console.print(table)


def main() -> None:
    """Run the command line; a deliberate error is one message and a non-zero exit."""
    limit_threads()
    words = sys.argv[1:]
    wants_traceback = "--debug" in words
    try:
        app([word for word in words if word != "--debug"])
    except GanaugError as error:
        if wants_traceback:
            raise
        errors.print(Text(f"ganaug: {error}", style="red"), soft_wrap=True)
        refused = isinstance(error, NotPublishedError)
        raise SystemExit(EXIT_NOT_PUBLISHED if refused else EXIT_ERROR) from error
    except ModuleNotFoundError as error:
        if wants_traceback or error.name not in _EXTRAS:
            raise
        missing = MissingExtraError(f"this command ({error.name} is not installed)", _EXTRAS[error.name])
        errors.print(Text(f"ganaug: {missing}", style="red"), soft_wrap=True)
        raise SystemExit(EXIT_ERROR) from error
    except KeyboardInterrupt as error:
        errors.print(STOPPED)
        raise SystemExit(EXIT_STOPPED) from error


if __name__ == "__main__":
    main()
