import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ganaug import card as cards
from ganaug.config import ExportConfig
from ganaug.errors import ModelError, ParityError
from ganaug.generate import Generator
from ganaug.training.export import export_classifier_module, export_generator, export_module

NAMES = ("cat", "dog", "emu", "fox")
SHAPE = (6, 8, 3)


class TinyGenerator(nn.Module):
    """Classes dog and fox of four; no exemplars; asks for len(z), as networks do."""

    z_dim, image_shape, class_ids, exemplar_counts = 5, SHAPE, (1, 3), None

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 5)
        self.first = nn.Linear(10, 4 * 3 * 4)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, z, class_id):
        h = self.first(torch.cat([z, self.embed(class_id)], 1)).view(len(z), 4, 3, 4)
        h = nn.functional.interpolate(h, size=SHAPE[:2], mode="bilinear", align_corners=False)
        return torch.tanh(4 * self.last(h))


class TinyPairGenerator(nn.Module):
    """Moves an exemplar along a learned direction."""

    z_dim, image_shape, class_ids, exemplar_counts = 5, SHAPE, (0, 2), (3, 2)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("exemplars", torch.randint(0, 256, (5, 3, 6, 8), dtype=torch.uint8))
        self.register_buffer("starts", torch.tensor([0, 0, 3]))
        self.move = nn.Linear(5, 3 * 6 * 8)

    def forward(self, z, class_id, exemplar):
        start = self.exemplars[self.starts[class_id] + exemplar].float() / 127.5 - 1
        return (start + self.move(z).view(-1, 3, 6, 8)).clamp(-1, 1)


class TinyClassifier(nn.Module):
    """Three classes from five features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.LeakyReLU(0.2), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(5, 3)

    def forward(self, images):
        features = self.body(images)
        return self.head(features.flatten(1)), features


def seeded(module_class):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module_class().eval()


def export(module, folder, **settings):
    return export_module(
        module,
        folder,
        ExportConfig(**settings),
        class_names=NAMES,
        dataset_sha256="0" * 64,
        trained_on={"cat": 7},
        recipe="tiny",
    )


@pytest.fixture(scope="module", params=[TinyGenerator, TinyPairGenerator], ids=["class", "pair"])
def exported(request, tmp_path_factory):
    """(module, folder, card) of each kind."""
    module, folder = seeded(request.param), tmp_path_factory.mktemp("export")
    return module, folder, export(module, folder)


def torch_images(module, **inputs):
    with torch.inference_mode():
        images = module(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    return np.rint((images.astype(np.float64) + 1) * 127.5).clip(0, 255).transpose(0, 2, 3, 1)


def test_the_graph_makes_what_torch_makes_within_one_level(exported):
    module, folder, _ = exported
    rng = np.random.default_rng(1)
    inputs = {
        "z": rng.standard_normal((33, 5), dtype=np.float32) * 2,
        "class_id": rng.choice(module.class_ids, 33),
    }
    if module.exemplar_counts:
        inputs["exemplar"] = rng.integers(0, 2, 33)
    images = onnxruntime.InferenceSession(folder / "generator.onnx").run(["image"], inputs)[0]
    assert (images.shape, images.dtype) == ((33, *SHAPE), np.uint8)
    assert np.abs(images - torch_images(module, **inputs)).max() <= 1
    assert len(np.unique(images)) > 50


def test_the_export_can_be_generated_from(exported):
    module, folder, card = exported
    generator = Generator.open(folder)
    assert generator.card == card
    assert generator.class_names == tuple(NAMES[class_id] for class_id in module.class_ids)
    assert generator.sample(generator.class_names, 3).shape == (6, *SHAPE)


def test_the_card_says_what_was_exported(exported):
    module, folder, card = exported
    (graph,) = card.graphs
    assert cards.verify(folder) == card
    assert (card.class_names, card.image_shape, card.recipe) == (NAMES, SHAPE, "tiny")
    assert (graph.z_dim, graph.exemplar_counts, card.trained_on) == (5, module.exemplar_counts, {"cat": 7})


def test_the_graph_stands_alone_and_tells_nothing_of_the_machine(exported):
    _, folder, _ = exported
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "generator.onnx"]
    content = (folder / "generator.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert b"test_export" not in content
    assert b".py" not in content
    said = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert said["ganaug.image_shape"] == list(SHAPE)


def test_a_graph_that_does_not_make_torchs_images_is_not_exported(tmp_path):
    class Dice(TinyGenerator):
        def forward(self, z, class_id):
            return super().forward(z, class_id) * torch.rand_like(z[:, :1, None, None])

    with pytest.raises(ParityError, match="grey levels"):
        export(seeded(Dice), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_generator_that_diverged_is_not_exported(tmp_path):
    module = seeded(TinyGenerator)
    nn.init.constant_(module.last.bias, float("nan"))
    with pytest.raises(ParityError, match="training diverged"):
        export(module, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_for_one_batch_size_is_not_exported(tmp_path):
    class OneBatch(TinyGenerator):
        def forward(self, z, class_id):
            return super().forward(z, class_id) + torch.zeros(4 if len(z) == 4 else 1, 1, 1, 1)

    with pytest.raises(ModelError, match="cannot be exported for every batch size"):
        export(seeded(OneBatch), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_generator_is_a_clear_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "generator.safetensors")
    with pytest.raises(ModelError, match="no generator"):
        export_generator(
            tmp_path, tmp_path / "out", ExportConfig(), class_names=NAMES, dataset_sha256="0" * 64
        )


def test_a_classifier_takes_public_images_and_gives_probabilities_and_features(tmp_path):
    module = seeded(TinyClassifier)
    told = export_classifier_module(module, SHAPE, tmp_path / "classifier-0.onnx", 20)
    assert told["bytes"] == (tmp_path / "classifier-0.onnx").stat().st_size
    images = np.random.default_rng(2).integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "classifier-0.onnx")
    probability, features = session.run(["probability", "features"], {"image": images})
    with torch.inference_mode():
        logits, _ = module(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(127.5) - 1))
    np.testing.assert_allclose(probability, logits.softmax(1), atol=1e-4)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    assert features.shape == (9, 5)
