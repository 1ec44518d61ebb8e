"""What the terminal shows: one progress display while a run goes on, one table at its end."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ganaug.report.collect import ClassRow


# Rough shares of a run's time on a CPU, for the bar of the whole; nothing else rests on them.
_WEIGHTS = {"train": 50, "evaluate": 40, "split": 5, "export": 5, "produce": 5, "screen": 5}
_QUIET_EVERY_S = 15.0


class Display:
    """A `Listener` that draws: the whole run, and under it the step and class at work.

    Where the output is no terminal (a log file, a scheduler) it prints a line when a step
    ends and every 15 seconds in between.
    """

    def __init__(self, console: Console, steps: list[str]) -> None:
        self._console = console
        self._weights = {step: _WEIGHTS.get(step, 1) for step in steps}
        self._parts = dict.fromkeys(steps, 1)
        self._finished = dict.fromkeys(steps, 0)
        self._began: dict[tuple[str, str], tuple[float, int]] = {}
        self._last_line_s = time.monotonic()
        self._lock = threading.Lock()
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.fields[step]:<10}"),
            TextColumn("{task.fields[part]:<16}", style="cyan"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]:>16}", style="green"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task(
            "", step="run", part="", rate="", total=sum(self._weights.values())
        )

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def planned(self, step: str, parts: int) -> None:
        """Learn in how many parts a step is done."""
        with self._lock:
            self._parts[step] = max(1, parts)

    def advanced(self, step: str, part: str, done: int, total: int) -> None:
        """Move the bar of a part."""
        with self._lock:
            now = time.monotonic()
            # A resumed part begins in the middle: its rate counts from where it began.
            began_s, began_at = self._began.setdefault((step, part), (now, done))
            elapsed_s = now - began_s
            rate = f"{(done - began_at) / elapsed_s:,.0f} images/s" if elapsed_s > 0.5 else ""
            if (step, part) not in self._bars:
                self._bars[step, part] = self._progress.add_task("", step=step, part=part, rate="")
            self._progress.update(self._bars[step, part], completed=done, total=total, rate=rate)
            self._move_whole(step, done / max(1, total))
            if not self._console.is_terminal and now - self._last_line_s > _QUIET_EVERY_S:
                self._last_line_s = now
                left = (
                    f", {elapsed_s / (done - began_at) * (total - done):.0f} s left"
                    if done > began_at
                    else ""
                )
                self._console.print(f"{_title(step, part)}: {done / max(1, total):.0%} {rate}{left}")

    def finished(self, step: str, part: str, *, seconds: float, was_done: bool) -> None:
        """Take the bar of a part away and leave one line."""
        with self._lock:
            self._finished[step] += 1
            if (step, part) in self._bars:
                self._progress.remove_task(self._bars.pop((step, part)))
            self._move_whole(step, 0.0)
            took = "done before" if was_done else f"{seconds:.1f} s"
            self._progress.console.print(Text.assemble(("✓ ", "green"), f"{_title(step, part):<28} {took}"))

    def _move_whole(self, step: str, fraction: float) -> None:
        finished = sum(
            weight * min(1.0, self._finished[name] / self._parts[name])
            for name, weight in self._weights.items()
        )
        moving = self._weights.get(step, 1) / self._parts.get(step, 1) * fraction
        self._progress.update(self._whole, completed=finished + moving)


def _title(step: str, part: str) -> str:
    return f"{step} {part}".strip()


def class_table(rows: list[ClassRow]) -> Table:
    """The table at the end of a run: one row per class."""
    table = Table(title="Classes", title_justify="left")
    table.add_column("class")
    for name in ("real", "deficit", "produced", "kept", "recall before", "recall after"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            Text(row.class_name),
            *(f"{count:,}" for count in (row.real, row.deficit, row.produced, row.kept)),
            *("-" if recall is None else f"{recall:.1%}" for recall in (row.recall_before, row.recall_after)),
        )
    return table
