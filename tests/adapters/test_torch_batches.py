import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset, default_collate

import ganaug
from ganaug import GanCollate, SwapForSynthetic, SyntheticBatches
from ganaug.errors import DatasetError, DeviceError, ModelError, SettingsError, UnknownClassError
from ganaug.generate import Generator

HAS_GPU = torch.cuda.is_available()


@pytest.fixture
def generator(tiny_pair_model):
    return Generator.open(tiny_pair_model, device="cpu")


@pytest.fixture
def asked(generator, monkeypatch):
    """What is asked of the generator: class names and indices, call by call."""
    calls, sample_at = [], generator.sample_at

    def spy(names, indices, **how):
        calls.append((list(names), np.array(indices).tolist()))
        return sample_at(names, indices, **how)

    monkeypatch.setattr(generator, "sample_at", spy)
    return calls


def samples(labels, image=None):
    """No image of the tiny model is all zero."""
    return [(torch.zeros(1, 8, 8, dtype=torch.uint8) if image is None else image, label) for label in labels]


def are_made(images):
    return [bool(np.asarray(image).any()) for image in images]


def test_a_collate_replaces_images_of_the_named_classes_and_leaves_labels(generator):
    images, labels = GanCollate(generator, {"dog": 1.0})(samples([0, 1, 2, 1]))
    assert are_made(images) == [False, True, False, True]
    assert labels.tolist() == [0, 1, 2, 1]


def test_a_replacement_is_an_image_of_the_same_class(generator, asked):
    images, _ = GanCollate(generator, 1.0)(samples([2, 0, 1]))
    ((names, indices),) = asked
    assert names == ["emu", "cat", "dog"]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), generator.sample_at(names, indices))


def test_all_of_a_batch_are_made_in_one_call(generator, asked):
    GanCollate(generator, 1.0)(samples([0, 1, 2] * 20))
    assert [len(indices) for _, indices in asked] == [60]
    assert len(set(asked[0][1])) == 60


def test_nothing_is_opened_where_nothing_is_replaced(generator, asked):
    GanCollate(generator, 0.0)(samples([0, 1]))
    GanCollate(generator, {"emu": 1.0})(samples([0, 1]))
    assert not asked
    assert not generator._graphs._sessions


def test_each_class_is_replaced_as_often_as_was_asked_for(generator):
    torch.manual_seed(0)
    images, labels = GanCollate(generator, {"cat": 0.25, "dog": 0.75})(samples([0, 1] * 400))
    made = np.array(are_made(images))
    # 100 and 300 of 400; the standard deviation is 9.
    assert abs(made[labels == 0].sum() - 100) < 45
    assert abs(made[labels == 1].sum() - 300) < 45


def test_a_collate_follows_the_seed_of_torch_and_no_two_batches_are_alike(generator):
    collate, batches = GanCollate(generator, 0.5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        batches += [collate(samples([0, 1, 2] * 10))[0] for _ in range(2)]
    assert torch.equal(torch.stack(batches[:2]), torch.stack(batches[2:4]))
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[4])


@pytest.mark.parametrize("is_persistent", [False, True])
def test_workers_and_epochs_draw_other_images_and_follow_the_seed(generator, is_persistent):
    dataset = TensorDataset(torch.zeros(24, 1, 8, 8), torch.arange(24) % 3)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loader = DataLoader(
            dataset,
            4,
            collate_fn=GanCollate(generator, 1.0),
            num_workers=2,
            persistent_workers=is_persistent,
            timeout=60,
        )
        runs.append(torch.cat([images for _ in range(2) for images, _ in loader]))
    assert len(torch.unique(runs[0].flatten(1), dim=0)) == 48
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (12, 10)),
        np.zeros((10, 12, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        torch.zeros(3, 10, 12),
    ],
    ids=["PIL", "array", "array HW", "tensor"],
)
def test_a_replacement_is_what_the_image_was(generator, image):
    (made, _), *_ = GanCollate(generator, 1.0, collate=list)(samples([1], image))
    assert are_made([made]) == [True]
    if isinstance(image, Image.Image):
        assert (made.mode, made.size) == (image.mode, image.size)
    else:
        assert (type(made), made.dtype, made.shape) == (type(image), image.dtype, image.shape)


def test_normalised_images_take_a_transform(generator):
    normalised = torch.full((1, 8, 8), -1.0)
    with pytest.raises(DatasetError, match="transform="):
        GanCollate(generator, 1.0)(samples([0], normalised))
    collate = GanCollate(generator, 1.0, transform=lambda picture: torch.full((1, 8, 8), picture.size[0]))
    assert collate(samples([0], normalised))[0].unique().tolist() == [8]


