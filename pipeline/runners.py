"""Where tasks run: one place that makes Prefect's task runners of the settings."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from prefect import get_client
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from ganaug.config import CLUSTER_STEPS, Config, PipelineConfig, Resources
from ganaug.cores import cores
from ganaug.errors import MissingExtraError, SettingsError

AnyRunner = TaskRunner[PrefectFuture[Any]]
Node = Mapping[str, float]

ON_GPU = frozenset({"train", "produce", "evaluate"})
"""Steps that work on a GPU where there is one."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Runners:
    """Where the tasks of a flow run go while it runs.

    Attributes:
        there: For the steps that are worth other processes and machines.
        here: For the others: this process, which sees what relative paths mean.
        config: The settings.
    """

    there: AnyRunner
    here: AnyRunner
    config: Config

    def threads(self, step: str) -> int | None:
        """Processor threads that a task of the step computes with; None: as many as there are."""
        return threads_of(self.config.pipeline, step)

    def submit(
        self,
        step: str,
        task: Task[..., Any],
        parameters: dict[str, Any],
        before: Sequence[PrefectFuture[Any]] = (),
    ) -> PrefectFuture[Any]:
        """Hand a task of a step over to its runner, which waits for the resources that it needs.

        Args:
            step: The step.
            task: The task.
            parameters: What it is called with.
            before: The tasks that it needs; they are done, and Prefect shows them before it.
        """
        if step not in CLUSTER_STEPS:
            return self.here.submit(task, parameters, wait_for=before)
        # A future stays in its process; how it ended can travel.
        is_far = self.config.pipeline.is_cluster
        ends: Any = [future.state for future in before] if is_far else before
        with _holding(self.config.pipeline, resources_of(self.config, step)):
            return self.there.submit(task, parameters, wait_for=ends)


@contextlib.contextmanager
def running(config: Config, steps: Sequence[str] = CLUSTER_STEPS) -> Iterator[Runners]:
    """Start what the settings ask for, and stop it after the block.

    Args:
        config: The settings.
        steps: The steps whose tasks there will be.

    Raises:
        MissingExtraError: Ray or Dask is not installed.
        SettingsError: No node has what a step wants, or nodes cannot reach Prefect's server.
    """
    with (
        sharing_the_server(),
        make_runner(config.pipeline) as there,
        cast("AnyRunner", ThreadPoolTaskRunner(max_workers=1)) as here,
    ):
        check_cluster(config.pipeline, there, {step: resources_of(config, step) for step in steps})
        yield Runners(there, here, config)


def make_runner(settings: PipelineConfig) -> AnyRunner:
    """The task runner that the settings ask for.

    Raises:
        MissingExtraError: Ray or Dask is not installed.
    """
    # The casts: Prefect types a runner by the futures that it returns, and all of these are PrefectFutures.
    if settings.runner == "ray":
        with _explained("ray"):
            from prefect_ray import RayTaskRunner
        address = settings.cluster or os.environ.get("RAY_ADDRESS")
        # Said, because without an address Ray would look for a cluster that happens to run here.
        options: dict[str, Any] = {"address": address or "local", "log_to_driver": False}
        if not address:
            options["num_cpus"] = at_once(settings)
        return cast("AnyRunner", RayTaskRunner(init_kwargs=options))
    if settings.runner == "dask":
        with _explained("dask"):
            import dask
            from prefect_dask.task_runners import DaskTaskRunner
        if settings.cluster:
            return cast("AnyRunner", DaskTaskRunner(address=settings.cluster))
        # The processes of `evaluate` are children of a worker.
        dask.config.set({"distributed.worker.daemon": False})
        # It tells every coming and going, which the terminal's display would be torn by.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        local = {"n_workers": at_once(settings), "threads_per_worker": 1, "dashboard_address": None}
        return cast("AnyRunner", DaskTaskRunner(cluster_kwargs=local))
    kind = ProcessPoolTaskRunner if settings.runner == "processes" else ThreadPoolTaskRunner
    return cast("AnyRunner", kind(max_workers=at_once(settings)))


def at_once(settings: PipelineConfig) -> int:
    """Tasks at a time on this machine, `auto` resolved."""
    if settings.workers != "auto":
        return settings.workers
    return 1 if settings.runner == "threads" else cores()


