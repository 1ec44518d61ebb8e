import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler

import ganaug
from ganaug import SyntheticDataset
from ganaug.errors import ModelError, SettingsError, UnknownClassError
from ganaug.generate import Generator


@pytest.fixture
def generator(tiny_pair_model):
    return Generator.open(tiny_pair_model, device="cpu")


@pytest.fixture
def calls(generator, monkeypatch):
    """How many images each call of ONNX Runtime makes."""
    made, call = [], generator._graphs.call
    monkeypatch.setattr(
        generator._graphs, "call", lambda graph, feed: made.append(len(feed["z"])) or call(graph, feed)
    )
    return made


def test_a_position_is_one_address_in_any_order_and_batch(generator):
    dataset = SyntheticDataset(generator, {"emu": 70, "cat": 30}, seed=5, start=9)
    names, indices = ["emu"] * 70 + ["cat"] * 30, [*range(9, 79), *range(9, 39)]
    expected = generator.sample_at(names, indices, seed=5)
    np.testing.assert_array_equal(dataset.images(range(100)), expected)
    order = np.random.default_rng(0).permutation(100).tolist()
    for fetched in ([dataset[i] for i in order], dataset.__getitems__(order)):
        np.testing.assert_array_equal(
            torch.stack([image for image, _ in fetched]).numpy() * 255, expected[order].transpose(0, 3, 1, 2)
        )
    shorter = SyntheticDataset(generator, {"emu": 70, "cat": 30}, seed=5, start=9, cache_bytes=0)
    np.testing.assert_array_equal(shorter.images(order), expected[order])


def test_a_sample_is_a_float_tensor_as_torchvision_makes_it_and_a_class_id(write_model, tmp_path):
    write_model(tmp_path / "rgb", image_shape=(6, 8, 3))
    image, label = SyntheticDataset(tmp_path / "rgb", {"dog": 3})[1]
    pixels = ganaug.load(tmp_path / "rgb").sample("dog", 3)[1]
    assert (image.shape, image.dtype, type(label), label) == ((3, 6, 8), torch.float32, int, 1)
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div(255))


def test_a_transform_gets_a_pil_image_and_a_target_transform_a_class_id(generator):
    seen = []
    dataset = SyntheticDataset(
        generator, {"emu": 2}, transform=lambda picture: seen.append(picture) or 7, target_transform=str
    )
    assert dataset[1] == (7, "2")
    assert dataset.__getitems__([0, 1]) == [(7, "2"), (7, "2")]
    assert {(picture.mode, picture.size) for picture in seen} == {("L", (8, 8))}
    np.testing.assert_array_equal(np.asarray(seen[0]), generator.sample("emu", 2)[1, ..., 0])


def test_it_has_what_torchvision_datasets_have(generator):
    dataset = SyntheticDataset(generator, {"emu": 2, "cat": 1})
    assert dataset.classes == ["cat", "dog", "emu"]
    assert dataset.class_to_idx == {"cat": 0, "dog": 1, "emu": 2}
    assert dataset.targets == [label for _, label in dataset] == [2, 2, 0]
    assert len(SyntheticDataset(generator, 4)) == 12
    assert repr(dataset) == "<SyntheticDataset of tiny: 3 images (emu: 2, cat: 1)>"


def test_a_dataset_of_many_classes_is_shown_in_one_line(write_model, tmp_path):
    names = [f"class {number}" for number in range(40)]
    write_model(tmp_path / "many", class_ids=range(40), class_names=names)
    assert repr(SyntheticDataset(tmp_path / "many", 2)).endswith(
        "80 images (" + ", ".join(f"{name}: 2" for name in names[:12]) + ", …)>"
    )