def test_what_mixes_images_comes_after(generator):
    def mixing(batch):
        images, labels = default_collate(batch)
        return images.float().mean(0), labels

    image, _ = GanCollate(generator, 1.0, collate=mixing)(samples([0, 1]))
    assert image.shape == (1, 8, 8)
    assert image.any()


def test_labels_may_be_texts_or_named(generator, asked):
    GanCollate(generator, 1.0)(samples(["emu", "yak"]))
    GanCollate(generator, 1.0, class_names={5: "dog"})(samples([torch.tensor(5)]))
    GanCollate(generator, 1.0, class_names=["emu", "yak"])(samples([1, 0]))
    assert [names for names, _ in asked] == [["emu"], ["dog"], ["emu"]]


def test_a_collate_can_be_sent_to_workers(generator):
    collate = pickle.loads(pickle.dumps(GanCollate(generator, 1.0)))
    assert are_made(collate(samples([0]))[0]) == [True]


@pytest.mark.parametrize(
    ("sample", "error"),
    [
        ({"image": 0}, "is a dict"),
        ((torch.zeros(1, 8, 8),), "tuple of 1"),
        ((torch.zeros(1, 8, 8), 3), "label 3 has no class name"),
        ((torch.zeros(1, 8, 8), -1), "label -1 has no class name"),
        ((torch.zeros(1, 8, 8), torch.eye(3)[0]), "label is tensor"),
        ((torch.zeros(2, 8, 8), 0), "shape"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(generator, sample, error):
    with pytest.raises(DatasetError, match=error):
        GanCollate(generator, 1.0)([sample])


def test_a_swap_takes_and_gives_image_and_label(generator):
    image = torch.zeros(1, 8, 8)
    assert SwapForSynthetic(generator, {"dog": 1.0})(image, 0) == (image, 0)
    made, label = SwapForSynthetic(generator, {"dog": 1.0})(image, 1)
    assert (made.shape, made.dtype, label) == (image.shape, image.dtype, 1)
    assert are_made([made]) == [True]
    assert repr(SwapForSynthetic(generator, {"dog": 0.5})) == "SwapForSynthetic('tiny', {'dog': 0.5})"


def test_a_swap_draws_another_image_each_time_and_follows_the_seed_of_torch(generator):
    swap, drawn = SwapForSynthetic(generator, 1.0), []
    for seed in (3, 3):
        torch.manual_seed(seed)
        drawn += [swap(Image.new("L", (8, 8)), 2)[0].tobytes() for _ in range(5)]
    assert drawn[:5] == drawn[5:]
    assert len(set(drawn)) == 5


def test_a_swap_stands_in_a_composition_of_torchvision(generator):
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    composed = v2.Compose(
        [
            SwapForSynthetic(generator, 1.0),
            v2.Resize(16),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    image, label = composed(Image.new("L", (8, 8)), 1)
    assert (tuple(image.shape), image.dtype, label) == ((1, 16, 16), torch.float32, 1)
    assert image.max() > 0
    later = v2.Compose([v2.ToImage(), SwapForSynthetic(generator, 1.0)])
    assert type(later(Image.new("L", (8, 8)), 1)[0]).__name__ == "Image"


@pytest.mark.parametrize("kind", [GanCollate, SwapForSynthetic])
@pytest.mark.parametrize(
    ("probabilities", "more", "error"),
    [
        (1.5, {}, SettingsError),
        (-0.1, {}, SettingsError),
        (float("nan"), {}, SettingsError),
        ("half", {}, SettingsError),
        ({"cat": 2}, {}, SettingsError),
        ({"yak": 0.5}, {}, UnknownClassError),
        (0.5, {"class_names": "cat"}, SettingsError),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused_at_once(tiny_model, kind, probabilities, more, error):
    with pytest.raises(error):
        kind(tiny_model, probabilities, **more)


def test_whole_batches_are_those_of_the_stream(generator):
    how = {"seed": 3, "start": 2, "batches": 3, "truncation": 0.8}
    ours = list(SyntheticBatches(generator, 40, {"cat": 3, "emu": 1}, **how))
    theirs = list(generator.stream(40, {"cat": 3, "emu": 1}, **how))
    assert len(ours) == 3
    for (images, labels), (expected, class_ids) in zip(ours, theirs, strict=True):
        assert (images.shape, images.dtype, labels.dtype) == ((40, 1, 8, 8), torch.uint8, torch.int64)
        np.testing.assert_array_equal(images.permute(0, 2, 3, 1), expected)
        np.testing.assert_array_equal(labels, class_ids)


def test_labels_go_with_the_images_where_a_model_has_several_graphs():
    generator = ganaug.load("exported/digits", device="cpu")
    (images, labels), *_ = SyntheticBatches("exported/digits", 50, device="cpu", batches=1)
    (expected, class_ids), *_ = generator.stream(50, batches=1)
    pairs = zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True)
    assert {(image.tobytes(), label) for image, label in pairs} == {
        (image.tobytes(), label) for image, label in zip(expected, class_ids.tolist(), strict=True)
    }


def test_onnx_runtime_writes_into_the_tensor_itself(write_model, tmp_path, monkeypatch):
    write_model(tmp_path / "rgb", image_shape=(6, 8, 3))
    generator, addresses = Generator.open(tmp_path / "rgb", device="cpu"), []
    sample_into = generator.sample_into
    monkeypatch.setattr(
        generator,
        "sample_into",
        lambda address, *what, **how: addresses.append(address) or sample_into(address, *what, **how),
    )
    batches = list(SyntheticBatches(generator, 8, batches=3))
    assert addresses == [images.data_ptr() for images, _ in batches]
    for images, _ in batches:
        assert images.shape == (8, 3, 6, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_whole_batches_go_together_with_a_real_batch(generator):
    real = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    images, labels = next(iter(SyntheticBatches(generator, 4)))
    both = torch.cat([real[0], images.float().div_(255)]), torch.cat([real[1], labels])
    assert (both[0].shape, both[1].shape) == ((8, 1, 8, 8), (8,))
    assert both[0].max() <= 1


def test_whole_batches_have_no_end_and_begin_anew_each_time(generator):
    batches = SyntheticBatches(generator, 2)
    first = [images for images, _ in islice(batches, 100)]
    assert len(first) == 100
    assert torch.equal(next(iter(batches))[0], first[0])


def test_whole_batches_are_on_the_cpu_without_a_gpu(tiny_model):
    if not HAS_GPU:
        batches = SyntheticBatches(tiny_model, 4)
        assert batches.device == next(iter(batches))[0].device == torch.device("cpu")
    assert SyntheticBatches(tiny_model, 4, device="cpu").device == torch.device("cpu")


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused_at_once(tiny_model, device):
    with pytest.raises(DeviceError):
        SyntheticBatches(tiny_model, 4, device=device)


@pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_whole_batches_on_a_gpu_are_those_of_the_cpu_within_a_grey_level(device):
    # Kernels that still run on memory which is free by then must not write over what comes.
    work = torch.rand(4096, 4096, device="cuda")
    for _ in range(20):
        work = (work @ work).softmax(0)
        torch.empty(0, device="cuda")
    on_gpu = SyntheticBatches("exported/digits", 256, device=device, batches=4)
    on_cpu = SyntheticBatches("exported/digits", 256, device="cpu", batches=4)
    assert on_gpu.device == torch.device("cuda", 0)
    for (images, labels), (expected, class_ids) in zip(on_gpu, on_cpu, strict=True):
        assert images.device == labels.device == on_gpu.device
        assert (images.cpu().int() - expected.int()).abs().max() <= 1
        assert torch.equal(labels.cpu(), class_ids)


@pytest.mark.parametrize(
    "asked",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"seed": -1},
        {"truncation": 2},
        {"start": -1},
        {"batches": -1},
        {"classes": []},
        {"classes": {"cat": -1.0}},
        {"device": "mps"},
        {"device": "cuda:x"},
    ],
    ids=str,
)
def test_whole_batches_that_cannot_be_are_refused_at_once(tiny_model, asked):
    with pytest.raises(SettingsError):
        SyntheticBatches(tiny_model, **asked)


def test_a_generator_stays_where_it_is(generator):
    assert SyntheticBatches(generator, 4).generator is generator
    with pytest.raises(SettingsError, match="stays where it is"):
        SyntheticBatches(generator, 4, device="cpu")


def test_whole_batches_of_unknown_classes_and_models_are_refused_at_once(tiny_model):
    with pytest.raises(UnknownClassError, match="yak"):
        SyntheticBatches(tiny_model, 4, ["yak"])
    with pytest.raises(ModelError):
        SyntheticBatches("no/such/model")
