import psutil
import pytest

from ganaug.adapters import reservoir
from ganaug.adapters.reservoir import Reservoir
from ganaug.generate import Generator


@pytest.fixture
def generator(tiny_pair_model):
    return Generator.open(tiny_pair_model, device="cpu")


@pytest.fixture
def sizes(monkeypatch):
    """Sizes of the batches that are made from here on."""
    seen, make_batch = [], Generator.make_batch

    def noted(self, *args, **how):
        seen.append(how["size"])
        return make_batch(self, *args, **how)

    monkeypatch.setattr(Generator, "make_batch", noted)
    return seen


def serve(reservoir, class_name, count):
    return [reservoir.image(class_name, reservoir.next_index(class_name)) for _ in range(count)]


def test_images_come_in_the_order_of_their_indices(generator):
    images = serve(Reservoir(generator, 5, 3), "dog", 200)
    assert [*map(bytes, images)] == [*map(bytes, generator.sample("dog", 200, seed=5))]


def test_an_address_gives_the_same_image_whatever_was_asked_before(generator):
    served = Reservoir(generator, 5, 3)
    expected = generator.sample("cat", 100, seed=5)
    for index in (70, 3, 4, 99, 0, 70):
        assert bytes(served.image("cat", index)) == bytes(expected[index])


def test_batches_grow_with_what_is_asked_of_a_class(generator, sizes):
    served = Reservoir(generator, 0, 3)
    serve(served, "cat", 1)
    assert sizes == [8]
    serve(served, "cat", 255)
    assert sizes == [8, 8, 16, 32, 64, 64, 64]
    serve(served, "dog", 1)
    assert sizes[-1] == 8


@pytest.mark.parametrize(("classes", "largest"), [(3, 10), (300, 1)])
def test_batches_are_small_where_images_are_large_or_classes_many(
    generator, sizes, monkeypatch, classes, largest
):
    monkeypatch.setattr(reservoir, "MAX_BYTES", 3 * 10 * 64)
    serve(Reservoir(generator, 0, classes), "cat", 50)
    assert max(sizes) == largest


def test_an_image_is_the_callers_own(generator):
    served = Reservoir(generator, 0, 3)
    first = served.image("cat", 0)
    assert first.base is None, "a view keeps its whole batch in memory"
    first[:] = 0
    assert served.image("cat", 0).any()


def test_memory_does_not_grow_with_what_was_served(write_model, tmp_path):
    write_model(tmp_path / "large", image_shape=(64, 64, 3))
    served = Reservoir(Generator.open(tmp_path / "large", device="cpu"), 0, 3)
    process = psutil.Process()
    for count in range(6000):
        if count == 1000:
            before = process.memory_info().rss
        served.image("cat", served.next_index("cat"))
    # 5,000 images are 59 MiB.
    assert process.memory_info().rss - before < 12 * 2**20
