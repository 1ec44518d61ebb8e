"""What a run shows: artifacts, events, names, and figures for monitoring."""

import base64
import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.growing import SMALL, write_first
from support.prefect_server import running_server

from ganaug.metrics import Metric, as_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A server that a run has reported to, and the folder of the run."""
    where = tmp_path_factory.mktemp("seen")
    write_first(where / "images")
    words = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    with running_server(where / "prefect") as server:
        words += ["--pipeline.metrics-file", "metrics/ganaug.prom", "--publish.store", "store"]
        server.ganaug(where, "run", "images", "--device", "cpu", *words)
        yield server, where


def artifacts(server):
    return {one["key"].removeprefix("images-"): one for one in server.ask("artifacts/filter", {})}


def events_until(server, last, within_s=60):
    """All events of ganaug, once the one that is told last is there: the server writes them down in its own time."""
    query = {"filter": {"event": {"prefix": ["ganaug."]}}, "limit": 50}
    deadline = time.monotonic() + within_s
    while True:
        events = server.ask("events/filter", query)["events"]
        if last in {one["event"] for one in events} or time.monotonic() > deadline:
            return events
        time.sleep(0.5)


def test_the_plan_the_samples_the_verdict_and_the_report_are_artifacts(seen):
    server, where = seen
    found = artifacts(server)
    plan = json.loads(found["plan"]["data"])
    assert [row["class"] for row in plan] == ["0", "1", "2", "3"]
    picture = found["samples"]["data"].partition("base64,")[2]
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    verdict = json.loads((where / "runs/images/evaluate/verdict.json").read_text())
    assert verdict["sentence"] in found["verdict"]["data"]
    assert (where / "runs/images/report/report.html").as_uri() in found["report"]["data"]
    assert found["progress"]["data"] == 100.0


def test_runs_and_tasks_say_dataset_and_class(seen):
    server, _ = seen
    assert [run["name"] for run in server.flow_runs()] == ["balance images"]
    names = {one["name"] for one in server.ask("task_runs/filter", {"limit": 200})}
    assert {"split of images", "train base of images", "train 002-2 of images", "report of images"} <= names


def test_each_step_and_the_run_are_events(seen):
    server, _ = seen
    events = events_until(server, "ganaug.run.done")
    steps = {
        (one["resource"]["ganaug.step"], one["resource"]["ganaug.part"])
        for one in events
        if one["event"] == "ganaug.step.done"
    }
    assert {("split", ""), ("train", "base"), ("export", "003-3"), ("report", "")} <= steps
    (done,) = [one for one in events if one["event"] == "ganaug.run.done"]
    assert done["payload"]["verdict"] in {"helps", "no difference", "cannot tell", "hurts"}
    assert done["resource"]["prefect.resource.id"] == "ganaug.run.images"


def test_the_metrics_file_is_what_prometheus_reads(seen):
    _, where = seen
    text = (where / "metrics" / "ganaug.prom").read_text()
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    kinds = {(one.labels["class"], one.labels["kind"]): one.value for one in families["ganaug_images"]}
    assert kinds["2", "real"] == 9
    assert kinds["2", "produced"] > 0
    assert sum(one.value for one in families["ganaug_verdict"]) == 1
    assert {one.labels["step"] for one in families["ganaug_step_seconds"]} >= {"train", "evaluate", "report"}
    assert all(one.labels["dataset"] == "images" for samples in families.values() for one in samples)


def test_the_metrics_verb_prints_the_same_of_any_run(seen):
    server, where = seen
    printed = server.ganaug(where, "metrics", "runs/images")
    written = (where / "metrics" / "ganaug.prom").read_text()
    assert [line for line in printed.splitlines() if "checked" not in line] == [
        line for line in written.splitlines() if "checked" not in line
    ]


def test_names_with_quotes_and_line_breaks_are_still_one_line_each():
    awkward = 'say "cheese"\\\nplease'
    text = as_text([Metric("ganaug_published", 1.0, {"dataset": awkward})])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels["dataset"] == awkward
