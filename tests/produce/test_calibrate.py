"""The way in which the runtime is called is measured, within what was given."""

import time

import pytest
from support.productions import order

from ganaug.produce import calibrate, produce
from ganaug.produce.calibrate import Way

MANY = 10**12


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    """Two cores and no GPU."""
    monkeypatch.setattr(calibrate, "cores", lambda: 2)
    monkeypatch.setattr(calibrate, "TRY_S", 0.005)


class Runtime:
    """Makes nothing, in a time of its own for each way."""

    def __init__(self, seconds_per_image):
        self.seconds_per_image = seconds_per_image
        self.tried = []

    def __call__(self, way):
        self.tried.append(way)
        return lambda number: time.sleep(self.seconds_per_image(way) * way.batch)


def on_cpu(runtime, images=MANY, **given):
    return calibrate.calibrate(runtime, images, device="cpu", **given)


@pytest.mark.parametrize("fast", [(2, 1, 16), (2, 1, 64), (2, 1, 256), (1, 2, 16), (1, 2, 256)], ids=str)
def test_the_fastest_way_is_chosen(fast):
    # Twenty times as fast as any other, so that no clock of a busy machine can turn it round.
    def seconds_per_image(way):
        return (1e-5 if (way.workers, way.threads, way.batch) == fast else 2e-4) * way.workers

    way = on_cpu(Runtime(seconds_per_image))
    assert (way.workers, way.threads, way.batch) == fast
    assert 0 < way.images_per_s <= 1e5


def test_both_a_call_per_core_and_one_call_of_all_cores_are_tried():
    runtime = Runtime(lambda way: 1e-6)
    on_cpu(runtime)
    assert {(way.workers, way.threads) for way in runtime.tried} == {(2, 1), (1, 2)}
    assert len(runtime.tried) == len(set(runtime.tried))


@pytest.mark.parametrize(
    "given",
    [{"workers": 3}, {"threads": 5}, {"batch": 7}, {"workers": 3, "batch": 7}, {"threads": 2, "batch": 9}],
    ids=str,
)
def test_what_is_given_is_kept_in_all_that_is_tried(given):
    runtime = Runtime(lambda way: 1e-6)
    chosen = on_cpu(runtime, **given)
    for way in (chosen, *runtime.tried):
        assert {name: getattr(way, name) for name in given} == given


def test_with_everything_given_nothing_is_tried():
    runtime = Runtime(lambda way: 1e-6)
    assert on_cpu(runtime, workers=3, threads=1, batch=7) == Way(3, 1, 7)
    assert runtime.tried == []


def test_little_to_do_is_done_in_the_first_way_and_very_little_without_a_trial():
    runtime = Runtime(lambda way: 1e-5)
    on_cpu(runtime, images=5000)
    assert len(runtime.tried) == 1
    assert on_cpu(runtime, images=100) == Way(2, 1, 64)
    assert len(runtime.tried) == 1


def test_an_error_of_the_runtime_is_not_swallowed():
    def prepare(way):
        def make(number):
            raise ValueError("broken")

        return make

    with pytest.raises(ValueError, match="broken"):
        on_cpu(prepare)


def test_a_production_tells_how_it_called_the_runtime(tiny_model, out):
    way = produce(order(tiny_model, out, count=20)).way
    assert (way.workers, way.threads, way.batch) == (2, 1, 8)


def test_a_production_with_nothing_given_measures(tiny_model, out):
    asked = order(tiny_model, out, count=5000, workers="auto", threads="auto", batch="auto")
    way = produce(asked).way
    assert way.workers * way.threads == 2
    assert way.images_per_s > 0
    assert produce(asked).made == 0
