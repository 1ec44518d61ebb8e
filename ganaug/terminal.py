"""What the verbs of the command line share: how settings are told, and how a step is done and shown."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import inspect
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ganaug import config as settings
from ganaug import steps
from ganaug.classifier_name import kind_of
from ganaug.config import Config
from ganaug.display import Display, class_table
from ganaug.errors import SettingsError
from ganaug.fetch import cache_folder
from ganaug.own_arm import is_path
from ganaug.progress import listening, to_listener
from ganaug.run import Outcome, RunFolder, perform


class PlainConsole(Console):
    """A console that shows control characters of names from elsewhere, and does not obey them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as `Console` does."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(_SHOWN), segment.style)


# As the pictures that Unicode has of them: a file name may clear the screen, or write over a line.
_SHOWN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_SHOWN |= dict.fromkeys((0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)

console = PlainConsole()
errors = PlainConsole(stderr=True)
EXIT_STOPPED = 130
STOPPED = "stopped; what is done is kept, and the same command goes on from there"
LONGEST, WHOLE = 400, {"sentence", "reason", "warnings"}
"""Longer entries of a step's summary, but for these, stand in its `step.json` alone."""

Rest = Annotated[
    str,
    Parameter(
        name=["PATH"],
        allow_leading_hyphen=True,
        help="Your images: a folder with a folder per class (optionally under train/ and test/), the same in a "
        ".zip or .tar, a .csv or .parquet table, or an .npz. Nothing: the bundled digits.",
    ),
]
ConfigFile = Annotated[
    Path | None, Parameter(help="YAML file of settings, as --print-config prints them.", negative=())
]
RunDir = Annotated[Path | None, Parameter(help="The run folder; nothing: runs/<name of the dataset>.")]
DeviceName = Annotated[str | None, Parameter(help="auto, cpu or cuda.")]
Flag = Annotated[bool, Parameter(negative=())]


def do_step(step: str, chosen: Config, part: str | None) -> list[Outcome]:
    """Do one step on the run folder, and `split` before `plan`, which nobody asks for alone."""
    folder, outcomes = steps.open_run(chosen), []
    with folder.locked(), Display(console, list(steps.STEPS)) as display, listening(display):
        for name in ["split", "plan"] if step == "plan" else [step]:
            names = steps.parts(folder, name) if part is None else _matching_parts(folder, name, part)
            display.planned(name, len(names))
            for one in names:
                outcome = perform(folder, steps.STEPS[name], one, to_listener(name, one))
                display.finished(name, one, seconds=outcome.record.seconds, was_done=outcome.was_done)
                _show_summary(outcome.folder, outcome.record.summary)
                outcomes.append(outcome)
    return outcomes


def _matching_parts(folder: RunFolder, step: str, wanted: str) -> Sequence[str]:
    known = steps.parts(folder, step)
    found = [part for part in known if wanted in {part, part.partition("-")[2]}]
    if not found:
        raise SettingsError(
            [f"--part: {step} has no part {wanted!r}; it has {', '.join(filter(None, known))}"]
        )
    return found


def fields_page(step: str) -> str:
    """The settings of a step, for its `--help`."""
    names = ["data", "split"] if step == "split" else [step]
    lines = []
    for name in names:
        section = Config.model_fields[name].annotation
        for field, info in section.model_fields.items():  # type: ignore[union-attr]
            option = f"--{name}.{field.replace('_', '-')}"
            lines.append(f"{option}  [{info.default}]  {' '.join((info.description or '').split())}")
    # A paragraph each: single line breaks would run together.
    return (
        "Settings of this step:\n\n" + "\n\n".join(lines) + "\n\nThe run's other settings stay as they are."
    )


def below(verb: Callable[..., None], section: str = "") -> str:
    """What stands under a verb's help: its examples, which cyclopts leaves out, and the settings of a section."""
    text = inspect.cleandoc(verb.__doc__ or "")
    lines = text.partition("Examples:\n")[2].partition("Args:\n")[0].splitlines()
    examples = "\n\n".join(line.strip() for line in lines if line.strip())
    pages = [f"Examples:\n\n{examples}" if examples else "", fields_page(section) if section else ""]
    return "\n\n".join(filter(None, pages))


def settings_of(
    tokens: Sequence[str],
    file: Path | None,
    folder: Path | None,
    device: str | None,
    *,
    continues: bool = False,
) -> Config:
    """Settings from the command line; a verb that continues a run starts from that run's.

    Raises:
        SettingsError: They cannot be used; or the run's name code that this user never gave.
    """
    data, overrides = _parse_tokens(tokens)
    if folder is not None:
        overrides["run_dir"] = str(folder)
    if device is not None:
        overrides["device"] = device
    chosen = settings.load(file, overrides, data=data)
    _remember(_own_code(chosen))
    stored = steps.run_dir(chosen) / "config.yaml"
    if file is None and stored.is_file() and (continues or (folder is not None and data is None)):
        known = settings.load(stored, overrides, data=data)
        _check_given(_own_code(known) - _own_code(chosen), stored)
        return known
    return chosen


def _own_code(chosen: Config) -> set[str]:
    """The programs and functions of a user's own that settings have called."""
    arms = chosen.evaluate.arms
    named = {arm for arm in ([] if isinstance(arms, str) else arms) if is_path(arm)}
    classifier = chosen.evaluate.classifier
    return named | ({classifier} if kind_of(classifier) != "built-in" else set())


def _note_of(code: str) -> Path:
    return cache_folder() / "own-code" / hashlib.sha256(code.encode()).hexdigest()


def _remember(given: set[str]) -> None:
    """Note what this user has given by option or settings file: a run that has it may be gone on with."""
    for code in given:
        # Where nothing can be noted it has to be given again with each verb.
        with contextlib.suppress(OSError):
            _note_of(code).parent.mkdir(parents=True, exist_ok=True)
            _note_of(code).touch()


def _check_given(code: set[str], stored: Path) -> None:
    """Refuse code that only a run folder names: whoever made the folder would run it here.

    Raises:
        SettingsError: This user never gave it.
    """
    if strange := sorted(one for one in code if not _note_of(one).is_file()):
        raise SettingsError(
            [
                f"{stored} has {one!r} run, which was never given here. If the run is somebody else's, look at what "
                "that does; then give it once as an option (--evaluate.classifier or --evaluate.arms), or the whole "
                f"file with --config {stored}"
                for one in strange
            ]
        )


def _parse_tokens(tokens: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """Tell the path of the data from `--section.field value` options.

    Raises:
        SettingsError: A second path, or an option without its value.
    """
    data: str | None = None
    overrides: dict[str, Any] = {}
    problems = []
    pending = list(tokens)
    while pending:
        token = pending.pop(0)
        if not token.startswith("--"):
            if data is None:
                data = token
            else:
                problems.append(f"{token!r}: one path is enough, and {data!r} was given")
            continue
        key, has_value, value = token[2:].partition("=")
        if not has_value:
            if not pending or pending[0].startswith("--"):
                problems.append(f"--{key}: needs a value")
                continue
            value = pending.pop(0)
        overrides[key] = value
    if problems:
        raise SettingsError(problems)
    return data, overrides


def _show_summary(folder: Path, summary: dict[str, Any]) -> None:
    for key, value in summary.items():
        text = f"    {key}: {value}"
        if value not in (None, [], {}, "") and (key in WHOLE or len(text) <= LONGEST):
            console.print(Text(text), soft_wrap=True)
    console.print(Text(f"    in {folder}", style="dim"), soft_wrap=True)


def quiet_prefect() -> None:
    """Prefect's own settings, where the user has not set them."""
    # The embedded server takes up to 20 s, and longer on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The display tells what goes on; Prefect's log lines would tear it.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")


def gain(is_required: bool) -> list[str]:
    """The option that `--require-gain` stands for."""
    return ["--publish.require-gain", "true"] if is_required else []


def show_result(folder: RunFolder) -> None:
    """The table, the verdict and where the report is."""
    from ganaug.report.collect import class_rows

    console.print(class_table(class_rows(folder.folder)))
    split = folder.record("split")
    if split and split.summary["unreadable"]:
        listed = "; ".join(split.summary["first_unreadable"])
        text = f"! {split.summary['unreadable']} files could not be read and were left out ({listed}); "
        console.print(Text(text + f"all are in {folder.path('split') / 'unreadable.csv'}", style="yellow"))
    for warning in split.summary["warnings"] if split else []:
        console.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    for step, told in (("evaluate", "{verdict}: {sentence}"), ("publish", "{reason}")):
        record = folder.record(step)
        if record is not None:
            console.print(Text(told.format(**record.summary), style="bold" if step == "evaluate" else ""))
    console.print(Text(f"report: {folder.path('report') / 'report.html'}"), soft_wrap=True)


def stop_at_once_on_ctrl_c() -> None:
    """Make Ctrl-C end the process instead of waiting for the tasks that train in other threads.

    Nothing is lost: every step is made to be killed at any moment.
    """

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        console.show_cursor()
        errors.print(STOPPED)
        # The embedded server is stopped in an exit function; threads would be waited for after.
        atexit._run_exitfuncs()
        os._exit(EXIT_STOPPED)

    signal.signal(signal.SIGINT, stop)
