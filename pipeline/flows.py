"""`balance`: the main job as a Prefect flow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import flow, get_client, runtime
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from ganaug import review, series
from ganaug.config import Config
from ganaug.errors import PipelineError
from ganaug.metrics import write_metrics
from ganaug.progress import listener
from ganaug.publish import fail_without_gain
from ganaug.refresh import Decision
from ganaug.run import RunFolder
from ganaug.screen import SCREENER
from ganaug.steps import decide_refresh, open_run, parts, run_name
from pipeline import artifacts
from pipeline.events import RUN_DONE, emit_run, emit_step
from pipeline.reviewing import wait_for_review
from pipeline.runners import ON_GPU, Runners, running
from pipeline.submission import Part, Submission
from pipeline.tasks import GPU_LIMIT, TASKS
from pipeline.tracking import track

REPORT_FILE = "report.html"
_QUEUED_S = 24 * 3600.0


def _run_name() -> str:
    """`balance photos`, `retrain cracked of photos`: what the lists on Prefect's pages show."""
    given = runtime.flow_run.parameters
    config = given["config"]
    name = run_name(config if isinstance(config, Config) else Config.model_validate(config))
    if "class_name" in given:
        return f"retrain {given['class_name']} of {name}"
    return f"{'refresh' if given.get('refresh') else 'balance'} {name}"


@flow(name="balance", flow_run_name=_run_name)
def balance(config: Config, refresh: bool = False) -> dict[str, Any]:
    """Balance a dataset: from real images to a verdict, a published model and a report.

    Args:
        config: All settings; what stands in the run folder already is not done again.
        refresh: Go on from the last run of a series (its folder is `run_dir`): only GANs of classes whose
            images changed are trained, and where nothing changed nothing is done.

    Returns:
        The summaries of `evaluate` and `publish`, and the path of the report; with `refresh`, why it was
        done or not too.

    Raises:
        NotPublishedError: `publish.require_gain` is set and the model was refused; all else is done.
    """
    if refresh:
        return _refreshed(config, ())
    run = open_run(config)
    with run.locked(), running(config) as runners:
        steps = _Balance(run, runners)
        steps.look()
        return _checked(steps.rest(), config)


@flow(name="retrain-class", flow_run_name=_run_name)
def retrain_class(config: Config, class_name: str) -> dict[str, Any]:
    """Train one class's GAN on from its last weights, and do all that follows from it.

    Args:
        config: All settings; `run_dir` is the folder of a series.
        class_name: The class.

    Returns:
        As `balance`.

    Raises:
        NotPublishedError: As `balance`.
        SettingsError: The class gets no GAN of its own.
    """
    return _refreshed(config, (class_name,))


def _refreshed(config: Config, asked: tuple[str, ...]) -> dict[str, Any]:
    """Do what a series has to do, if there is anything."""
    # On a server runs are queued; a worker's death may leave one at work that has been begun again.
    with series.locked(config, wait_s=_QUEUED_S if runtime.deployment.id else 0):
        begun = series.begin(config, asked)
        get_run_logger().info(begun.reason)
        if begun.is_done:
            return _unchanged(begun, config)
        with running(config) as runners:
            steps, decision = _looked_at(begun, runners)
            if decision.kind == "nothing" and (instead := series.drop_unchanged(config, steps.run)):
                begun = instead
                get_run_logger().info(begun.reason)
                if begun.is_done:
                    return _unchanged(begun, config)
                steps, decision = _looked_at(begun, runners)
            with steps.run.locked():
                result = steps.rest()
        series.end(steps.run, config, result)
        return _checked({**result, "changed": True, "reason": decision.reason}, config)


def _looked_at(begun: series.Begun, runners: Runners) -> tuple[_Balance, Decision]:
    assert begun.run is not None
    steps = _Balance(begun.run, runners)
    with begun.run.locked():
        steps.look()
        decision = decide_refresh(begun.run)
    artifacts.decision(begun.run, decision)
    return steps, decision


def _unchanged(begun: series.Begun, config: Config) -> dict[str, Any]:
    """What the last run has told, where there is nothing to do."""
    run = begun.run
    assert run is not None
    _write_metrics(run.folder, config)
    records = {step: run.record(step) for step in ("evaluate", "publish")}
    return {
        **{step: {} if record is None else record.summary for step, record in records.items()},
        "report": str(run.path("report") / REPORT_FILE),
        "changed": False,
        "reason": begun.reason,
    }


def _checked(result: dict[str, Any], config: Config) -> dict[str, Any]:
    """The result, unless a gain was required: the last thing, as the report tells of a refusal too."""
    fail_without_gain(result["publish"], config.publish)
    return result