def threads_of(settings: PipelineConfig, step: str) -> int | None:
    """Processor threads that a task of the step computes with; None: as many as there are.

    >>> threads_of(PipelineConfig(runner="ray", resources={"train": Resources(cpus=2)}), "train")
    2
    """
    if settings.threads is None and settings.is_cluster:
        return math.ceil(settings.resources.get(step, Resources()).cpus)
    return settings.threads


def resources_of(config: Config, step: str) -> Resources:
    """What a task of the step holds of a cluster.

    >>> resources_of(Config(device="cuda", train={"processes": 4}), "train").gpus
    4.0
    """
    gpus = 0
    if config.device == "cuda" and step in ON_GPU:
        # Processes that train one GAN together have a GPU each.
        gpus = config.train.processes if step == "train" else 1
    return config.pipeline.resources.get(step, Resources(gpus=gpus))


def check_cluster(settings: PipelineConfig, runner: AnyRunner, wanted: Mapping[str, Resources]) -> None:
    """Look whether tasks can run and report: else they would wait for ever.

    Args:
        settings: Section `pipeline`.
        runner: The runner, started.
        wanted: What a task of each step holds.

    Raises:
        SettingsError: No node has what a step wants, or nodes cannot reach Prefect's server.
    """
    if not settings.is_cluster:
        return
    hosts, nodes = _ray_nodes() if settings.runner == "ray" else _dask_nodes(runner)
    problems = []
    for step, resources in wanted.items():
        needs = _needs(settings, resources)
        if not any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes):
            words = " and ".join(f"{amount:g} {name}" for name, amount in needs.items())
            problems.append(
                f"pipeline.resources: a task of {step} wants {words}, and no node of the cluster has that; ask "
                f"for less, or start nodes with it ({_HOW[settings.runner]})"
            )
    server = str(get_current_settings().api.url)
    if len(hosts) > 1 and urlsplit(server).hostname in _LOOPBACK:
        problems.append(
            f"pipeline.cluster: {len(hosts)} machines do tasks, and Prefect's server at {server} can be reached from "
            "one of them; start `prefect server start --host 0.0.0.0` and set PREFECT_API_URL to its address"
        )
    if problems:
        raise SettingsError(problems)


_HOW = {
    "ray": "ray start --num-cpus 8 --num-gpus 1",
    "dask": 'dask worker --nthreads 8 --resources "CPU=8 GPU=1"',
}


@contextlib.contextmanager
def sharing_the_server() -> Iterator[None]:
    """Let tasks in other processes report to this one's server, not to one of their own each.

    Prefect hands its settings to every task, on any machine; so its address becomes one of them.
    """
    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


def this_node() -> str:
    """Name of the machine that runs this, and of the node on it where that is one of Ray's."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return f"{platform.node()} {ray.get_runtime_context().get_node_id()}"
    return platform.node()


@contextlib.contextmanager
def _holding(settings: PipelineConfig, resources: Resources) -> Iterator[None]:
    """Tasks that are submitted in the block wait until a node has these resources free."""
    if settings.runner == "ray":
        from prefect_ray.context import remote_options

        with remote_options(num_cpus=resources.cpus, num_gpus=resources.gpus):
            yield
    elif settings.runner == "dask":
        from dask.base import annotate

        with annotate(resources=_needs(settings, resources)):
            yield
    else:
        yield


def _needs(settings: PipelineConfig, resources: Resources) -> dict[str, float]:
    """Resources by their names in the cluster."""
    # A task of Dask holds a thread of its worker anyway; cores are known there only if they were declared.
    cpus = 0.0 if settings.runner == "dask" and resources.cpus == 1 else resources.cpus
    return {name: amount for name, amount in {"CPU": cpus, "GPU": resources.gpus}.items() if amount}


def _ray_nodes() -> tuple[set[str], list[Node]]:
    """Addresses of the machines, and the resources of each node."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return {node["NodeManagerAddress"] for node in nodes}, [node["Resources"] for node in nodes]


def _dask_nodes(runner: Any) -> tuple[set[str], list[Node]]:
    workers = runner.client.scheduler_info(n_workers=-1)["workers"].values()
    return {worker["host"] for worker in workers}, [worker["resources"] for worker in workers]


@contextlib.contextmanager
def _explained(extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"runner {extra} ({error.name} is not installed)", extra) from error
