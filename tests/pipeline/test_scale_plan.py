"""The simulation behind docs/scale.md: what a schedule must hold whatever the costs are."""

from dataclasses import replace

import pytest
from benchmarks.scale import Asked, Costs, lines, simulate, tasks_of

COSTS = Costs(
    split_image_s=0.001,
    classifier_step_s=0.01,
    gan_start_s=2.0,
    gan_step_s=0.1,
    export_s=3.0,
    image_s=0.001,
    screen_image_s=0.0005,
    image_bytes=2000.0,
    manifest_bytes=20.0,
    model_bytes=1e6,
    task_s=0.0,
    database_bytes=2e4,
    real_image_bytes=3072.0,
    cnn_step_s=0.01,
)
ASKED = Asked(classes=20, images=200_000, parts=20, steps=500, class_steps=100, nodes=2, cores=4)


def test_one_core_takes_as_long_as_all_tasks_together():
    alone = replace(ASKED, nodes=1, cores=1)
    assert simulate(alone, COSTS).wall_s == pytest.approx(
        sum(task.seconds for task in tasks_of(alone, COSTS))
    )


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_no_plan_is_faster_than_its_longest_chain_or_than_all_cores_busy(nodes):
    plan = simulate(replace(ASKED, nodes=nodes), COSTS)
    assert plan.wall_s >= sum(seconds for _, seconds in plan.path) - 1e-6
    assert plan.wall_s >= plan.busy_core_s / (nodes * 4) - 1e-6


def test_machines_without_end_leave_the_longest_chain():
    plan = simulate(replace(ASKED, nodes=50), COSTS)
    assert plan.wall_s == pytest.approx(sum(seconds for _, seconds in plan.path))
    assert [step for step, _ in plan.path] == ["split", "classifiers", "base", "class", "export", "evaluate"]


def test_tasks_on_gpus_wait_for_a_gpu():
    asked = replace(ASKED, nodes=1, cores=32, gpus=1, gpu_speed=10.0, gpu_share=0.5)
    plan = simulate(asked, COSTS)
    began, ended = plan.spans["class"]
    one = next(task for task in tasks_of(asked, COSTS) if task.step == "class")
    assert one.seconds == pytest.approx((2.0 + 10.0) / 5.0)
    # Two at a time.
    assert ended - began == pytest.approx(20 / 2 * one.seconds)


def test_a_flow_that_hands_over_slowly_is_what_is_waited_for():
    slow = simulate(replace(ASKED, nodes=50), replace(COSTS, task_s=100.0))
    assert slow.wall_s >= 100.0 * sum(slow.tasks.values())


def test_the_same_arguments_print_the_same_lines():
    assert list(lines(ASKED, COSTS)) == list(lines(ASKED, COSTS))


def test_the_costs_that_were_measured_are_there():
    costs = Costs.load()
    assert 0 < costs.image_s < 1
    assert costs.gan_step_s > 0
