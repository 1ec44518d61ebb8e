"""The small CNN that the arena measures with and the screen judges with.

It is made to be quick on one core and strong on few images: strided convolutions down to a
grid of about 4 x 4, whose places are kept (averaging them away costs 60 points of rare-class
recall on the digits), and one hidden layer, whose activations are the features.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganaug.arms import ARMS
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import ModelError
from ganaug.progress import Progress, silent
from ganaug.recipe import Recipe
from ganaug.training.batches import batches
from ganaug.training.classifiers.network import Network
from ganaug.training.device import upload
from ganaug.training.mixing import mix
from ganaug.training.networks.conditioning import check_shape
from ganaug.training.objective import classification_loss
from ganaug.training.recorder import Recorder

CLASSIFIER_FILE = "classifier.json"
FORMAT = 1
BATCH = 64
FEATURES = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
WARM_UP = 0.15
"""Share of the steps in which the learning rate rises; it then falls along a cosine to 0."""
EPOCHS, LEAST_STEPS, MOST_STEPS = 30, 400, 1500
"""`auto` steps: so many rounds through the real images, within these bounds."""

Floats = npt.NDArray[np.float32]


class Classifier(Network):
    """A small CNN for images of one size.

    Args:
        image_shape: (height, width, channels) of its images, 8 to 64 px.
        n_classes: Number of classes, K.
        width: Channels of the first convolution; the others have up to four times as many.
        rng: Where initial weights come from; None leaves torch's, for weights that are loaded.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        width: int = 32,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.n_classes, self.width = image_shape, n_classes, width
        self.feature_count = FEATURES
        strides = _strides(min(image_shape[:2]))
        layers: list[nn.Module] = []
        channels, (height, breadth) = image_shape[2], image_shape[:2]
        for depth, stride in enumerate(strides):
            out = width * min(2**depth, 4 if min(image_shape[:2]) > 12 else 2)
            layers += [
                nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            channels, height, breadth = out, -(-height // stride), -(-breadth // stride)
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * height * breadth, FEATURES)
        self.head = nn.Linear(FEATURES, n_classes)
        if rng is not None:
            self._initialise(rng)

    def _initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Small last weights: the first steps are those of a classifier without an opinion.
        nn.init.normal_(self.head.weight, std=0.01, generator=rng)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify.

        Args:
            images: (N, C, H, W) float in [-1, 1].

        Returns:
            (N, K) logits and (N, 128) features.
        """
        features = torch.relu(self.hidden(self.body(images).flatten(1)))
        return self.head(features), features


def _strides(size: int) -> list[int]:
    """Strides of the convolutions, down to a grid of about 4 px (2 px where all is tiny).

    >>> _strides(8), _strides(16), _strides(32)
    ([1, 2, 2], [1, 2, 2, 1], [2, 2, 2, 1])
    """
    halvings = max(1, round(math.log2(size / 4)))
    if size < 12:
        return [1, *[2] * halvings, 2]
    # At full size a convolution is the dearest of all: small images alone afford one.
    return [*([1] if size <= 16 else []), *[2] * halvings, 1]


def auto_steps(n_images: int) -> int:
    """Training steps for so many real images, the same for every arm.

    >>> auto_steps(898), auto_steps(3_700), auto_steps(50_000)
    (421, 1500, 1500)
    """
    return min(max(math.ceil(EPOCHS * n_images / BATCH), LEAST_STEPS), MOST_STEPS)


def fit(
    recipe: Recipe,
    n_classes: int,
    *,
    seed: int,
    steps: int,
    device: str = "cpu",
    progress: Progress = silent,
    start: Callable[[torch.Generator], Network] | None = None,
) -> Network:
    """Train a classifier by an arm's recipe.

    AdamW, batches of 64, learning rate by one cycle. The same arguments give the same weights
    on a CPU with the same number of threads.

    Args:
        recipe: Images, how often each is drawn, augmented and mixed, and under which loss.
        n_classes: Number of classes, K.
        seed: Chooses initial weights, draws and augmentation.
        steps: Training steps.
        device: `cpu` or `cuda`.
        progress: Told of the images trained on.
        start: Makes what is trained, from a source of initial weights; None makes a `Classifier`.

    Returns:
        The classifier in evaluation mode, on `device`.

    Raises:
        SettingsError: The recipe asks for an unknown strength of augmentation.
    """
    rng = torch.Generator().manual_seed(seed)
    shape = tuple(recipe.images.shape[1:])
    model: Network = Classifier(shape, n_classes, rng=rng) if start is None else start(rng)
    model.to(device, memory_format=model.memory_format)  # type: ignore[call-overload]
    optimiser = _optimiser(model, device)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    offsets = upload(recipe.logit_offsets, device)
    mixing_rng, recorder = np.random.default_rng([seed, 2]), Recorder(device if model.is_recorded else "cpu")

    def learn(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        with _precision(model, device):
            logits = model(tensors["images"])[0]
        loss = classification_loss(
            logits.float(),
            tensors["labels"],
            tensors["partners"],
            tensors.get("shares"),
            weights=tensors["weights"],
            offsets=offsets,
            smoothing=recipe.label_smoothing,
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return {}

    for step, (images, class_ids) in enumerate(batches(recipe, BATCH, steps, seed), start=1):
        labels = upload(class_ids, device)
        inputs, partner, share = mix(_to_network(images, device), recipe.mixing, mixing_rng)
        tensors = {
            "images": inputs,
            "labels": labels,
            "partners": labels[partner],
            "weights": upload(recipe.loss_weights_at(step - 1, steps), device),
        }
        if share != 1.0:
            tensors["shares"] = upload(np.array([share, 1.0 - share], np.float32), device)
        recorder.play("learn", learn, tensors)
        schedule.step()
        progress(step * BATCH, steps * BATCH)
    model.eval()
    return model


def _precision(model: Network, device: str) -> AbstractContextManager[object]:
    if not device.startswith("cuda") or model.precision == torch.float32:
        return contextlib.nullcontext()
    # Older GPUs only imitate bfloat16.
    is_known = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast("cuda", model.precision, enabled=is_known, cache_enabled=False)


def _optimiser(model: Network, device: str) -> torch.optim.Optimizer:
    if not device.startswith("cuda"):
        return torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    # A step that is recorded reads the learning rate from where it lies.
    rate = torch.tensor(LEARNING_RATE, device=device)
    return torch.optim.AdamW(model.parameters(), rate, weight_decay=WEIGHT_DECAY, fused=True, capturable=True)


def _rate(step: int, steps: int) -> float:
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _to_network(images: Images, device: str) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float in [-1, 1]; bytes cross to the device."""
    pixels = upload(np.array(images), device)
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def predict(model: Network, images: Images, batch: int = 512) -> tuple[Floats, Floats]:
    """Probabilities and features of images.

    Args:
        model: A classifier in evaluation mode.
        images: (N, H, W, C) uint8, of its size.
        batch: Images at a time.

    Returns:
        (N, K) float32 probabilities and (N, F) float32 features, 128 of a `Classifier`.
    """
    device = str(next(model.parameters()).device)
    probabilities = [np.empty((0, model.n_classes), np.float32)]
    features = [np.empty((0, model.feature_count), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            logits, seen = model(_to_network(images[start : start + batch], device))
            probabilities.append(logits.softmax(1).cpu().numpy())
            features.append(seen.cpu().numpy())
    return np.concatenate(probabilities), np.concatenate(features)


def predict_proba(model: Network, images: Images) -> Floats:
    """(N, K) float32 probabilities of (N, H, W, C) uint8 images."""
    return predict(model, images)[0]


def save_weights(model: Network, path: Path) -> None:
    """Write the weights as safetensors, beside and then in place."""
    beside = path.with_suffix(".partial")
    save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, beside)
    beside.replace(path)


def train_classifiers(
    train: LabelledImages,
    count: int,
    folder: Path,
    *,
    seed: int,
    folds: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    steps: int | None = None,
) -> dict[str, Any]:
    """Train the screening classifiers: real training images only, oversampled and augmented.

    They differ by their seeds. Those that lie in the folder already are not trained again, and
    neither are those of the cross-validation.

    Args:
        train: Real training images.
        count: How many classifiers.
        folder: Gets `classifier-<i>.safetensors`, `fold-<k>.npz` and `classifier.json`.
        seed: Chooses all that is random.
        folds: Classifiers that each do without their share of the images; what they see in
            images is kept for screening to be measured on (`ganaug.screen.folds`).
        device: `cpu` or `cuda`.
        progress: Told of the images trained on, over all classifiers.
        steps: Training steps of each; None chooses by the number of images.

    Returns:
        `classifiers`, `folds`, `steps` and `seconds`.
    """
    from ganaug.training.folds import fold_file, train_fold

    began = time.perf_counter()
    recipe = ARMS["oversampling+albumentations"].recipe(train)
    steps, fold_steps = steps or auto_steps(len(train)), steps
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"classifier-{number}.safetensors" for number in range(count)]
    for number, file in enumerate(files):
        if not (folder / file).exists():
            # Far from the arena's seeds 0, 1, ...: its judges are not those of the screen.
            own_seed = 1_000_003 * (seed + 1) + number
            share = _share_of(progress, number, count + folds)
            model = fit(
                recipe, len(train.class_names), seed=own_seed, steps=steps, device=device, progress=share
            )
            save_weights(model, folder / file)
    for number in range(folds):
        share = _share_of(progress, count + number, count + folds)
        path = folder / fold_file(number)
        train_fold(train, number, folds, path, seed=seed, device=device, progress=share, steps=fold_steps)
    spec = {
        "format": FORMAT,
        "image_shape": list(train.images.shape[1:]),
        "class_names": list(train.class_names),
        "files": files,
        "steps": steps,
    }
    (folder / CLASSIFIER_FILE).write_text(json.dumps(spec, indent=2, ensure_ascii=False), encoding="utf-8")
    return {
        "classifiers": count,
        "folds": folds,
        "steps": steps,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _share_of(progress: Progress, number: int, count: int) -> Progress:
    def tell(done: int, total: int) -> None:
        progress(number * total + done, count * total)

    return tell


def load_classifiers(folder: Path, device: str = "cpu") -> list[Classifier]:
    """Load what `train_classifiers` left, in evaluation mode.

    Raises:
        ModelError: The folder holds no classifiers, or damaged ones.
    """
    return list(_load(folder, device))


def _load(folder: Path, device: str) -> Iterator[Classifier]:
    try:
        spec = json.loads((folder / CLASSIFIER_FILE).read_text(encoding="utf-8"))
        check_shape(spec["image_shape"])
        for file in spec["files"]:
            model = Classifier(tuple(spec["image_shape"]), len(spec["class_names"]))
            model.load_state_dict(load_file(folder / file))
            yield model.to(device).eval()
    except Exception as error:
        raise ModelError(
            f"{folder} holds no usable classifiers ({error}); train them again: delete the folder "
            "and run `ganaug train`"
        ) from error
