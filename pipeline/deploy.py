"""Deployments: ganaug's flows on a Prefect server, with what they need there.

One table (`entries`) says what is deployed; `deploy` puts it on a server for workers, `serve` runs it
from one process, and `as_yaml` writes it as a `prefect.yaml` for `prefect deploy`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import prefect
import yaml
from prefect import Flow, get_client
from prefect.automations import AutomationCore, EventTrigger
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict, PositiveInt

from ganaug.config import Config
from ganaug.errors import PipelineError
from ganaug.produce import Production
from ganaug.steps import run_name
from pipeline.events import DATASET_CHANGED, dataset_resource
from pipeline.flows import balance, retrain_class
from pipeline.production import production
from pipeline.tasks import GPU_LIMIT

HEARTBEAT_S = 30
"""How often a run tells that it lives; Prefect takes no less."""
MISSED_S = 3 * HEARTBEAT_S
"""A run that has not told for so long has died with its worker."""
PENDING_S = 300
"""A run that was taken and has not begun after so long has died too."""
_START_S = 120
_WAIT_S = 20
_FLOWS: dict[str, Flow[..., Any]] = {
    "balance": balance,
    "retrain-class": retrain_class,
    "produce": production,
}


class Deploying(BaseModel):
    """Where and when the flows run.

    Attributes:
        pool: The work pool.
        cron: When `balance` runs; empty: never by itself.
        timezone: Of the cron line.
        gpus: Tasks that may hold a GPU at the same time.
        working_dir: Where runs work: relative paths of the settings start there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str = "ganaug"
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    gpus: PositiveInt = 1
    working_dir: Path = Path()


def entries(config: Config, how: Deploying) -> list[dict[str, Any]]:
    """What is deployed, in the words of `prefect.yaml`.

    Args:
        config: The settings of the runs; those that are not defaults become parameters, which the forms
            of Prefect's page show and change.
        how: Where and when.
    """
    name = run_name(config)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    made = Production(
        model=name if config.publish.name == "auto" else config.publish.name, out=f"synthetic/{name}"
    )
    produced = {**made.model_dump(mode="json", exclude_defaults=True), "count": 1000}
    # One at a time: a run that comes while another is at work waits for it.
    queued = {"limit": 1, "collision_strategy": "ENQUEUE"}
    pool = {
        "name": how.pool,
        "job_variables": {"working_dir": str(how.working_dir.resolve()), "env": _environment(config)},
    }
    changed = {
        "type": "event",
        "match": {"prefect.resource.id": dataset_resource(config)},
        "expect": [DATASET_CHANGED],
    }
    common = {"work_pool": pool, "concurrency_limit": queued, "tags": ["ganaug"]}
    return [
        {
            "name": name,
            "entrypoint": "pipeline.flows.balance",
            "description": "Go on from the last run where the data have changed; else do nothing.",
            "parameters": {"config": settings, "refresh": True},
            "schedules": [{"cron": how.cron, "timezone": how.timezone}] if how.cron else [],
            "triggers": [changed],
            **common,
        },
        {
            "name": name,
            "entrypoint": "pipeline.flows.retrain_class",
            "description": "Train one class's GAN on, and all that follows from it.",
            "parameters": {"config": settings},
            **common,
        },
        {
            "name": name,
            "entrypoint": "pipeline.production.production",
            "description": "Make images with a published model.",
            "parameters": {"config": produced},
            **common,
        },
    ]


def _environment(config: Config) -> dict[str, str]:
    """What the environment of a deployed run says beside what its worker has."""
    return {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        # The store's history says who published: the deployment, not the user that workers run as.
        "GANAUG_WHO": f"deployment of {run_name(config)}",
    }


def as_yaml(config: Config, how: Deploying) -> str:
    """The text of a `prefect.yaml` that deploys the same."""
    tree = {"name": "ganaug", "prefect-version": prefect.__version__, "pull": None}
    found = entries(config, how)
    if how.working_dir == Path():
        # A file is for any checkout: runs then work where their worker does.
        for entry in found:
            entry["work_pool"] = {
                **entry["work_pool"],
                "job_variables": {"env": entry["work_pool"]["job_variables"]["env"]},
            }
    return yaml.dump({**tree, "deployments": found}, Dumper=_Plain, sort_keys=False, width=110)


