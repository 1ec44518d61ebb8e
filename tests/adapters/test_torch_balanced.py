import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from support.samples import LABELS, REALS, Listed, Transformed, pictures, tensors
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

import ganaug
from ganaug import balanced
from ganaug.errors import DatasetError, SettingsError, UnknownClassError


@pytest.fixture
def pairs():
    return list(zip(tensors(), LABELS, strict=True))


@pytest.mark.parametrize(
    "as_label",
    [
        int,
        np.int64,
        torch.tensor,
        lambda label: torch.tensor([label], dtype=torch.int32),
        np.array,
        "ab".__getitem__,
    ],
    ids=["int", "numpy", "tensor", "tensor of one", "array", "text"],
)
def test_labels_are_of_the_type_of_the_real_ones(tiny_model, as_label):
    samples = [(image, as_label(label)) for image, label in zip(tensors(), LABELS, strict=True)]
    names = {"a": "cat", "b": "dog"} if isinstance(samples[0][1], str) else None
    dataset = balanced(Listed(samples), tiny_model, class_names=names)
    real, made = samples[-1][1], dataset[-1][1]
    assert type(made) is type(real)
    assert np.array_equal(made, real)
    _, labels = next(iter(DataLoader(dataset, 18)))
    assert len(labels) == 18
    assert dataset.targets[-1] == (1 if names is None else "b")


def test_labels_go_through_the_target_transform_of_the_dataset(tiny_model):
    def one_hot(label):
        return torch.eye(2)[label]

    samples = list(zip(tensors(), LABELS, strict=True))
    dataset = balanced(Transformed(samples, targets=LABELS, target_transform=one_hot), tiny_model)
    assert dataset[-1][1].tolist() == [0, 1]
    assert dataset.targets == LABELS + [1] * 5


@pytest.mark.parametrize(
    ("attributes", "looks"),
    [
        ({"targets": LABELS}, 1),
        ({"targets": torch.tensor(LABELS)}, 1),
        ({"labels": np.array(LABELS)}, 1),
        ({"labels": ["cat", "dog"]}, 14),
        ({}, 14),
    ],
    ids=str,
)
def test_labels_are_found_wherever_datasets_have_them(tiny_model, pairs, attributes, looks):
    looked_at = []

    class Watched(Listed):
        def __getitem__(self, index):
            looked_at.append(index)
            return super().__getitem__(index)

    whole = Watched(pairs, **attributes)
    for dataset in (whole, Subset(whole, range(13)), ConcatDataset([whole, Listed([])])):
        looked_at.clear()
        assert balanced(dataset, tiny_model).counts() == {"cat": (9, 0), "dog": (4, 5)}
        # The first one is looked at in any case.
        assert len(looked_at) == looks


def test_those_of_tensors_and_of_chosen_rows_are_found(tiny_model):
    whole = TensorDataset(torch.stack(tensors()), torch.tensor(LABELS))
    assert balanced(whole, tiny_model).counts() == {"cat": (9, 0), "dog": (4, 5)}
    part = Subset(Subset(whole, [12, 0, 11, 1, 2]), [0, 1, 3, 4])
    dataset = balanced(part, tiny_model)
    assert dataset.counts() == {"cat": (3, 0), "dog": (1, 2)}
    assert dataset.targets == [1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("class_names", "attributes", "labels", "made"),
    [
        (None, {}, (0, 1), "dog"),
        (None, {}, (2, 1), "dog"),
        (None, {}, ("emu", "cat"), "cat"),
        (None, {"classes": ["emu", "cat"]}, (0, 1), "cat"),
        (["dog", "emu"], {"classes": ["x", "y"]}, (0, 1), "emu"),
        ({7: "emu", 9: "dog"}, {}, (7, 9), "dog"),
        ({"huge": "emu", "tiny": "dog"}, {}, ("huge", "tiny"), "dog"),
    ],
)
def test_a_label_is_a_class_of_the_model(tiny_model, class_names, attributes, labels, made):
    samples = [(image, labels[label]) for image, label in zip(tensors(), LABELS, strict=True)]
    dataset = balanced(Listed(samples, **attributes), tiny_model, class_names=class_names)
    assert dataset.synthetic.counts == {made: 5}
    assert dataset[-1][1] == labels[1]
    assert torch.equal(dataset[-5][0], tensors(ganaug.load(tiny_model).sample(made, 1))[0])


