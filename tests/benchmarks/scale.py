"""How long many classes and many images take on given machines: a simulation of what was measured.

    python tests/benchmarks/scale_costs.py --out costs.json     # measure here, minutes
    python tests/benchmarks/scale_flow.py --classes 50 200      # what the orchestration costs here
    python tests/benchmarks/scale.py --nodes 8 --cores 32
    python tests/benchmarks/scale.py --nodes 8 --cores 32 --gpus 4 --gpu-speed 40

The plan is the order of the pipeline (classifiers, base, each class on from it, export; then a
production in parts), laid out as a list schedule over the machines' cores and GPUs: a task starts
when what it needs is done and a place is free, in the order of the flow; the flow hands tasks over
one after the other. Costs are core-seconds of `scale_costs.json`, as measured on one machine. What
is not measured is an assumption that is printed: that cores of other machines are as fast, that
tasks side by side do not slow each other down (no shared disk, no memory bandwidth), and how many
cores one GPU is worth (`--gpu-speed`). The same arguments print the same lines.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

COSTS_FILE = Path(__file__).with_name("scale_costs.json")


@dataclass(frozen=True)
class Costs:
    """What one unit of work takes; seconds are of one core.

    Attributes:
        split_image_s: Reading and splitting one real image.
        classifier_step_s: One step of a screening classifier.
        gan_start_s: A class's training without its steps: start, reading, examinations' set-up.
        gan_step_s: One training step of a GAN with its share of the examinations.
        export_s: One generator to ONNX, checked.
        image_s: One image produced and written, Parquet and PNG.
        screen_image_s: One image screened, beyond producing it.
        image_bytes: One image on disk.
        manifest_bytes: Its row of the manifest.
        model_bytes: One class's generator and training folder.
        task_s: What the flow's own process does for one task.
        database_bytes: What Prefect's database keeps of one task.
        real_image_bytes: One training image in memory.
        cnn_step_s: One step of an evaluation's classifier.
    """

    split_image_s: float
    classifier_step_s: float
    gan_start_s: float
    gan_step_s: float
    export_s: float
    image_s: float
    screen_image_s: float
    image_bytes: float
    manifest_bytes: float
    model_bytes: float
    task_s: float
    database_bytes: float
    real_image_bytes: float
    cnn_step_s: float

    @classmethod
    def load(cls, path: Path = COSTS_FILE) -> Costs:
        """Read measured costs."""
        tree = json.loads(path.read_text())
        return cls(**{one.name: tree[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class Asked:
    """What is to be made, and on what.

    Attributes:
        classes: Classes that get a GAN of their own.
        images: Images to make, of all classes together.
        real: Real training images per class.
        steps: Steps of the base.
        class_steps: Steps of each class.
        classifiers: Screening classifiers, with those of the folds.
        parts: Tasks of the production.
        fits: Classifiers that the evaluation trains.
        fit_steps: Steps of each.
        nodes: Machines.
        cores: Cores of each.
        gpus: GPUs of each.
        gpu_speed: Cores that one GPU is worth in training, an assumption; images are made on cores.
        gpu_share: GPUs that a class's training holds.
    """

    classes: int = 1000
    images: int = 10**9
    real: int = 500
    steps: int = 20_000
    class_steps: int = 2000
    classifiers: int = 5
    parts: int = 2000
    fits: int = 17
    fit_steps: int = 1500
    nodes: int = 8
    cores: int = 32
    gpus: int = 0
    gpu_speed: float = 0.0
    gpu_share: float = 0.5


@dataclass(order=True)
class Task:
    """One task of the plan, in the order of the flow."""

    number: int
    step: str = field(compare=False)
    seconds: float = field(compare=False)
    gpus: float = field(compare=False, default=0.0)
    after: tuple[int, ...] = field(compare=False, default=())


def tasks_of(asked: Asked, costs: Costs) -> list[Task]:
    """The tasks, each after what it needs."""
    real = asked.classes * asked.real
    classifier_steps = min(max(math.ceil(30 * real / 64), 400), 1500)
    found: list[Task] = []

    def add(step: str, core_s: float, after: Iterator[int] | tuple[int, ...] = (), share: float = 0.0) -> int:
        # A task that holds half a GPU gets half of its speed.
        is_fast = asked.gpus and asked.gpu_speed and share
        seconds = core_s / (asked.gpu_speed * share) if is_fast else core_s
        found.append(Task(len(found), step, seconds, share if is_fast else 0.0, tuple(after)))
        return found[-1].number

    split = add("split", real * costs.split_image_s)
    classifiers = add(
        "classifiers", asked.classifiers * classifier_steps * costs.classifier_step_s, (split,), 1.0
    )
    base = add("base", costs.gan_start_s + asked.steps * costs.gan_step_s, (classifiers,), 1.0)
    own = costs.gan_start_s + asked.class_steps * costs.gan_step_s
    trained = [add("class", own, (base,), asked.gpu_share) for _ in range(asked.classes)]
    exported = [add("export", costs.export_s, (one,)) for one in trained]
    each = asked.images / asked.parts * (costs.image_s + costs.screen_image_s)
    for part in range(asked.parts):
        add("produce", each, (exported[part * asked.classes // asked.parts],))
    add("evaluate", asked.fits * asked.fit_steps * costs.cnn_step_s / asked.cores, tuple(exported))
    return found


@dataclass(frozen=True)
class Plan:
    """When what was done.

    Attributes:
        wall_s: From the first task's start to the last one's end.
        spans: First start and last end of each step, in seconds from the beginning.
        tasks: Tasks of each step.
        busy_core_s: Core-seconds that tasks held.
        busy_gpu_s: GPU-seconds that they held.
        path: The longest chain of tasks that had to wait for each other: step and seconds.
    """

    wall_s: float
    spans: dict[str, tuple[float, float]]
    tasks: Counter[str]
    busy_core_s: float
    busy_gpu_s: float
    path: tuple[tuple[str, float], ...]


def simulate(asked: Asked, costs: Costs) -> Plan:
    """Lay the tasks out over the machines, first come, first served."""
    tasks = tasks_of(asked, costs)
    waits = [len(task.after) for task in tasks]
    followers: list[list[int]] = [[] for _ in tasks]
    for task in tasks:
        for need in task.after:
            followers[need].append(task.number)
    free = [[asked.cores, float(asked.gpus)] for _ in range(asked.nodes)]
    ready = {True: [task for task in tasks if not task.after and task.gpus]}
    ready[False] = [task for task in tasks if not task.after and not task.gpus]
    running: list[tuple[float, int, int]] = []
    begun, ended = [0.0] * len(tasks), [0.0] * len(tasks)
    now = handed = 0.0
    while running or ready[True] or ready[False]:
        # Two queues: a task that waits for a GPU keeps nobody from the cores.
        for queue in ready.values():
            while queue and (node := _place(free, queue[0])) is not None:
                task = heapq.heappop(queue)
                free[node][0] -= 1
                free[node][1] -= task.gpus
                handed = max(now, handed) + costs.task_s
                begun[task.number], ended[task.number] = handed, handed + task.seconds
                heapq.heappush(running, (ended[task.number], task.number, node))
        now, number, node = heapq.heappop(running)
        free[node][0] += 1
        free[node][1] += tasks[number].gpus
        for follower in followers[number]:
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready[bool(tasks[follower].gpus)], tasks[follower])
    spans = {
        step: (min(begun[t.number] for t in those), max(ended[t.number] for t in those))
        for step, those in (
            (step, [t for t in tasks if t.step == step]) for step in dict.fromkeys(t.step for t in tasks)
        )
    }
    return Plan(
        wall_s=max(ended),
        spans=spans,
        tasks=Counter(task.step for task in tasks),
        busy_core_s=sum(task.seconds for task in tasks),
        busy_gpu_s=sum(task.seconds * task.gpus for task in tasks),
        path=_longest(tasks),
    )


def _place(free: list[list[float]], task: Task) -> int | None:
    """The node with most cores free that the task fits on."""
    fitting = [number for number, (cores, gpus) in enumerate(free) if cores >= 1 and gpus >= task.gpus]
    return max(fitting, key=lambda number: free[number][0], default=None)


def _longest(tasks: list[Task]) -> tuple[tuple[str, float], ...]:
    """Without which nothing is faster, however many machines there are."""
    total, before = [0.0] * len(tasks), [-1] * len(tasks)
    for task in tasks:
        if task.after:
            before[task.number] = max(task.after, key=lambda need: total[need])
            total[task.number] = total[before[task.number]]
        total[task.number] += task.seconds
    number, chain = max(range(len(tasks)), key=lambda one: total[one]), []
    while number >= 0:
        chain.append((tasks[number].step, tasks[number].seconds))
        number = before[number]
    return tuple(reversed(chain))


def lines(asked: Asked, costs: Costs) -> Iterator[str]:
    """The plan in words."""
    plan = simulate(asked, costs)
    places = f"{asked.nodes} nodes of {asked.cores} cores"
    if asked.gpus:
        places += f" and {asked.gpus} GPUs (assumed: each worth {asked.gpu_speed:g} of the measured cores)"
    yield f"{asked.classes:,} classes of {asked.real:,} real images, {asked.images:,} images, on {places}"
    yield f"wall time {_time(plan.wall_s)}; {sum(plan.tasks.values()):,} tasks"
    yield "| step | tasks | from | to |"
    yield "| --- | ---: | ---: | ---: |"
    for step, (begin, end) in plan.spans.items():
        yield f"| {step} | {plan.tasks[step]:,} | {_time(begin)} | {_time(end)} |"
    cores, gpus = plan.wall_s * asked.nodes * asked.cores, plan.wall_s * asked.nodes * asked.gpus
    yield f"cores were held {plan.busy_core_s / cores:.0%} of the time" + (
        f", GPUs {plan.busy_gpu_s / gpus:.0%}" if gpus else ""
    )
    chain = " -> ".join(f"{step} {_time(seconds)}" for step, seconds in plan.path)
    yield f"no number of machines is faster than {_time(sum(s for _, s in plan.path))}: {chain}"
    by_step = {
        step: sum(task.seconds for task in tasks_of(asked, costs) if task.step == step) for step in plan.spans
    }
    yield f"most of the work is {max(by_step, key=lambda step: by_step[step])}"
    yield (
        f"on disk: images {_bytes(asked.images * costs.image_bytes)}, manifest "
        f"{_bytes(asked.images * costs.manifest_bytes)}, models {_bytes(asked.classes * costs.model_bytes)}"
    )
    tasks = sum(plan.tasks.values())
    yield (
        f"Prefect: {tasks:,} task runs, {_bytes(tasks * costs.database_bytes)} of database, "
        f"{_time(tasks * costs.task_s)} of the flow's process"
    )
    real = asked.classes * asked.real * costs.real_image_bytes
    yield f"memory of each task that trains: {_bytes(real)} of real images, all classes"
    yield (
        "what `ganaug run` would hold in memory to assemble and evaluate as many: "
        f"{_bytes(asked.images * costs.real_image_bytes)}"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for one in fields(Asked):
        kind = type(one.default)
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default)
    parser.add_argument("--costs", type=Path, default=COSTS_FILE)
    given = vars(parser.parse_args())
    costs = Costs.load(given.pop("costs"))
    asked = Asked(**given)
    if asked.gpus and not asked.gpu_speed:
        parser.error("--gpus needs --gpu-speed: how many cores one GPU is worth was not measured here")
    for line in lines(asked, costs):
        print(line)


if __name__ == "__main__":
    main()
