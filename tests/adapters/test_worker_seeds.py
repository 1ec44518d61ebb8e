import functools
import gc
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np
import psutil
import pytest
import torch
from support.loaders import Black, Numbers, seed_all_alike
from torch.utils.data import ConcatDataset, DataLoader, Subset

import ganaug
from ganaug.adapters.transform import GanSample
from ganaug.adapters.worker_seeds import find_transforms, worker_init_fn
from ganaug.errors import TransformError

# From Python 3.12 on forking a process with threads warns, as every loader's would.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def loader(dataset, workers=2, **how):
    # A worker that hangs is an error after this time.
    return DataLoader(dataset, batch_size=50, num_workers=workers, timeout=120 if workers else 0, **how)


def hashes(batches):
    return [one for names, _ in batches for one in names]


def digits(count, seed=None, probability=1.0):
    return Black(A.Compose([GanSample("exported/digits", probability)], seed=seed), count)


# Images of GanSample, where the user does nothing


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_ten_thousand_images_from_four_workers_in_two_epochs_are_all_different(start):
    dataset = digits(5000, seed=7)
    # Used before: its sessions and images are not for the workers.
    dataset[0]
    batches = loader(dataset, 4, multiprocessing_context=start)
    seen = [batch for _ in range(2) for batch in batches]
    assert len({pid for _, pids in seen for pid in pids.tolist()}) == 8
    assert len(set(hashes(seen))) == 10_000


@pytest.mark.parametrize("seed", [None, 7])
def test_workers_and_epochs_share_no_image(seed):
    batches = loader(digits(200, seed))
    seen = [batch for _ in range(3) for batch in batches]
    assert len(set(hashes(seen))) == 600


@pytest.mark.parametrize("seed", [None, 7])
def test_workers_that_stay_go_on(seed):
    batches = loader(digits(200, seed), persistent_workers=True)
    seen = [batch for _ in range(3) for batch in batches]
    assert len({pid for _, pids in seen for pid in pids.tolist()}) == 2
    assert len(set(hashes(seen))) == 600


def test_which_images_are_touched_differs_between_workers_too():
    untouched = hashes(loader(digits(1, probability=0.0), 1))[0]
    dataset = digits(400, seed=7, probability=0.5)
    is_touched = np.array([one != untouched for one in hashes(loader(dataset))])
    # Batches go to the workers in turns.
    first, second = is_touched.reshape(4, 2, 50).transpose(1, 0, 2).reshape(2, 200)
    assert 70 < (first == second).sum() < 130


def test_the_same_torch_seed_gives_the_same_images():
    def images(torch_seed):
        torch.manual_seed(torch_seed)
        return hashes(loader(digits(200, seed=7)))

    assert images(3) == images(3)
    assert not set(images(3)) & set(images(4))


def test_a_dataset_that_seeds_its_pipeline_in_each_worker_repeats_nothing():
    assert len(set(hashes(loader(digits(200), worker_init_fn=seed_all_alike)))) == 200


def open_files(process):
    return process.num_fds() if os.name == "posix" else process.num_handles()


def test_loaders_leave_no_processes_and_no_open_files():
    batches = loader(digits(100))
    hashes(batches)
    before, epochs = open_files(psutil.Process()), 10
    # Other tests' pools of processes may still be there.
    others = multiprocessing.active_children()
    for _ in range(epochs):
        hashes(batches)
    gc.collect()
    # Each epoch opens more than one for each of its two workers; some are closed a little later.
    assert open_files(psutil.Process()) < before + epochs
    assert set(multiprocessing.active_children()) <= set(others)


def test_a_worker_that_stays_holds_no_more_after_ten_epochs_than_after_one():
    batches = loader(digits(200), 1, persistent_workers=True)
    (pid,) = {pid for _, pids in batches for pid in pids.tolist()}
    worker = psutil.Process(pid)
    files, memory = open_files(worker), worker.memory_info().rss
    for _ in range(10):
        hashes(batches)
    # On a busy machine the last batches' files are closed a little later; 350 batches would leave one each.
    deadline = time.monotonic() + 60
    while open_files(worker) > files + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files(worker) <= files + 1
    # Opening the model for each of its 35 batches would take twenty times as much.
    assert worker.memory_info().rss - memory < 10 * 2**20


def _hash_of_first(dataset: Black) -> str:
    return dataset[0][0]


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize(("seed", "different"), [(None, 3), (7, 1)])
def test_in_other_forked_processes_an_unseeded_pipeline_repeats_nothing_and_a_seeded_one_does_as_told(
    seed, different
):
    dataset = digits(10, seed)
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        children = pool.map(_hash_of_first, [dataset, dataset], chunksize=1)
    assert len({dataset[0][0], *children}) == different


# worker_init_fn, for all transforms