def test_several_labels_may_be_one_class(tiny_model, pairs):
    samples = [*pairs[:9], *((image, 2 + index % 2) for index, (image, _) in enumerate(pairs[9:]))]
    dataset = balanced(Listed(samples), tiny_model, class_names={0: "cat", 2: "dog", 3: "dog"})
    assert dataset.counts() == {"cat": (9, 0), "dog": (4, 5)}
    assert dataset[-1][1] == 2


@pytest.mark.parametrize(
    ("to", "classes", "made"),
    [
        ("majority", None, {"dog": 5}),
        (10, None, {"cat": 1, "dog": 6}),
        (3, None, {}),
        ({"dog": 6}, None, {"dog": 2}),
        ({"dog": 6, "emu": 3, "cat": 1}, None, {"dog": 2, "emu": 3}),
        (10, "cat", {"cat": 1}),
        (10, ["dog"], {"dog": 6}),
        ("majority", ["dog", "emu"], {"dog": 5, "emu": 9}),
        ({"dog": 6, "cat": 20}, ["dog"], {"dog": 2}),
    ],
)
def test_each_class_is_filled_up_to_what_was_asked_for(tiny_model, pairs, to, classes, made):
    dataset = balanced(Listed(pairs), tiny_model, to, classes=classes)
    assert dataset.synthetic.counts == made
    for name, label in (("cat", 0), ("dog", 1), ("emu", 2)):
        assert dataset.targets.count(label) == LABELS.count(label) + made.get(name, 0)
    assert [label for _, label in dataset] == dataset.targets


def test_the_real_ones_come_first_as_they_were(tiny_model, pairs):
    dataset = balanced(Listed(pairs), tiny_model)
    assert all(dataset[index] is pairs[index] for index in range(13))
    assert [dataset.is_synthetic(index) for index in range(18)] == [False] * 13 + [True] * 5
    assert dataset.is_synthetic(-1)
    assert not dataset.is_synthetic(-18)
    assert dataset.classes == ["cat", "dog", "emu"]
    assert repr(dataset) == "<BalancedDataset: 13 real + 5 synthetic images (cat: 9 + 0, dog: 4 + 5)>"
    for index in (18, -19):
        with pytest.raises(IndexError):
            dataset[index]
        with pytest.raises(IndexError):
            dataset.is_synthetic(index)


def test_a_batch_is_what_its_samples_are_and_made_in_one_go(tiny_model, pairs):
    dataset = balanced(Listed(pairs), tiny_model, 30)
    again = balanced(Listed(pairs), tiny_model, 30)
    graphs, calls = again.synthetic.generator._graphs, []
    call = graphs.call
    graphs.call = lambda graph, feed: calls.append(len(feed["z"])) or call(graph, feed)
    order = np.random.default_rng(0).permutation(60).tolist()
    for (image, label), index in zip(again.__getitems__(order), order, strict=True):
        assert torch.equal(image, dataset[index][0])
        assert label == dataset[index][1]
    assert calls == [47]


def test_a_batch_of_real_ones_is_fetched_as_the_dataset_likes_it(tiny_model, pairs):
    class Batched(Listed):
        def __getitems__(self, indices):
            assert indices
            return [(self.samples[index][0] + 1, self.samples[index][1]) for index in indices]

    dataset = balanced(Batched(pairs), tiny_model)
    fetched = dataset.__getitems__([15, 2, 0])
    assert torch.equal(fetched[1][0], pairs[2][0] + 1)
    assert len(dataset.__getitems__([15, 16])) == 2


def test_other_epochs_and_seeds_have_other_synthetic_images(tiny_model, pairs):
    dataset = balanced(Listed(pairs), tiny_model, seed=3, start=5)
    first = dataset[-1][0]
    assert torch.equal(first, tensors(ganaug.load(tiny_model).sample("dog", 5, seed=3, start=5))[-1])
    dataset.set_epoch(1)
    assert not torch.equal(dataset[-1][0], first)


