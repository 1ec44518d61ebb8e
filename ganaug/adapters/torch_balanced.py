"""balanced: a torch dataset of real images, and synthetic ones behind them until the classes are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from ganaug.adapters.torch_data import SyntheticDataset
from ganaug.adapters.torch_samples import (
    MODES,
    ClassNames,
    ImageKind,
    Layout,
    check_known,
    check_whole,
    fit,
    label_like,
    listing,
    open_for_loading,
    pair_of,
    plain_label,
    position_in,
)
from ganaug.errors import DatasetError, SettingsError
from ganaug.generate import Generator


def balanced(
    dataset: Dataset[Any],
    model: Generator | Path | str,
    to: str | int | Mapping[str, int] = "majority",
    *,
    transform: Callable[[Image.Image], Any] | None = None,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    classes: str | Sequence[str] | None = None,
    seed: int = 0,
    start: int = 0,
) -> BalancedDataset:
    """Real images first, then as many synthetic ones as each class lacks.

    The synthetic images come out as the real ones do. If the dataset has torchvision's `.transform` (or
    the dataset that it is a `Subset` of, or the first of a `ConcatDataset`), they go through it as PIL images;
    otherwise they become what its first image is: PIL image, array or tensor, uint8 or from 0 to 1,
    of the same size and channels. Labels are of the type of its first label.

    Labels are read from `.targets`, `.labels` or `.tensors[-1]`, also through `Subset` and `ConcatDataset`. A
    dataset with none of these is gone through once, which decodes all its images.

    Args:
        dataset: A map-style dataset of samples (image, label); labels are class ids or class names.
        model: A generator, a model folder or a name in the store. By name it runs on the CPU, and so does
            a generator whose device is `auto`: a GPU cannot be used in forked workers.
        to: How many images each class is to have: `majority`, as many as the largest has; a number; or
            `{class name: images}`, for these classes alone. None is taken away where there are more.
        transform: Makes of a PIL image (mode L, RGB or RGBA) what the dataset's samples hold.
        class_names: The model's name of each label, by class id or as `{label: name}`. Nothing:
            `dataset.classes`; without those, a class id is the model's, and a text is a name.
        classes: Fill these alone; they may have no real image at all.
        seed: Another one gives other images.
        start: Index of the first image of each class.

    Raises:
        UnknownClassError: A class lacks images and the model cannot make it; leave it out with `classes`.
        DatasetError: The dataset is not map-style, is empty, or yields something else; a label has no name;
            or its images are of no kind that can be made alike, normalised ones say, and there is no transform.
        SettingsError: `to` or a number that cannot be used.
        ModelError: There is no such model, or its card is damaged.
    """
    generator = open_for_loading(model)
    # A look at a sample draws no random numbers that the caller's program would have had.
    with torch.random.fork_rng(devices=[]):
        image, label = _first(dataset)
        targets = labels_of(dataset)
        names = ClassNames(_own_names(dataset, generator) if class_names is None else class_names)
        have = Counter(map(names.of, targets))
        lacking = _lacking(have, to, classes, names)
        _check_names(lacking, have, generator)
        if lacking and transform is None:
            transform = _transform_like(dataset, image, generator)
    plain = {name: names.label(name, targets[0]) for name in lacking}
    labels = _Labels(targets[0], label, _attribute(dataset, "target_transform"))
    by_class_id = {generator.card.class_id(name): labels.of(plain[name]) for name in lacking}
    synthetic = SyntheticDataset(
        generator,
        lacking,
        seed=seed,
        start=start,
        transform=transform,
        target_transform=by_class_id.__getitem__,
    )
    made = chain.from_iterable([plain[name]] * count for name, count in lacking.items())
    return BalancedDataset(dataset, synthetic, [*targets, *made], names)


class BalancedDataset(Dataset[tuple[Any, Any]]):
    """Real images first, as they were, then synthetic ones; made by `balanced`.

    Attributes:
        real: The dataset of real images.
        synthetic: The synthetic ones.
        targets: The label at each position as a number or a text, before any `target_transform`.
        classes: Names of the classes as the model has them, in the order of the labels.
    """

    def __init__(
        self, real: Dataset[Any], synthetic: SyntheticDataset, targets: list[int | str], names: ClassNames
    ) -> None:
        self.real, self.synthetic, self.targets = real, synthetic, targets
        self._reals = len(targets) - len(synthetic)
        self._real_counts = Counter(map(names.of, targets[: self._reals]))
        self.classes = names.in_order([*self._real_counts, *synthetic.counts])

    def is_synthetic(self, index: int) -> bool:
        """Whether the image at a position is synthetic."""
        return position_in(len(self), index) >= self._reals

    def counts(self) -> dict[str, tuple[int, int]]:
        """Real and synthetic images of each class that has any, by name."""
        made = self.synthetic.counts
        return {
            name: (self._real_counts[name], made.get(name, 0))
            for name in self.classes
            if self._real_counts[name] or name in made
        }

    def set_epoch(self, epoch: int) -> None:
        """Go over to other synthetic images; see `SyntheticDataset.set_epoch`."""
        self.synthetic.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        position = position_in(len(self), index)
        return self.real[position] if position < self._reals else self.synthetic[position - self._reals]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of a batch: its synthetic images are made in one go."""
        positions = [position_in(len(self), index) for index in indices]
        real = [position for position in positions if position < self._reals]
        made = [position - self._reals for position in positions if position >= self._reals]
        sources = iter(_fetch(self.real, real)), iter(_fetch(self.synthetic, made))
        return [next(sources[position >= self._reals]) for position in positions]

    def __repr__(self) -> str:
        shown = listing([f"{name}: {real} + {made}" for name, (real, made) in self.counts().items()])
        return f"<BalancedDataset: {self._reals} real + {len(self.synthetic)} synthetic images ({shown})>"


