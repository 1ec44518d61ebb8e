"""Samples of torch datasets, (image, label): what kind of image it is, and which class is meant."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ganaug.errors import DatasetError, SettingsError, UnknownClassError
from ganaug.generate import Generator

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which every worker would load.
    from ganaug.dataset import Images

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""PIL's name of images with so many channels."""
_SHOWN = 12


def open_for_loading(model: Generator | Path | str) -> Generator:
    """A generator as a loader's workers can use it: on the CPU, unless a GPU was asked for in so many words.

    CUDA does not start in a process that was forked from one that uses it, which is what workers are.

    Raises:
        ModelError: There is no such model, or its card is damaged.
    """
    if not isinstance(model, Generator):
        return Generator.open(model, device="cpu")
    if model.device != "auto":
        return model
    return Generator(model.folder, model.card, device="cpu", threads=model.threads, batch=model.batch)


def check_whole(values: Mapping[Any, Any]) -> None:
    """Raise unless all values are whole numbers from 0 on.

    Raises:
        SettingsError: Some are not; they are named by their keys.
    """
    problems = [
        f"{name}: {value!r} is not a whole number from 0 on"
        for name, value in values.items()
        if not isinstance(value, (int, np.integer)) or value < 0
    ]
    if problems:
        raise SettingsError(problems)


def position_in(length: int, index: int) -> int:
    """A position from 0 on; negative ones count from the end.

    Raises:
        IndexError: There is none.
    """
    position = operator.index(index)
    if not -length <= position < length:
        raise IndexError(f"position {position} of a dataset of {length} images")
    return position % length


def check_known(names: Iterable[str], generator: Generator) -> None:
    """Raise unless the model can make all these classes.

    Raises:
        UnknownClassError: It cannot make some.
    """
    unknown = set(names) - set(generator.class_names)
    if unknown:
        raise UnknownClassError([str(name) for name in unknown], generator.class_names, generator.card.name)


def listing(parts: Sequence[str]) -> str:
    """The first of what a dataset has, for its `repr`."""
    return ", ".join([*parts[:_SHOWN], *(["…"] if len(parts) > _SHOWN else [])])