def test_looking_at_the_dataset_draws_no_random_numbers(tiny_model):
    def transform(picture):
        return torch.from_numpy(np.array(picture)) + torch.rand(())

    dataset = Transformed(list(zip(pictures(), LABELS, strict=True)), transform=transform)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    balanced(dataset, tiny_model)
    assert torch.equal(torch.rand(3), expected)


def test_it_can_be_sent_to_workers(tiny_model):
    dataset = balanced(TensorDataset(torch.stack(tensors()), torch.tensor(LABELS)), tiny_model)
    again = pickle.loads(pickle.dumps(dataset))
    assert all(torch.equal(again[index][0], dataset[index][0]) for index in range(18))


def test_nothing_is_asked_of_a_dataset_that_lacks_nothing(tiny_model):
    samples = [(np.full(3, 9.0), label) for label in (0, 1)]
    assert len(balanced(Listed(samples), tiny_model)) == 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


class CountedStream(Stream):
    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("dataset", "asked", "error"),
    [
        (Stream(), {}, "map-style"),
        (CountedStream(), {}, "map-style"),
        (Listed([]), {}, "empty"),
        (Listed([{"image": REALS[0], "label": 0}]), {}, "is a dict; wanted is"),
        (Listed([(REALS[0], 0, 1)]), {}, "tuple of 3"),
        (Listed([(REALS[0], 0.5)]), {}, "label is 0.5"),
        (Listed([(REALS[0], torch.eye(2)[0])]), {}, "label is tensor"),
        (Listed([(REALS[0], 3)]), {}, "label 3 has no class name"),
        (Listed([(REALS[0], 0)], targets=[1]), {"to": 2}, "not clear"),
        (Listed([(REALS[0], 0)]), {"to": {"dog": 1}, "class_names": {0: "cat"}}, "'dog' has no label"),
        (Listed([(REALS[0], 0)], classes=["0 - zero"]), {"to": 2}, "Pass class_names="),
        (Listed([(REALS[0].astype(np.int64), 0)]), {"to": 2}, "of int64"),
        (Listed([(REALS[0].repeat(2, axis=2), 0)]), {"to": 2}, r"shape \(8, 8, 2\)"),
        (Listed([(torch.zeros(8), 0)]), {"to": 2}, r"shape \(8,\)"),
        (Listed([("cat.png", 0)]), {"to": 2}, "a str"),
        (Listed([(Image.new("I;16", (8, 8)), 0)]), {"to": 2}, "mode I;16"),
        (Listed([(np.full((8, 8), np.nan), 0)]), {"to": 2}, "from nan"),
        (Listed([(REALS[0], 0)], transform=np.linalg.inv), {"to": 2}, "does not take a PIL image"),
    ],
)
def test_a_dataset_that_cannot_be_balanced_is_refused_at_once(tiny_model, dataset, asked, error):
    with pytest.raises(DatasetError, match=error):
        balanced(dataset, tiny_model, **asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"to": "median"},
        {"to": -1},
        {"to": 2.5},
        {"to": {"dog": -1}},
        {"class_names": "cat"},
        {"class_names": 3},
        {"seed": -1},
        {"start": -1},
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused_at_once(tiny_model, pairs, asked):
    with pytest.raises(SettingsError):
        balanced(Listed(pairs), tiny_model, **asked)


def test_a_class_that_the_model_cannot_make_is_refused_unless_it_is_left_out(tiny_model):
    labels = [*LABELS, "yak"]
    samples = [
        (image, label if label == "yak" else "cd"[label])
        for image, label in zip([*tensors(), tensors()[0]], labels, strict=True)
    ]
    dataset = Listed(samples)
    names = {"c": "cat", "d": "dog"}
    with pytest.raises(UnknownClassError, match="yak"):
        balanced(dataset, tiny_model, class_names=names)
    assert balanced(dataset, tiny_model, class_names=names, classes=["dog"]).counts()["yak"] == (1, 0)
    with pytest.raises(UnknownClassError, match="gnu"):
        balanced(dataset, tiny_model, class_names=names, classes=["gnu"])
