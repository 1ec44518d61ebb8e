"""MLflow: a run's settings, figures and report, and its model in the registry, where that is asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

import ganaug
from ganaug.errors import MissingExtraError, PipelineError
from ganaug.run import RunFolder, write_atomically
from ganaug.steps import parts, run_name

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

RUN_FILE = "mlflow.json"
_BATCH = 500
"""Metrics in one call; the server takes 1,000."""
_LONGEST = 500


def track(run: RunFolder) -> str:
    """Send a finished run to the tracking server; done again it is the same run there.

    Params are the settings that are not defaults, metrics the verdict's figures, recalls, counts, seconds
    and the curves of the GANs; artifacts are the report, the settings and the verdict. A model that was
    published becomes a version of a registered model of its name.

    Returns:
        The id of the MLflow run.

    Raises:
        MissingExtraError: mlflow is not installed.
        PipelineError: The server does not answer, or refuses.
    """
    uri = str(run.config.pipeline.mlflow)
    # Its own seven tries take minutes; the run's results are safe, and the same command tries again.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise MissingExtraError("pipeline.mlflow", "mlflow") from error
    try:
        client = MlflowClient(uri, uri)
        run_id = _run_id(client, run, uri)
        _send(client, run, run_id)
    except (MlflowException, OSError) as error:
        raise PipelineError(
            f"the run could not be sent to MLflow at {uri}: {error}. All its results are in {run.folder}; "
            "mend pipeline.mlflow and give the command again."
        ) from error
    return run_id


def _run_id(client: MlflowClient, run: RunFolder, uri: str) -> str:
    """The MLflow run of a run folder, made when it is not there."""
    path = run.folder / RUN_FILE
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["uri"] == uri:
            return str(known["run_id"])
    name = run_name(run.config)
    experiment = client.get_experiment_by_name(name)
    experiment_id = client.create_experiment(name) if experiment is None else experiment.experiment_id
    tags = {"ganaug": ganaug.__version__, "dataset_sha256": run.fingerprint}
    made = client.create_run(experiment_id, run_name=f"{name} {run.folder.name}", tags=tags)
    run_id = str(made.info.run_id)
    write_atomically(path, json.dumps({"uri": uri, "run_id": run_id}))
    return run_id


def _send(client: MlflowClient, run: RunFolder, run_id: str) -> None:
    from mlflow.entities import Param, RunTag

    params = [
        Param(name, text[:_LONGEST])
        for name, text in _flat(run.config.model_dump(mode="json", exclude_defaults=True))
    ]
    summary = _summary(run, "evaluate"), _summary(run, "publish")
    tags = [
        RunTag("verdict", str(summary[0].get("verdict", ""))),
        RunTag("reason", str(summary[1].get("reason", ""))),
    ]
    client.log_batch(run_id, params=params, tags=tags)
    metrics = [*_metrics(run), *_curves(run)]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    for path in (
        run.path("report") / "report.html",
        run.path("evaluate") / "verdict.json",
        run.folder / "config.yaml",
    ):
        if path.is_file():
            client.log_artifact(run_id, str(path))
    if summary[1].get("published"):
        _register(client, run, run_id, summary[1])
    client.set_terminated(run_id)


def _register(client: MlflowClient, run: RunFolder, run_id: str, published: Mapping[str, Any]) -> None:
    """Make the published version one of a registered model; once."""
    from mlflow.exceptions import MlflowException

    from ganaug.store import resolve

    name = run_name(run.config) if run.config.publish.name == "auto" else run.config.publish.name
    with contextlib.suppress(MlflowException):
        # It is there.
        client.create_registered_model(name)
    tags = {"ganaug_version": str(published["version"])}
    known = client.search_model_versions(f"name = '{name}'")
    if any(version.tags.get("ganaug_version") == tags["ganaug_version"] for version in known):
        return
    client.log_artifacts(run_id, str(resolve(published["path"])), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    client.create_model_version(name, source, run_id, tags=tags, description=str(published["reason"]))


def _metrics(run: RunFolder) -> list[Metric]:
    from mlflow.entities import Metric

    from ganaug.metrics import read_metrics

    now = time.time_ns() // 1_000_000
    found = []
    for metric in read_metrics(run):
        # MLflow's names hold no labels.
        labels = "".join(f"/{_name(value)}" for key, value in metric.labels.items() if key != "dataset")
        found.append(Metric(f"{metric.name.removeprefix('ganaug_')}{labels}", metric.value, now, 0))
    return found


def _curves(run: RunFolder) -> Iterator[Metric]:
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    for part in parts(run, "train"):
        path = run.path("train", part) / "curves.parquet"
        if not path.is_file():
            continue
        curves = pd.read_parquet(path).dropna()
        names, steps, values = (curves[name].tolist() for name in ("name", "step", "value"))
        for name, step, value in zip(names, steps, values, strict=True):
            yield Metric(f"train/{_name(part)}/{_name(name)}", value, now, step)


def _name(text: str) -> str:
    """What MLflow takes in a name."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in text)


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{_name(key)}.")
        else:
            yield f"{before}{_name(key)}", str(value)


def _summary(run: RunFolder, step: str) -> dict[str, Any]:
    record = run.record(step)
    return {} if record is None else record.summary