def drawn(dataset, init=worker_init_fn, **how):
    return np.concatenate([one.numpy() for one in loader(dataset, worker_init_fn=init, **how)])


def brightness(seed=None):
    return A.Compose([A.RandomBrightnessContrast(0.3, 0.0, p=1.0)], seed=seed)


def test_without_it_workers_repeat_what_transforms_draw_and_with_it_they_do_not():
    dataset = Numbers(brightness(), 100)
    assert len(np.unique(drawn(dataset, init=None))) == 50
    assert len(np.unique(drawn(dataset))) == 100
    assert len(np.unique([*drawn(dataset), *drawn(dataset)])) == 200


@pytest.mark.parametrize("seed", [None, 7])
def test_with_it_the_same_torch_seed_draws_the_same(seed):
    def numbers(torch_seed, seed):
        torch.manual_seed(torch_seed)
        return drawn(Numbers(brightness(seed), 100)).tolist()

    assert numbers(1, seed) == numbers(1, seed)
    assert numbers(1, seed) != numbers(2, seed)
    assert numbers(1, 7) != numbers(1, 8)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_it_works_in_workers_that_are_started_anew(start):
    dataset = ConcatDataset([Numbers(brightness(5), 50), Subset(Numbers(brightness(5), 70), range(50))])
    assert len(np.unique(drawn(dataset, multiprocessing_context=start))) == 100


def test_pipelines_in_one_worker_draw_different_numbers_though_seeded_alike():
    both = ConcatDataset([Numbers(brightness(), 50), Numbers(brightness(), 50)])
    assert len(np.unique(drawn(both, workers=1))) == 100


@dataclass(slots=True)
class Slotted:
    pipeline: Any


class SlottedBelow(Slotted):
    def __init__(self, pipeline):
        super().__init__(pipeline)
        self.name = "has both slots and attributes"


class Method:
    def __init__(self, pipeline):
        self.pipeline = pipeline

    def call(self):
        """Bound to an object that holds a pipeline."""


def closed_over(pipeline):
    def function(image):
        return pipeline(image=image)

    return function


def by_default(pipeline):
    def function(image, how=pipeline):
        return how(image=image)

    return function


def by_named_default(pipeline):
    def function(image, *, how=pipeline):
        return how(image=image)

    return function


HOLDERS = {
    "itself": lambda pipeline: pipeline,
    "attribute": lambda pipeline: Numbers(pipeline, 1),
    "slot": Slotted,
    "slot beside attributes": SlottedBelow,
    "Subset": lambda pipeline: Subset(Numbers(pipeline, 1), [0]),
    "ConcatDataset": lambda pipeline: ConcatDataset([Numbers(None, 1), Numbers(pipeline, 1)]),
    "list": lambda pipeline: [1, [pipeline]],
    "tuple": lambda pipeline: ("a", (pipeline,)),
    "dict": lambda pipeline: {"train": {"how": pipeline}},
    "partial": lambda pipeline: functools.partial(print, pipeline),
    "partial by name": lambda pipeline: functools.partial(print, file=pipeline),
    "partial of it": lambda pipeline: functools.partial(pipeline, image=None),
    "method": lambda pipeline: Method(pipeline).call,
    "closure": closed_over,
    "default": by_default,
    "named default": by_named_default,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
@pytest.mark.parametrize("thing", [A.HorizontalFlip(), brightness(), A.OneOf([A.NoOp(), A.Blur()])], ids=repr)
def test_transforms_are_found_wherever_a_dataset_holds_them(hold, thing):
    assert [*find_transforms(hold(thing))] == [thing]


def test_each_is_found_once_and_circles_end():
    pipeline = brightness()
    one, other = Numbers(pipeline, 1), Numbers(pipeline, 1)
    one.other, other.other = other, one
    assert [*find_transforms(one)] == [pipeline]


def test_long_lists_and_tables_are_data_and_are_not_searched():
    pipelines = [brightness()] * 2000
    for data in (pipelines, tuple(pipelines), dict(enumerate(pipelines))):
        assert [*find_transforms(data)] == []


def test_an_empty_variable_of_a_function_is_passed_over():
    def function():
        return later

    assert [*find_transforms(function)] == []
    later = 1


def test_where_nothing_is_found_the_user_is_told(monkeypatch):
    info = torch.utils.data._utils.worker.WorkerInfo(0, 1, 5, Numbers(None, 1))
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: info)
    with pytest.warns(UserWarning, match="attribute of the dataset"):
        worker_init_fn(0)


def test_outside_of_a_worker_it_is_refused():
    with pytest.raises(TransformError, match="worker_init_fn=ganaug"):
        worker_init_fn(0)


def test_it_is_a_name_of_the_package_that_loads_no_torch():
    script = "import ganaug, sys; ganaug.worker_init_fn; print(*[n for n in ('torch', 'albumentations') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert ganaug.worker_init_fn is worker_init_fn