def to_picture(image: Images) -> Image.Image:
    """(H, W, C) uint8 as a PIL image of mode L, RGB or RGBA."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


class Layout(NamedTuple):
    """Where in an image its channels are, and how large it is.

    Attributes:
        mode: L, RGB or RGBA.
        size_px: (height, width).
        channel_axis: 0 or 2; nothing for PIL images and for arrays of two axes.
    """

    mode: str
    size_px: tuple[int, int]
    channel_axis: int | None

    @classmethod
    def of(cls, image: Any) -> Layout:
        """The layout of a PIL image, array or tensor.

        Raises:
            DatasetError: It is none of these, or has not 1, 3 or 4 channels.
        """
        if isinstance(image, Image.Image):
            if image.mode in MODES.values():
                return cls(image.mode, (image.height, image.width), None)
            raise _not_an_image(f"a PIL image of mode {image.mode}")
        if not isinstance(image, (np.ndarray, torch.Tensor)):
            raise _not_an_image(f"a {type(image).__name__}")
        shape = tuple(image.shape)
        if len(shape) == 2:
            return cls("L", shape, None)
        # Tensors carry their channels in front, as torchvision makes them; arrays behind.
        axes = (0, 2) if isinstance(image, torch.Tensor) else (2, 0)
        for axis in axes if len(shape) == 3 else ():
            if shape[axis] in MODES:
                return cls(MODES[shape[axis]], shape[1:] if axis == 0 else shape[:2], axis)
        raise _not_an_image(f"a {type(image).__name__} of shape {shape}")


@dataclass(frozen=True)
class ImageKind:
    """What an image is to those who use it; called with a PIL image, it makes one of the same kind.

    Attributes:
        holder: `PIL.Image.Image`, `numpy.ndarray`, or `torch.Tensor` or one of its subclasses.
        layout: Mode, size and where its channels are.
        dtype: uint8, or floating point with values from 0 to 1; nothing for PIL images.
        device: Where a tensor is.
    """

    holder: type[Any]
    layout: Layout
    dtype: Any = None
    device: torch.device | None = None

    @classmethod
    def of(cls, image: Any) -> ImageKind:
        """The kind of an image.

        Raises:
            DatasetError: It is no image, or its values are not those of pixels: normalised ones, say.
        """
        layout = Layout.of(image)
        if isinstance(image, Image.Image):
            return cls(Image.Image, layout)
        is_tensor = isinstance(image, torch.Tensor)
        is_float = image.is_floating_point() if is_tensor else np.issubdtype(image.dtype, np.floating)
        if not is_float and image.dtype not in (torch.uint8, np.uint8):
            raise _not_an_image(f"of {image.dtype}")
        if is_float and not (image.min() >= 0 and image.max() <= 1):
            raise _not_an_image(f"of values from {float(image.min()):.3g} to {float(image.max()):.3g}")
        return cls(type(image), layout, image.dtype, image.device if is_tensor else None)

    def __call__(self, picture: Image.Image) -> Any:
        """The same picture as this kind of image; it gets its size and channels, too."""
        picture = fit(picture, self.layout.mode, self.layout.size_px)
        if self.holder is Image.Image:
            return picture
        pixels = np.array(picture)
        if self.layout.channel_axis is not None and pixels.ndim == 2:
            pixels = pixels[..., None]
        if self.layout.channel_axis == 0:
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        scaled = pixels if self.dtype in (torch.uint8, np.uint8) else pixels / 255
        if not issubclass(self.holder, torch.Tensor):
            return scaled.astype(self.dtype)
        return torch.from_numpy(scaled).to(self.device, self.dtype).as_subclass(self.holder)


def fit(picture: Image.Image, mode: str, size_px: tuple[int, int] | None) -> Image.Image:
    """A picture in another mode and size, unless it has them already."""
    if picture.mode != mode:
        picture = picture.convert(mode)
    if size_px is not None and (picture.height, picture.width) != size_px:
        picture = picture.resize(size_px[::-1], Image.Resampling.BILINEAR)
    return picture


def _not_an_image(what: str) -> DatasetError:
    return DatasetError(
        f"an image is {what}, and synthetic ones are made alike only for PIL images (L, RGB, RGBA), arrays and "
        "tensors of 1, 3 or 4 channels, as uint8 or as floating point from 0 to 1. Pass transform=, which makes "
        "of a PIL image what the others are (normalised by the same numbers, for one)."
    )


def pair_of(sample: Any) -> tuple[Any, Any]:
    """The image and the label of a sample.

    Raises:
        DatasetError: It is something else.
    """
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise DatasetError(
            f"a sample is a {type(sample).__name__}"
            f"{f' of {len(sample)}' if isinstance(sample, (tuple, list)) else ''}; wanted is (image, label). "
            "Wrap the dataset in one that yields those."
        )
    return sample[0], sample[1]


def plain_label(label: Any) -> int | str:
    """A label as a number or a text, whether it is one, a tensor or an array of one.

    Raises:
        DatasetError: It is something else.

    >>> plain_label(torch.tensor(3)), plain_label(np.int64(4)), plain_label("cat")
    (3, 4, 'cat')
    """
    if isinstance(label, str):
        return str(label)
    try:
        return operator.index(label.item() if hasattr(label, "item") else label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DatasetError(
            f"a label is {label!r}; wanted are class ids (whole numbers) or class names. Where something turns "
            "them into others (target_transform, mixing), that comes after the synthetic images."
        ) from error


def label_like(label: int | str, other: Any) -> Any:
    """A label as the type of another: int, text, numpy scalar, array or tensor."""
    if isinstance(label, str):
        return label
    if isinstance(other, torch.Tensor):
        return torch.full_like(other, label)
    if isinstance(other, np.ndarray):
        return np.full_like(other, label)
    return type(other)(label) if isinstance(other, np.generic) else label


class ClassNames:
    """Which of a model's classes a label means.

    Args:
        names: Name of each class id; or of each label, as `{7: "cat"}`. A label that is a text and
            not among them is itself a name.

    Raises:
        SettingsError: It is neither.
    """

    def __init__(self, names: Sequence[str] | Mapping[Any, str]) -> None:
        if isinstance(names, str) or not isinstance(names, (Sequence, Mapping)):
            raise SettingsError(
                [
                    f"class_names: {names!r}; wanted is a list of names, by class id, or a dict from labels to names"
                ]
            )
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        self._names = {plain_label(label): str(name) for label, name in pairs}

    def of(self, label: int | str) -> str:
        """The name of the class that a label means.

        Raises:
            DatasetError: It is a number that has no name.
        """
        name = self._names.get(label, label)
        if isinstance(name, str):
            return name
        raise DatasetError(
            f"label {label} has no class name; names are known for {sorted(self._names, key=str)}. "
            "Pass class_names=, the name of each label as the model has it."
        )

    def label(self, name: str, other: int | str) -> int | str:
        """The label of a class, of the type of another; the first where several mean it.

        Raises:
            DatasetError: It has none.
        """
        for label, own in self._names.items():
            if own == name and type(label) is type(other):
                return label
        if isinstance(other, str):
            return name
        raise DatasetError(
            f"class {name!r} has no label, and labels are as {other!r}. Pass class_names=, with its label."
        )

    def in_order(self, names: Iterable[str]) -> list[str]:
        """All names that it has, in the order of the labels, and behind them others of these."""
        return list(dict.fromkeys([*self._names.values(), *sorted(names, key=str)]))
