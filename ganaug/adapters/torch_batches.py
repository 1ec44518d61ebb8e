"""Synthetic images in batches: in place of real ones as they are drawn, or whole batches on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import default_collate

from ganaug.adapters.torch_samples import (
    ClassNames,
    ImageKind,
    check_known,
    check_whole,
    open_for_loading,
    pair_of,
    plain_label,
    to_picture,
)
from ganaug.errors import DeviceError, SettingsError
from ganaug.generate import Generator
from ganaug.latents import MAX_INDEX
from ganaug.streaming import stream


class GanCollate:
    """A `collate_fn` that puts synthetic images in the place of real ones of the same class.

    Each sample is replaced with the probability of its class; all that a batch needs are made in one
    go. They become what the image was that they replace: PIL image, array or tensor, uint8 or from 0 to
    1. Labels stay. What mixes images (MixUp, CutMix) goes into `collate`, which comes after.

    Which samples and which synthetic images is drawn with torch's random numbers of the process: after
    `torch.manual_seed` it is the same again, and it differs between workers and between epochs.

    Args:
        model: A generator, a model folder or a name in the store. By name it runs on the CPU, and so does
            a generator whose device is `auto`: a GPU cannot be used in forked workers.
        probabilities: From 0 to 1 by class name, as `{"3": 0.25}`, others stay as they are; or one number
            for every class that the model can make.
        class_names: The model's name of each label, by class id or as `{label: name}`. Nothing: a class id
            is the model's, and a text is a name.
        transform: Makes of a PIL image (mode L, RGB or RGBA) what samples hold; for images that are
            normalised, say.
        collate: Makes a batch of the samples.

    Raises:
        SettingsError: A probability or `class_names` that cannot be used.
        UnknownClassError: A class that the model cannot make.
        ModelError: There is no such model, or its card is damaged.
    """

    def __init__(
        self,
        model: Generator | Path | str,
        probabilities: float | Mapping[str, float],
        *,
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
        transform: Callable[[Image.Image], Any] | None = None,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        self._swap = _Swap(model, probabilities, class_names, transform)
        self.collate = collate

    def __call__(self, samples: Sequence[tuple[Any, Any]]) -> Any:
        """Replace and collate.

        Raises:
            DatasetError: An image or a label is of no kind that can be used.
        """
        return self.collate(self._swap(samples))


class SwapForSynthetic:
    """A transform of torchvision's `v2` kind: (image, label) in, the same or a synthetic image out.

    `v2.Compose([SwapForSynthetic(...), ...])(image, label)` calls it with both. It takes PIL images, and arrays
    and tensors, as uint8 or from 0 to 1, so before `Normalize`. torchvision is not needed for it.

    Args:
        model: As for `GanCollate`.
        probabilities: As for `GanCollate`.
        class_names: As for `GanCollate`.

    Raises:
        SettingsError, UnknownClassError, ModelError: As `GanCollate`.
    """

    def __init__(
        self,
        model: Generator | Path | str,
        probabilities: float | Mapping[str, float],
        *,
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
    ) -> None:
        self._swap = _Swap(model, probabilities, class_names, None)

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        """The image, or a synthetic one of its class and kind; the label stays.

        Raises:
            DatasetError: The image or the label is of no kind that can be used.
        """
        return self._swap([(image, label)])[0]

    def __repr__(self) -> str:
        return f"SwapForSynthetic({self._swap.generator.card.name!r}, {self._swap.probabilities})"


class SyntheticBatches:
    """Whole labelled batches without end, written by ONNX Runtime into a tensor on the device, without a copy.

    Images are (N, C, H, W) uint8 in `channels_last` memory: a quarter of float32, and exact;
    `images.float().div_(255)` gives what torchvision's `ToTensor` does. Labels are (N,) int64 class ids of the model.

    Batch b holds the images of batch b of `Generator.stream`, those of one graph together.

    Args:
        model: A generator, which stays where it runs, a model folder or a name in the store.
        batch_size: Images of a batch.
        classes: Class names; with shares, as `{"3": 2, "8": 1}`; nothing: all, each as often.
        device: `cpu`, `cuda` or `cuda:1`, for a model given by folder or name; `auto` takes the GPU where
            both torch and ONNX Runtime have it.
        seed: Another one gives other labels and other images.
        start: First batch.
        batches: How many; nothing: without end.
        truncation: Scale of the latents; below 1 images are more typical, less varied.

    Attributes:
        generator: What makes the images.
        device: Where the tensors are.

    Raises:
        DeviceError: A GPU was asked for that torch or ONNX Runtime does not have.
        SettingsError: A number, share or device that cannot be used.
        UnknownClassError: A class that the model cannot make.
        ModelError: There is no such model, or it is damaged.
    """

    def __init__(
        self,
        model: Generator | Path | str,
        batch_size: int = 64,
        classes: str | Sequence[str] | Mapping[str, float] | None = None,
        *,
        device: str = "auto",
        seed: int = 0,
        start: int = 0,
        batches: int | None = None,
        truncation: float = 1.0,
    ) -> None:
        self.generator = _open_on(model, device)
        self.device = _device_of(self.generator)
        self._asked: dict[str, Any] = {
            "batch_size": batch_size,
            "classes": self.generator.class_names if classes is None else classes,
            "seed": seed,
            "start": start,
            "batches": batches,
            "part": 0,
            "parts": 1,
            "truncation": truncation,
        }
        # What cannot be asked for is told at once.
        check_whole({"batch_size": batch_size, "seed": seed, "start": start})
        self.generator.sample_at([], [], truncation=truncation)
        iter(self)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = stream(self._make, self.generator.card, **self._asked)
        return (self._labelled(made, class_ids) for made, class_ids in batches)

    def _make(self, names: Sequence[str], indices: npt.NDArray[np.int64], **how: Any) -> Any:
        """The images, as they lie in memory, and which row each that was asked for has."""
        room = torch.empty((len(names), *self.generator.image_shape), dtype=torch.uint8, device=self.device)
        if room.is_cuda:
            # The memory may be that of a tensor which torch's stream has still to read; ONNX Runtime
            # writes on a stream of its own, and has written when it comes back.
            torch.cuda.current_stream(self.device).synchronize()
        return room, self.generator.sample_into(room.data_ptr(), names, indices, **how)

    def _labelled(self, made: Any, class_ids: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        images, rows = made
        # The labels go where the images are: moving those would be a copy.
        labels = np.empty_like(class_ids)
        labels[rows] = class_ids
        return images.permute(0, 3, 1, 2), torch.from_numpy(labels).to(self.device)


class _Swap:
    """Samples, of which some get a synthetic image in the place of their own."""

    def __init__(
        self,
        model: Generator | Path | str,
        probabilities: float | Mapping[str, float],
        class_names: Sequence[str] | Mapping[Any, str] | None,
        transform: Callable[[Image.Image], Any] | None,
    ) -> None:
        self.generator = open_for_loading(model)
        able = self.generator.class_names
        self.probabilities = (
            dict(probabilities) if isinstance(probabilities, Mapping) else dict.fromkeys(able, probabilities)
        )
        check_known(self.probabilities, self.generator)
        wrong = {name: value for name, value in self.probabilities.items() if not _is_share(value)}
        if wrong:
            raise SettingsError([f"probabilities: {wrong} are not from 0 to 1"])
        self._names = ClassNames(self.generator.card.class_names if class_names is None else class_names)
        self._transform = transform

    def __call__(self, samples: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        swapped = [pair_of(sample) for sample in samples]
        names = [self._names.of(plain_label(label)) for _, label in swapped]
        chances = torch.tensor([self.probabilities.get(name, 0.0) for name in names])
        rows = torch.nonzero(torch.rand(len(names)) < chances).flatten().tolist()
        if rows:
            indices = torch.randint(MAX_INDEX, (len(rows),)).numpy()
            made = self.generator.sample_at([names[row] for row in rows], indices)
            for row, image in zip(rows, made, strict=True):
                own, label = swapped[row]
                make = ImageKind.of(own) if self._transform is None else self._transform
                swapped[row] = (make(to_picture(image)), label)
        return swapped


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(0 <= value <= 1)


def _open_on(model: Generator | Path | str, device: str) -> Generator:
    if isinstance(model, Generator):
        if device != "auto":
            raise SettingsError(
                [f"device: {device!r}; a generator stays where it is, give its folder or name"]
            )
        return model
    if device == "auto" and not torch.cuda.is_available():
        return Generator.open(model, device="cpu")
    kind, _, number = device.partition(":")
    if not (number or "0").isdecimal():
        raise SettingsError([f"device: {device!r}; wanted is auto, cpu, cuda or cuda:1"])
    gpu = int(number) if number else torch.cuda.current_device() if torch.cuda.is_available() else 0
    return Generator.open(model, device=kind, gpu=gpu)


def _device_of(generator: Generator) -> torch.device:
    """Where ONNX Runtime runs, as torch calls it."""
    if not generator.is_on_gpu():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"the generator runs on a GPU, and torch {torch.__version__} finds none; use device='cpu', or install a "
            "CUDA build of torch"
        )
    return torch.device("cuda", generator.gpu)
