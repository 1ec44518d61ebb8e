"""A run's figures for monitoring, in Prometheus' text format."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ganaug.run import STEP_FILE, RunFolder, write_atomically
from ganaug.steps import STEPS, run_name

_HELP = {
    "ganaug_step_seconds": "Seconds that the parts of a step took together.",
    "ganaug_step_parts": "Parts of a step that are done.",
    "ganaug_peak_rss_bytes": "Largest resident memory of a process, over the parts of a step.",
    "ganaug_images": "Images of a class: real, produced, kept by the screen.",
    "ganaug_recall": "Recall of a class on real held-out images: before, and after with synthetic images.",
    "ganaug_macro_f1_difference": "Macro-F1 with synthetic images minus that of the best arm without.",
    "ganaug_macro_f1_difference_low": "Lower end of its interval.",
    "ganaug_macro_f1_difference_high": "Upper end of its interval.",
    "ganaug_verdict": "1 for the verdict of the evaluation, 0 for the others.",
    "ganaug_published": "Whether the model was published.",
    "ganaug_current_version": "Version of the model that is current in the store.",
    "ganaug_finished_timestamp_seconds": "When the last step ended.",
    "ganaug_checked_timestamp_seconds": "When this was written: at each run, whether or not it had anything to do.",
}
VERDICTS = ("helps", "no difference", "cannot tell", "hurts")


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        name: Prometheus' name.
        value: The number.
        labels: What it is of.
    """

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


def read_metrics(run: RunFolder) -> list[Metric]:
    """What is known of a run so far."""
    dataset = {"dataset": run_name(run.config)}
    checked = Metric("ganaug_checked_timestamp_seconds", round(time.time(), 3))
    found = (*_of_steps(run), *_of_classes(run), *_of_verdict(run), *_of_publishing(run), checked)
    return [Metric(one.name, one.value, {**dataset, **one.labels}) for one in found]


def as_text(metrics: Sequence[Metric]) -> str:
    """Prometheus' text format.

    >>> print(as_text([Metric("ganaug_published", 1.0, {"dataset": "photos"})]), end="")
    # HELP ganaug_published Whether the model was published.
    # TYPE ganaug_published gauge
    ganaug_published{dataset="photos"} 1.0
    """
    lines = []
    for name, about in _HELP.items():
        own = [metric for metric in metrics if metric.name == name]
        if own:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{_labels(metric.labels)}}} {metric.value!r}" for metric in own]
    return "\n".join(lines) + "\n"


def write_metrics(run: RunFolder, path: Path) -> None:
    """Write the file anew, so that who scrapes it sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_text(read_metrics(run)))


def _labels(labels: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())


def _of_steps(run: RunFolder) -> Iterator[Metric]:
    records = run.records()
    for step in STEPS:
        own = [record for record in records if record.step == step]
        if own:
            labels = {"step": step}
            yield Metric("ganaug_step_seconds", round(sum(record.seconds for record in own), 3), labels)
            yield Metric("ganaug_step_parts", float(len(own)), labels)
            yield Metric("ganaug_peak_rss_bytes", float(max(r.peak_rss_bytes for r in own)), labels)
    times = [path.stat().st_mtime for path in run.folder.glob(f"*/{STEP_FILE}")]
    if times:
        yield Metric("ganaug_finished_timestamp_seconds", round(max(times), 3))


def _of_classes(run: RunFolder) -> Iterator[Metric]:
    from ganaug.report.collect import class_rows

    if run.record("plan") is None:
        return
    for row in class_rows(run.folder):
        labels = {"class": row.class_name}
        for kind in ("real", "produced", "kept"):
            yield Metric("ganaug_images", float(getattr(row, kind)), {**labels, "kind": kind})
        for arm, recall in (("before", row.recall_before), ("after", row.recall_after)):
            if recall is not None:
                yield Metric("ganaug_recall", recall, {**labels, "arm": arm})


def _of_verdict(run: RunFolder) -> Iterator[Metric]:
    if run.record("evaluate") is None:
        return
    found = json.loads((run.path("evaluate") / "verdict.json").read_text(encoding="utf-8"))
    for key, name in (("difference", ""), ("low", "_low"), ("high", "_high")):
        if found.get(key) is not None:
            yield Metric(f"ganaug_macro_f1_difference{name}", float(found[key]))
    for verdict in VERDICTS:
        yield Metric("ganaug_verdict", float(found["verdict"] == verdict), {"verdict": verdict})


def _of_publishing(run: RunFolder) -> Iterator[Metric]:
    record = run.record("publish")
    if record is None:
        return
    yield Metric("ganaug_published", float(record.summary["published"]))
    if record.summary.get("current") is not None:
        yield Metric("ganaug_current_version", float(record.summary["current"]))
