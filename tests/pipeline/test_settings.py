"""Where tasks run, and what they hold there, as settings."""

import pytest

from ganaug.config import Config, PipelineConfig, describe, load
from ganaug.errors import SettingsError
from pipeline.runners import at_once, resources_of, threads_of


def test_resources_are_given_by_step_and_come_back_from_the_file(tmp_path):
    config = load(
        overrides={"pipeline.runner": "ray", "pipeline.resources.train": "{gpus: 0.5, cpus: 2}"},
    )
    assert config.pipeline.resources["train"].gpus == 0.5
    (tmp_path / "config.yaml").write_text(describe(config))
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pipeline.resources": "{trian: {gpus: 1}}"}, "did you mean train?"),
        ({"pipeline.resources": "{report: {gpus: 1}}"}, "steps are train, export, produce, screen, evaluate"),
        ({"pipeline.resources": "{train: {gpu: 1}}"}, "pipeline.resources"),
        ({"pipeline.resources": "{train: {gpus: -1}}"}, "greater than or equal to 0"),
        ({"pipeline.runner": "slurm"}, "'threads', 'processes', 'ray' or 'dask'"),
        (
            {"pipeline.runner": "threads", "pipeline.resources": "{train: {gpus: 1}}"},
            "is for runner ray or dask",
        ),
        ({"pipeline.runner": "processes", "pipeline.cluster": "auto"}, "is for runner ray or dask"),
    ],
)
def test_what_no_runner_can_honour_is_refused(wrong, message):
    with pytest.raises(SettingsError) as caught:
        load(overrides={"pipeline.runner": "ray", **wrong})
    assert message in str(caught.value)


def test_a_task_on_a_gpu_holds_one_unless_told_otherwise():
    config = Config(device="cuda", pipeline={"runner": "ray", "resources": {"produce": {"gpus": 0.25}}})
    assert [resources_of(config, step).gpus for step in ("train", "export", "produce")] == [1, 0, 0.25]
    together = config.model_copy(update={"train": config.train.model_copy(update={"processes": 4})})
    assert resources_of(together, "train").gpus == 4
    assert resources_of(Config(pipeline={"runner": "ray"}), "train").gpus == 0


def test_a_task_computes_with_the_threads_that_it_holds():
    cluster = PipelineConfig(runner="dask", resources={"train": {"cpus": 2.5}})
    assert threads_of(cluster, "train") == 3
    assert threads_of(cluster, "screen") == 1
    assert threads_of(PipelineConfig(), "train") is None
    assert threads_of(PipelineConfig(runner="ray", threads=4), "train") == 4


def test_only_in_threads_does_auto_mean_one_task_at_a_time():
    assert at_once(PipelineConfig()) == 1
    assert at_once(PipelineConfig(workers=3)) == 3
    assert at_once(PipelineConfig(runner="processes")) >= 1
