"""Deployments on a real Prefect server, with a real worker: cron, events, kills and restarts."""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.growing import SMALL, write_digits, write_first
from support.prefect_server import kill_tree, running_server

from ganaug.config import Config, load
from pipeline.deploy import Deploying, as_yaml, check_server, entries

WORDS = [word for key, value in SMALL.items() for word in (f"--{key}", value)] + ["--device", "cpu"]
ROOT = Path(__file__).parents[2]


def test_the_repository_s_prefect_yaml_is_what_deploy_prints():
    assert (ROOT / "prefect.yaml").read_text() == as_yaml(load(None), Deploying())


def test_parameters_are_the_settings_that_were_given_and_no_others():
    chosen = load(None, {"train.steps": "77", "split.keep": "{3: 7}"}, data="photos")
    given = entries(chosen, Deploying())[0]["parameters"]
    assert given["config"] == {
        "data": {"path": "photos"},
        "train": {"steps": 77},
        "split": {"keep": {"3": 7}},
    }
    assert Config.model_validate(given["config"]) == chosen
    # The bundled digits are cut for the trial; a run by hand and one of the deployment are the same.
    assert Config.model_validate(entries(load(None), Deploying())[0]["parameters"]["config"]) == load(None)


def test_without_a_server_the_error_says_what_to_do(tmp_path):
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""}
    for url, told in (("", "prefect server start"), ("http://127.0.0.1:9/api", "does not answer")):
        done = subprocess.run(
            [sys.executable, "-m", "ganaug.cli", "deploy"],
            env={**environment, **({"PREFECT_API_URL": url} if url else {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_a_server_that_is_still_starting_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def start_late():
        time.sleep(2)
        with http.server.HTTPServer(("127.0.0.1", port), Healthy) as server:
            server.handle_request()

    late = threading.Thread(target=start_late)
    late.start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        check_server()
    late.join(timeout=10)
    assert not late.is_alive()


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture
def images(tmp_path):
    write_first(tmp_path / "images")
    return tmp_path


def deployments(server):
    return {one["entrypoint"]: one for one in server.ask("deployments/filter", {}) if one["name"] == "images"}


SAME = ("parameters", "tags", "work_pool_name", "job_variables", "description", "concurrency_options")


@pytest.mark.servers
def test_deploy_makes_what_is_needed_once_and_a_prefect_yaml_makes_the_same(server, images):
    for _ in range(2):
        said = server.ganaug(images, "deploy", "images", *WORDS, "--cron", "5 3 * * 1", "--gpus", "2")
        assert "deployment balance/images" in said
    made = deployments(server)
    assert set(made) == {
        "pipeline.flows.balance",
        "pipeline.flows.retrain_class",
        "pipeline.production.production",
    }
    nightly = made["pipeline.flows.balance"]
    assert [one["schedule"]["cron"] for one in nightly["schedules"]] == ["5 3 * * 1"]
    assert nightly["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert server.ask("v2/concurrency_limits/gpu", method="GET")["limit"] == 2
    assert server.ask("work_pools/ganaug", method="GET")["type"] == "process"
    names = sorted(one["name"] for one in server.ask("automations/filter", {}))
    assert names == [
        "balance when images changed",
        "ganaug: a run that died goes on",
        "ganaug: a run that never began is taken again",
    ]
    # The forms of Prefect's page: each setting with its meaning.
    fields = nightly["parameter_openapi_schema"]["definitions"]["TrainConfig"]["properties"]
    assert fields["patience"]["description"].startswith("Training stops after so many examinations")
    with pytest.raises(urllib.error.HTTPError):
        server.start_run("balance/images", {"config": {"train": {"patience": -1}}})
    text = server.ganaug(images, "deploy", "images", *WORDS, "--cron", "5 3 * * 1", "--print")
    tree = yaml.safe_load(text)
    for one in tree["deployments"]:
        one["work_pool"]["job_variables"]["working_dir"] = str(images)
    (images / "prefect.yaml").write_text(yaml.safe_dump(tree))
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=images,
        env=server.environment,
        check=True,
        capture_output=True,
    )
    for entrypoint, one in deployments(server).items():
        assert {key: one[key] for key in SAME} == {key: made[entrypoint][key] for key in SAME}, entrypoint


def deploy(server, images, name, *words):
    """Of a name of its own, so that no test waits for what another has left running."""
    return server.ganaug(images, "deploy", "images", *WORDS, "--name", name, *words)


def wait_until(is_so, within_s=300):
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


@pytest.mark.servers
def test_a_cron_run_whose_worker_is_killed_goes_on_with_the_next_worker(server, images):
    deploy(server, images, "nightly", "--cron", "* * * * *")
    began = time.time()

    def running():
        own = [run for run in server.flow_runs() if run["auto_scheduled"] and run["state_type"] == "RUNNING"]
        return [run for run in own if run["work_pool_name"] == "ganaug"]

    run_folder = images / "runs" / "nightly-series" / "0001"
    with server.worker() as worker:
        run = wait_until(running)[0]
        wait_until(
            lambda: (run_folder / "train" / "base.partial").exists() or (run_folder / "export").exists()
        )
        kill_tree(worker)
    classifiers = (run_folder / "train" / "classifiers" / "step.json").read_bytes()
    with server.worker():
        ended = server.wait_for(run["id"], "COMPLETED", "FAILED")
        deploy(server, images, "nightly", "--cron", "")
    assert (ended["state_name"], ended["run_count"]) == ("Completed", 2)
    assert ended["name"] == "refresh nightly"
    assert time.time() - began < 600
    # The training of the classifiers had ended before, and was not done again.
    assert (run_folder / "train" / "classifiers" / "step.json").read_bytes() == classifiers
    assert json.loads((run_folder / "outcome.json").read_text())["kind"] == "first"
    names = {one["name"] for one in server.ask("task_runs/filter", {"limit": 200})}
    assert "train 003-3 of nightly" in names


@pytest.mark.servers
def test_a_run_that_an_event_begins_outlives_a_restart_of_the_server(server, images):
    deploy(server, images, "watched", "--cron", "")
    run_folder = images / "runs" / "watched-series" / "0001"
    before = {run["id"] for run in server.flow_runs()}
    with server.worker():
        server.ganaug(images, "watch", "images", "--name", "watched", "--once")
        (run,) = wait_until(
            lambda: [
                run
                for run in server.flow_runs()
                if run["id"] not in before and run["state_type"] == "RUNNING"
            ]
        )
        assert run["created_by"]["display_value"] == "balance when watched changed"
        wait_until(lambda: (run_folder / "train").exists())
        server.kill()
        time.sleep(5)
        server.start()
        assert server.wait_for(run["id"], "COMPLETED", "FAILED")["state_name"] == "Completed"
        write_digits(images / "images", 3, 15, 20)
        retrained = server.start_run("retrain-class/watched", {"class_name": "3"})
        ended = server.wait_for(retrained, "COMPLETED", "FAILED")
    assert (ended["state_name"], ended["name"]) == ("Completed", "retrain 3 of watched")
    query = {"logs": {"flow_run_id": {"any_": [retrained]}}, "limit": 200}

    def told():
        return [one["message"] for one in server.ask("logs/filter", query)]

    # They are sent in batches.
    wait_until(lambda: any(re.fullmatch(r"train 003-3: \d+\.\d s", line) for line in told()))
    outcome = json.loads((run_folder.parent / "0002" / "outcome.json").read_text())
    assert outcome["warm"] == ["003-3"]


@pytest.mark.servers
def test_serve_runs_the_flows_from_one_process(server, images):
    words = ["-m", "ganaug.cli", "serve", "images", *WORDS, "--name", "served", "--cron", ""]
    with (images / "log").open("wb") as log:
        serving = subprocess.Popen(
            [sys.executable, *words], cwd=images, env=server.environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: "produce/served" in (images / "log").read_text() or serving.poll() is not None)
        assert serving.poll() is None, (images / "log").read_text()
        model = str(ROOT / "exported" / "digits@1")
        run = server.start_run(
            "produce/served", {"config": {"model": model, "out": "made", "count": 3, "device": "cpu"}}
        )
        ended = server.wait_for(run, "COMPLETED", "FAILED")
        assert ended["state_name"] == "Completed", (images / "log").read_text()
        assert ended["name"].startswith("produce with ")
        assert list((images / "made").glob("**/*.parquet"))
    finally:
        kill_tree(serving)