def labels_of(dataset: Dataset[Any]) -> list[int | str]:
    """The label of each sample, as a number or a text.

    Raises:
        DatasetError: There is something else.
    """
    known = _known_labels(dataset)
    if known is None:
        known = [dataset[row][1] for row in range(_length(dataset))]
    return [plain_label(label) for label in (known.tolist() if hasattr(known, "tolist") else known)]


def _known_labels(dataset: Dataset[Any]) -> Any:
    """Labels that can be had without going through the dataset; nothing where there are none."""
    columns: list[Any] = [getattr(dataset, name, None) for name in ("targets", "labels")]
    columns += dataset.tensors[-1:] if isinstance(dataset, TensorDataset) else ()
    for column in columns:
        # Some have the names of the classes there.
        if hasattr(column, "__len__") and len(column) == _length(dataset):
            return column
    if isinstance(dataset, Subset):
        inner = _known_labels(dataset.dataset)
        return None if inner is None else [inner[row] for row in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [label for part in dataset.datasets for label in labels_of(part)]
    return None


def _length(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _first(dataset: Dataset[Any]) -> tuple[Any, Any]:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DatasetError(
            f"a {type(dataset).__name__} has no positions; balanced() takes map-style datasets (with len() and "
            "dataset[i]). Beside a stream, take GanCollate or SyntheticBatches."
        )
    if not _length(dataset):
        raise DatasetError(
            "the dataset is empty; there is nothing to balance. SyntheticDataset needs no real images."
        )
    return pair_of(dataset[0])


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute of a dataset, or of the one that it is a part or a chain of."""
    value = getattr(dataset, name, None)
    if value is not None:
        return value
    if isinstance(dataset, Subset):
        return _attribute(dataset.dataset, name)
    return _attribute(dataset.datasets[0], name) if isinstance(dataset, ConcatDataset) else None


def _own_names(dataset: Dataset[Any], generator: Generator) -> Sequence[str]:
    """Names of the class ids: the dataset's own, or else the model's."""
    own = _attribute(dataset, "classes")
    return own if isinstance(own, (list, tuple)) else generator.card.class_names


def _lacking(
    have: Counter[str],
    to: str | int | Mapping[str, int],
    classes: str | Sequence[str] | None,
    names: ClassNames,
) -> dict[str, int]:
    """How many images each class lacks, in the order of the labels; none of those that lack nothing."""
    chosen = [classes] if isinstance(classes, str) else classes
    if isinstance(to, Mapping):
        wanted = dict(to)
    elif isinstance(to, str) and to != "majority":
        raise SettingsError([f"to: {to!r}; it is 'majority', a number of images, or numbers by class name"])
    else:
        number = max(have.values()) if isinstance(to, str) else to
        wanted = dict.fromkeys([*have, *(chosen or ())], number)
    check_whole(wanted)
    return {
        name: int(wanted[name]) - have[name]
        for name in names.in_order(wanted)
        if name in wanted and wanted[name] > have[name] and (chosen is None or name in chosen)
    }


def _check_names(lacking: Collection[str], have: Collection[str], generator: Generator) -> None:
    if lacking and not {*lacking, *have} & {*generator.class_names}:
        raise DatasetError(
            f"the dataset's classes are {sorted(have)}, the model's {list(generator.class_names)}: none is the same. "
            "Pass class_names=, the model's name of each label."
        )
    check_known(lacking, generator)


def _fetch(dataset: Any, rows: list[int]) -> Sequence[Any]:
    """As torch's own fetcher does it."""
    if rows and callable(getattr(dataset, "__getitems__", None)):
        samples: Sequence[Any] = dataset.__getitems__(rows)
        return samples
    return [dataset[row] for row in rows]


@dataclass(frozen=True)
class _Labels:
    """Labels as a dataset yields them: `value` is the plain one of its first sample, `yielded` what comes."""

    value: int | str
    yielded: Any
    target_transform: Callable[[Any], Any] | None

    def __post_init__(self) -> None:
        if not _are_equal(self.of(self.value), self.yielded):
            raise DatasetError(
                f"the first label is {self.yielded!r}, and {self.value!r} among the dataset's targets: which label a "
                "synthetic image gets is not clear. Wrap it in a dataset that yields (image, label) and has no targets."
            )

    def of(self, value: int | str) -> Any:
        """What the dataset would yield for a plain label."""
        made = value if self.target_transform is None else self.target_transform(value)
        return label_like(made, self.yielded) if isinstance(made, (int, str)) else made


def _are_equal(label: Any, other: Any) -> bool:
    if isinstance(label, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(label, other)
    return np.array_equal(label, other)


@dataclass(frozen=True)
class _Fitted:
    """A dataset's own transform, behind what brings a synthetic picture to the form of a real one."""

    transform: Callable[[Image.Image], Any]
    mode: str
    size_px: tuple[int, int] | None = None

    def __call__(self, picture: Image.Image) -> Any:
        return self.transform(fit(picture, self.mode, self.size_px))


def _transform_like(dataset: Dataset[Any], image: Any, generator: Generator) -> Callable[[Image.Image], Any]:
    """What makes of a synthetic picture the same as the dataset's images are."""
    own = _attribute(dataset, "transform")
    if own is None:
        return ImageKind.of(image)
    real, fitted = Layout.of(image), _Fitted(own, Layout.of(image).mode)
    height, width, channels = generator.image_shape
    try:
        tried = fitted(Image.new(MODES[channels], (width, height)))
    except Exception as error:
        # It raises whatever the user's transform does.
        raise DatasetError(
            f"the dataset's transform does not take a PIL image of {width} x {height} px ({type(error).__name__}: "
            f"{error}). Pass transform=, which makes of a PIL image what the dataset's samples hold."
        ) from error
    # A dataset whose images need no resizing resizes none.
    is_alike = Layout.of(tried).size_px == real.size_px
    return fitted if is_alike else replace(fitted, size_px=real.size_px)