class _Plain(yaml.SafeDumper):
    """Without anchors, which nobody likes to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def deploy(config: Config, how: Deploying) -> list[str]:
    """Create or renew work pool, concurrency limit, deployments and automations on the server.

    Returns:
        The full name of each deployment.

    Raises:
        PipelineError: No server is configured, or it does not answer.
    """
    check_server()
    _make_pool(how)
    _make_common(how)
    return [_apply(one, how.pool) for one in _deployments(config, how)]


def serve(config: Config, how: Deploying) -> None:
    """Run what is deployed from this process, until it is stopped; with a server of its own where none is.

    Raises:
        PipelineError: The server does not start.
    """
    with _server():
        _make_common(how)
        # Only a work pool takes job variables; runs of this process have its environment and folder.
        os.environ |= _environment(config)
        prefect.serve(*_deployments(config, how, in_pool=False), limit=1)


def check_server() -> None:
    """Make sure that there is a server that lasts.

    Raises:
        PipelineError: None is configured, or it has not answered for some seconds.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise PipelineError(
            "no Prefect server is configured. Start one (`prefect server start`), tell where it is "
            "(`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`), and give the command again; "
            "or use `ganaug serve`, which starts one itself."
        )
    # It may have been started a moment ago, and takes some seconds to answer.
    deadline = time.monotonic() + _WAIT_S
    while not _answers(url):
        if time.monotonic() > deadline:
            raise PipelineError(
                f"the Prefect server at {url} does not answer; is `prefect server start` running?"
            )
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=10).close()  # noqa: S310 - what the user configured
    except urllib.error.HTTPError as error:
        # It answers, and asks who we are.
        error.close()
    except OSError:
        return False
    return True


@contextmanager
def _server() -> Iterator[None]:
    """The server that is configured, or one of this process's own on Prefect's usual port."""
    if PREFECT_API_URL.value():
        check_server()
        yield
        return
    url = "http://127.0.0.1:4200/api"
    if _answers(url):
        with temporary_settings({PREFECT_API_URL: url}):
            yield
        return
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", "4200"]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PipelineError("the Prefect server did not start; `prefect server start` says why")
            time.sleep(0.5)
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        process.terminate()
        process.wait()


def _deployments(config: Config, how: Deploying, *, in_pool: bool = True) -> list[RunnerDeployment]:
    found = []
    for (flow_name, flow), entry in zip(_FLOWS.items(), entries(config, how), strict=True):
        assert flow.name == flow_name
        limit = entry["concurrency_limit"]
        found.append(
            RunnerDeployment.from_flow(
                flow,
                name=entry["name"],
                description=entry["description"],
                parameters=entry["parameters"],
                schedules=[CronSchedule(**one) for one in entry.get("schedules", ())],
                concurrency_limit=ConcurrencyLimitConfig(**limit),
                triggers=[
                    DeploymentEventTrigger(
                        name=f"{flow_name} when {entry['name']} changed",
                        match=one["match"],
                        expect=set(one["expect"]),
                    )
                    for one in entry.get("triggers", ())
                ],
                tags=entry["tags"],
                job_variables=entry["work_pool"]["job_variables"] if in_pool else {},
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        )
    return found


def _apply(deployment: RunnerDeployment, pool: str) -> str:
    deployment.apply(work_pool_name=pool)
    return deployment.full_name


def _make_pool(how: Deploying) -> None:
    with get_client(sync_client=True) as client:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.create_work_pool(WorkPoolCreate(name=how.pool, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            known = client.read_work_pool(how.pool)
            if known.type != "process":
                raise PipelineError(
                    f"the work pool {how.pool!r} is there and of type {known.type}, not process; choose another "
                    "with --pool"
                ) from None


def _make_common(how: Deploying) -> None:
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, how.gpus)
        for automation in _automations():
            known = client.find_automation(automation.name)
            if known is None:
                client.create_automation(automation)
            elif _as_said(known) != _as_said(automation):
                # Renewed only then: the server forgets which runs it was waiting to hear from.
                client.update_automation(known.id, automation)


def _as_said(automation: AutomationCore) -> dict[str, Any]:
    """What an automation does, without what the server adds."""
    fields = {"name": True, "description": True, "trigger": True, "actions": True}
    return automation.model_dump(mode="json", include=fields, exclude={"trigger": {"id"}})


def _automations() -> Sequence[AutomationCore]:
    """Runs whose process died with its worker are done again: the run folder has what was done."""
    ended = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    going = {"prefect.flow-run.heartbeat"}

    def again(name: str, after: set[str], expect: set[str], within_s: int, why: str) -> AutomationCore:
        return AutomationCore(
            name=name,
            description=why,
            trigger=EventTrigger(
                after=after,
                expect=expect,
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.ganaug"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=within_s),
            ),
            actions=[
                ChangeFlowRunState(state=StateType.SCHEDULED, name="Scheduled", message=why, force=True)
            ],
        )

    return [
        again(
            "ganaug: a run that died goes on",
            going,
            going | ended,
            MISSED_S,
            "no sign of life: the run goes on from what it had done",
        ),
        again(
            "ganaug: a run that never began is taken again",
            {"prefect.flow-run.Pending"},
            {"prefect.flow-run.Running"} | ended,
            PENDING_S,
            "taken by a worker and never begun",
        ),
    ]