def test_samplers_subsets_and_chains_take_it(generator):
    dataset = SyntheticDataset(generator, {"cat": 90, "dog": 10})
    weights = 1 / np.bincount(dataset.targets)
    drawn = DataLoader(dataset, 20, sampler=WeightedRandomSampler(weights[dataset.targets].tolist(), 400))
    assert 140 < sum(int(labels.sum()) for _, labels in drawn) < 260
    chain = ConcatDataset([Subset(dataset, [95, 3]), dataset])
    assert [label for _, label in chain][:3] == [1, 0, 0]
    assert torch.equal(chain[0][0], dataset[95][0])
    (images, labels), *_ = DataLoader(Subset(dataset, [95, 3]), 2)
    assert torch.equal(images[0], dataset[95][0])
    assert labels.tolist() == [1, 0]


def test_a_batch_is_one_call_for_each_graph():
    generator = ganaug.load("exported/digits", device="cpu")
    dataset = SyntheticDataset(generator, 30)
    calls, call = [], generator._graphs.call
    generator._graphs.call = lambda graph, feed: calls.append(graph.file) or call(graph, feed)
    dataset.__getitems__([0, 299, 100, 170, 260, 30, 31, 100])
    assert sorted(calls) == ["003-3.onnx", "005-5.onnx", "008-8.onnx", "base.onnx"]


def test_neighbours_are_made_together_and_kept(generator, calls):
    dataset = SyntheticDataset(generator, {"cat": 100, "dog": 50})
    for _ in range(3):
        for position in range(150):
            dataset[position]
    dataset.__getitems__(list(range(150)))
    assert calls == [64, 64, 22]
    backwards = SyntheticDataset(generator, {"cat": 100, "dog": 50})
    assert len([backwards[-1 - position] for position in range(150)]) == 150
    assert calls[3:] == [22, 64, 64]


def test_a_batch_makes_what_is_not_there_yet(generator, calls):
    dataset = SyntheticDataset(generator, {"cat": 100})
    dataset.__getitems__([3, 70, 3])
    dataset.__getitems__([70, 71, 3, 99])
    assert calls == [2, 2]


def test_it_keeps_no_more_bytes_than_it_may(generator, calls):
    dataset = SyntheticDataset(generator, {"cat": 100}, cache_bytes=10 * 64 + 63)
    whole = dataset.images(range(100))
    assert dataset._kept.images.nbytes == 640
    calls.clear()
    np.testing.assert_array_equal(dataset.images(range(100)), whole)
    assert calls == [64, 26]
    assert [torch.equal(dataset[i][0], dataset[i][0]) for i in (0, 9, 10, 99)] == [True] * 4


def test_what_was_fetched_can_be_written_into(generator):
    dataset = SyntheticDataset(generator, {"cat": 3})
    before = dataset.images(range(3))
    dataset.images(range(3))[:] = 0
    for image, _ in (dataset[0], dataset.__getitems__([1])[0]):
        image.zero_()
    dataset.transform = lambda picture: picture.paste(0, (0, 0, 8, 8))
    for position in range(3):
        dataset[position]
    np.testing.assert_array_equal(dataset.images(range(3)), before)


def test_no_two_epochs_share_an_image_and_each_comes_back(generator):
    dataset = SyntheticDataset(generator, {"cat": 40, "emu": 30}, start=7)
    epochs = []
    for epoch in (0, 1, 2, 0):
        dataset.set_epoch(epoch)
        epochs.append(dataset.images(range(70)))
    np.testing.assert_array_equal(epochs[0], epochs[3])
    assert len(np.unique(np.concatenate(epochs[:3]).reshape(210, -1), axis=0)) == 210
    np.testing.assert_array_equal(epochs[2][:40], generator.sample("cat", 40, start=7 + 80))
    np.testing.assert_array_equal(epochs[2][40:], generator.sample("emu", 30, start=7 + 60))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_stay_see_the_epoch(generator, context):
    dataset = SyntheticDataset(generator, {"cat": 20})
    loader = DataLoader(
        dataset, 5, num_workers=2, persistent_workers=True, multiprocessing_context=context, timeout=60
    )
    seen = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        seen.append(torch.cat([images for images, _ in loader]))
        assert torch.equal(seen[-1], torch.stack([image for image, _ in dataset]))
    assert not torch.equal(seen[0], seen[1])


