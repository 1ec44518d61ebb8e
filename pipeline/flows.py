"""`balance`: the main job as a Prefect flow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import flow, get_client
from prefect.futures import PrefectFuture

from ganaug.config import Config
from ganaug.progress import listener
from ganaug.publish import fail_without_gain
from ganaug.run import RunFolder
from ganaug.screen import SCREENER
from ganaug.steps import open_run, parts, run_name
from pipeline import artifacts
from pipeline.runners import ON_GPU, Runners, running
from pipeline.submission import Part, Submission
from pipeline.tasks import GPU_LIMIT, TASKS


@flow(name="balance")
def balance(config: Config) -> dict[str, Any]:
    """Balance a dataset: from real images to a verdict, a published model and a report.

    Args:
        config: All settings; what stands in the run folder already is not done again.

    Returns:
        The summaries of `evaluate` and `publish`, and the path of the report.

    Raises:
        NotPublishedError: `publish.require_gain` is set and the model was refused; all else is done.
    """
    run = open_run(config)
    with run.locked(), running(config) as runners:
        return _Balance(run, runners).all_steps()


def run_balance(config: Config) -> dict[str, Any]:
    """Run `balance` here and now, with the embedded server unless one is configured."""
    name = f"balance {run_name(config)}"
    result: dict[str, Any] = balance.with_options(flow_run_name=name)(config)
    return result


class _Balance:
    """The order of the tasks; every method is a line of the pipeline."""

    def __init__(self, run: RunFolder, runners: Runners) -> None:
        self._run, self._runners = run, runners
        settings = run.config.pipeline
        self._submission = Submission(None if settings.workers == "auto" else settings.workers)
        # On a cluster each task holds GPUs of its own, as the settings say.
        self._shares_gpu = not settings.is_cluster and _uses_gpu(run.config)
        if self._shares_gpu:
            with get_client(sync_client=True) as client:
                client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, 1)

    def all_steps(self) -> dict[str, Any]:
        self._whole("split")
        artifacts.plan_table(self._run, self._whole("plan"))
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
        for future in [*trained.values(), *exported.values(), *screened.values()]:
            future.result()
        artifacts.sample_sheet(self._run)
        self._whole("assemble")
        verdict, published, report = (self._whole(step) for step in ("evaluate", "publish", "report"))
        artifacts.verdict(self._run, verdict, published)
        # Last: the report tells of a refusal too.
        fail_without_gain(published, self._run.config.publish)
        return {
            "evaluate": verdict,
            "publish": published,
            "report": str(Path(report["folder"]) / "report.html"),
        }

    def _whole(self, step: str) -> dict[str, Any]:
        """Do a step that has no parts, now."""
        self._parts(step)
        result: dict[str, Any] = self._submit(step, "").result()
        return result

    def _parts(self, step: str) -> tuple[str, ...]:
        names = parts(self._run, step)
        listener().planned(step, len(names))
        return names

    def _submit(self, step: str, part: str, after: Iterable[Part] = ()) -> Part:
        """Have a part done when those before it are, where the settings say."""
        ready = TASKS[step].with_options(retries=self._run.config.pipeline.retries)
        parameters = {
            "run_dir": self._run.folder.resolve(),
            "part": part,
            "on_gpu": self._shares_gpu and step in ON_GPU,
            "threads": self._runners.threads(step),
        }

        def submit(before: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
            return self._runners.submit(step, ready, parameters, before)

        def tell(done: dict[str, Any]) -> None:
            task = done["task"]
            listener().finished(step, part, seconds=task["seconds"], was_done=task["was_done"])

        return self._submission.ask(submit, after, tell)


def _uses_gpu(config: Config) -> bool:
    """Whether tasks of this run will hold a GPU."""
    from ganaug.training.device import resolve_device

    return resolve_device(config.device) == "cuda"