class _Balance:
    """The order of the tasks; every method is a line of the pipeline."""

    def __init__(self, run: RunFolder, runners: Runners) -> None:
        self.run, self._runners = run, runners
        self._bar = artifacts.Bar(run)
        settings = run.config.pipeline
        self._submission = Submission(None if settings.workers == "auto" else settings.workers)
        # On a cluster each task holds GPUs of its own, as the settings say.
        self._shares_gpu = not settings.is_cluster and _uses_gpu(run.config)
        if self._shares_gpu:
            _ensure_limit()

    def look(self) -> None:
        """Read the images and plan."""
        self._whole("split")
        artifacts.plan_table(self.run, self._whole("plan"))
        self._bar.expect(sum(len(parts(self.run, step)) for step in TASKS))

    def rest(self) -> dict[str, Any]:
        """Train, and all that follows."""
        trained: dict[str, Part] = {}
        for part in self._parts("train"):
            # The GANs are examined with the classifiers, and a class's goes on from the base.
            needs = [trained[one] for one in ("classifiers", "base") if one in trained]
            trained[part] = self._submit("train", part, needs)
        exported = {part: self._submit("export", part, [trained[part]]) for part in trained}
        produced = {
            part: self._submit("produce", part, [exported[part if part in exported else "base"]])
            for part in self._parts("produce")
        }
        screened: dict[str, Part] = {}
        for part in self._parts("screen"):
            # The classes are screened by what the screener measured.
            needs = [produced[part], screened[SCREENER]] if part in produced else [exported["classifiers"]]
            screened[part] = self._submit("screen", part, needs)
        for one in [*trained.values(), *exported.values(), *produced.values(), *screened.values()]:
            self._done(one)
        artifacts.sample_sheet(self.run)
        if screened and review.is_required(self.run):
            get_run_logger().info(wait_for_review(self.run).sentence)
        self._whole("assemble")
        verdict, published, report = (self._whole(step) for step in ("evaluate", "publish", "report"))
        artifacts.verdict(self.run, verdict, published)
        where = Path(report["folder"]) / REPORT_FILE
        artifacts.report_link(self.run, where)
        emit_run(
            RUN_DONE,
            self.run,
            verdict=verdict["verdict"],
            sentence=verdict["sentence"],
            published=published["published"],
            version=published["version"],
        )
        self._track()
        return {
            "evaluate": verdict,
            "publish": published,
            "report": str(where),
        }

    def _track(self) -> None:
        if self.run.config.pipeline.mlflow is None:
            return
        try:
            track(self.run)
        except PipelineError as error:
            # The results are all there: a server that is down takes none away.
            get_run_logger().warning(str(error))

    def _whole(self, step: str) -> dict[str, Any]:
        """Do a step that has no parts, now."""
        self._parts(step)
        result = self._done(self._submit(step, ""))
        _write_metrics(self.run.folder, self.run.config)
        return result

    def _done(self, part: Part) -> dict[str, Any]:
        """Wait for a part, and tell how far the run is."""
        result: dict[str, Any] = part.result()
        self._bar.step()
        return result

    def _parts(self, step: str) -> tuple[str, ...]:
        names = parts(self.run, step)
        listener().planned(step, len(names))
        return names

    def _submit(self, step: str, part: str, after: Iterable[Part] = ()) -> Part:
        """Have a part done when those before it are, where the settings say."""
        ready = TASKS[step].with_options(retries=self.run.config.pipeline.retries)
        parameters = {
            "run_dir": self.run.folder.resolve(),
            "part": part,
            "dataset": run_name(self.run.config),
            "on_gpu": self._shares_gpu and step in ON_GPU,
            "threads": self._runners.threads(step),
        }

        def submit(before: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
            return self._runners.submit(step, ready, parameters, before)

        def tell(done: dict[str, Any]) -> None:
            task = done["task"]
            listener().finished(step, part, seconds=task["seconds"], was_done=task["was_done"])
            took = "done before" if task["was_done"] else f"{task['seconds']:.1f} s"
            get_run_logger().info(f"{step} {part}".strip() + f": {took}")
            emit_step(self.run, step, part, **task)

        return self._submission.ask(submit, after, tell)


def _write_metrics(run_dir: Path, config: Config) -> None:
    if config.pipeline.metrics_file is not None:
        write_metrics(RunFolder.open(run_dir), config.pipeline.metrics_file)


def import_torch() -> None:
    """Load what the first task would wait for, while something else is waited for."""
    import ganaug.training.device  # noqa: F401


def _uses_gpu(config: Config) -> bool:
    """Whether tasks of this run will hold a GPU."""
    from ganaug.training.device import resolve_device

    return resolve_device(config.device) == "cuda"


def _ensure_limit() -> None:
    """Create the limit of tasks on a GPU, unless `ganaug deploy` has, with as many as there are."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, 1)