def test_another_process_gets_the_dataset_without_what_was_made(generator):
    dataset = SyntheticDataset(generator, {"cat": 5000})
    dataset.images(range(5000))
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    np.testing.assert_array_equal(pickle.loads(sent).images([4000]), dataset.images([4000]))


def test_positions_count_from_the_end_too_and_end_there(generator):
    dataset = SyntheticDataset(generator, {"cat": 2, "dog": 1})
    assert torch.equal(dataset[-1][0], dataset[2][0])
    assert torch.equal(dataset[torch.tensor(1)][0], dataset[np.int64(1)][0])
    for position in (3, -4):
        with pytest.raises(IndexError, match="3 images"):
            dataset[position]
        with pytest.raises(IndexError, match="3 images"):
            dataset.__getitems__([0, position])
    with pytest.raises(TypeError):
        dataset[0.5]


def test_it_may_be_empty(generator):
    for counts in (0, {}, {"cat": 0}):
        assert list(SyntheticDataset(generator, counts)) == []


def test_a_gpu_is_used_only_where_one_was_asked_for(tiny_model):
    # Workers are forked, and CUDA does not start in a fork of a process that uses it.
    assert SyntheticDataset(tiny_model, 1).generator.device == "cpu"
    assert SyntheticDataset(ganaug.load(tiny_model), 1).generator.device == "cpu"
    on_gpu = Generator.open(tiny_model, device="cuda")
    assert SyntheticDataset(on_gpu, 1).generator is on_gpu


def test_truncation_makes_images_more_alike(generator):
    spreads = [
        SyntheticDataset(generator, {"cat": 64}, truncation=truncation).images(range(64)).std(0).mean()
        for truncation in (1.0, 0.1)
    ]
    assert spreads[1] < spreads[0]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"counts": -1}, "cat: -1"),
        ({"counts": 2.5}, "dog: 2.5"),
        ({"counts": {"cat": "many"}}, "cat: 'many'"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"start": -1}, "start"),
        ({"start": 2**62}, "start"),
        ({"start": 2**62 - 4}, "start"),
        ({"truncation": 0}, "truncation"),
        ({"truncation": 1.5}, "truncation"),
        ({"cache_bytes": -1}, "cache_bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_at_once(generator, asked, error):
    with pytest.raises(SettingsError, match=error):
        SyntheticDataset(generator, **{"counts": 5, **asked})


@pytest.mark.parametrize("epoch", [-1, 0.5, 2**62])
def test_an_epoch_that_cannot_be_is_refused(generator, epoch):
    with pytest.raises(SettingsError):
        SyntheticDataset(generator, 5).set_epoch(epoch)


def test_unknown_classes_and_models_are_refused_at_once(generator):
    with pytest.raises(UnknownClassError, match="yak"):
        SyntheticDataset(generator, {"cat": 1, "yak": 1})
    with pytest.raises(UnknownClassError, match="'7'"):
        SyntheticDataset(generator, {7: 1, "yak": 1})
    with pytest.raises(ModelError):
        SyntheticDataset("no/such/model", 1)


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


LAZY = "SyntheticDataset", "balanced", "BalancedDataset", "GanCollate", "SwapForSynthetic", "SyntheticBatches"


@pytest.mark.parametrize("name", LAZY)
def test_torch_is_loaded_when_a_name_is_used_and_no_earlier(name):
    script = (
        f"import ganaug, sys; print('torch' in sys.modules); ganaug.{name}; print('torch' in sys.modules)"
    )
    assert run(script) == ["False", "True"]


def test_what_is_missing_without_torch_is_said():
    script = (
        "import sys; sys.modules['torch'] = None\nimport ganaug\n"
        "try:\n    ganaug.balanced\n"
        "except ganaug.errors.MissingExtraError as error:\n    print(error)"
    )
    assert " ".join(run(script)) == "ganaug.balanced needs optional packages: pip install 'ganaug[train]'"
