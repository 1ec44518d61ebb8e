"""GanSample: albumentations puts a synthetic image of the same class in place of the one at hand."""

from __future__ import annotations

import operator
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ganaug.adapters.lacking import lacking
from ganaug.adapters.reservoir import Reservoir
from ganaug.adapters.worker_seeds import worker_info
from ganaug.config import Device, Share
from ganaug.errors import TransformError, UnknownClassError
from ganaug.generate import Generator
from ganaug.plan import BalancePlan

# Else importing it asks the network for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import cv2
from albumentations.core.transforms_interface import (
    BaseTransformInitSchema,
    ImageOnlyTransform,
)

from ganaug.adapters.fit_image import Image, check, fit

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import Images

USUAL_PROBABILITY = 0.5
OTHER_TARGETS = frozenset(
    {"images", "mask", "masks", "mask3d", "masks3d", "bboxes", "keypoints", "volume", "volumes"}
)
"""What albumentations transforms beside one image."""
_REFUSAL = (
    "GanSample works on one image and its label alone, because a synthetic image has no masks, boxes, "
    "keypoints or partners; give those to a pipeline of their own"
)


def _text_keys(table: Any) -> Any:
    # YAML reads the class name 3 as a number; class names are text.
    return {str(key): value for key, value in table.items()} if isinstance(table, Mapping) else table


def _shares(plan: Any) -> Any:
    return None if plan is None else lacking(plan)


def _as_range(blend: float | tuple[float, float]) -> tuple[float, float]:
    low, high = blend if isinstance(blend, tuple) else (blend, blend)
    if low > high:
        raise ValueError(f"a range goes from the lower weight to the higher, got {blend}")
    return low, high


def _free_key(key: str) -> str:
    if not key or key == "image" or key in OTHER_TARGETS:
        raise ValueError(f"{key!r} is taken by albumentations; the label comes under a name of its own")
    return key


class GanSample(ImageOnlyTransform):  # type: ignore[misc]
    """Put a synthetic image of the same class in place of the image at hand, or blend the two.

    The label comes with the call: `pipeline(image=image, label="3")`. The synthetic image is brought to
    the size, channels and dtype of the image. Images are made in batches, and each is used once.

    Place it first in the pipeline, so that the other transforms treat real and synthetic images alike;
    at least before `Normalize` and `ToTensorV2`. Masks, boxes, keypoints, volumes and additional
    targets are refused: a synthetic image has none.

    In a torch DataLoader each worker and epoch gets images of its own, however workers are started;
    `ganaug.worker_init_fn` does the same for the other transforms. What is recorded (`ReplayCompose`,
    `save_applied_params`) is `class_name`, `seed` and `index`, with which `Generator.sample_at` makes the
    image again, and `blend`; none of these where the image was left as it is.

    Args:
        model: A model folder; a name in the store, as `digits` or `digits@3`; or an open `Generator`,
            whose folder is what is saved.
        probabilities: How often an image is touched: one number for all classes of the model, or one for
            each class, as `{"3": 0.5, "8": 0.25}`, and classes that are not listed are left as they are.
            Without them and without a plan 0.5.
        plan: What gives the probabilities instead, so that classes are touched by what they lack, 1 - real /
            target: a `BalancePlan`; a run folder or its `plan.json`; or numbers of real training images
            by class name. For loaders that draw all classes alike. Saved as probabilities.
        blend: Weight of the synthetic image, from 0 to 1: a number, or a range to draw it from. 1
            puts it in place of the real one.
        label_key: Name under which the label comes.
        class_names: Names of the labels 0, 1, 2 ..., where those are not the class ids of the model.
        truncation: Scale of the latents; below 1 images are more typical, less varied.
        device: `cpu`, `cuda` or `auto`; on a GPU each worker takes memory of it. An open `Generator`
            keeps its own.
        p: Probability of the whole transform, as everywhere in albumentations: an image of a class is
            touched with p times the probability of its class.

    Targets:
        image

    Image types:
        uint8, float32

    Raises:
        ValueError: An argument of a wrong type or range; the plan is not there.
        ModelError: There is no such model.
        UnknownClassError: The model cannot make a class that is listed or planned.
        TransformError: None of `class_names` is to be touched.

    >>> import albumentations, numpy
    >>> pipeline = albumentations.Compose([GanSample("exported/digits", {"3": 1.0})], seed=0)
    >>> seen = pipeline(image=numpy.zeros((28, 28, 3), numpy.uint8), label="3")["image"]
    >>> seen.shape, bool(seen.any())
    ((28, 28, 3), True)
    """

    _targets = ()

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        """What the arguments may be, and what becomes of them."""

        model: str | Path | Generator
        probabilities: Annotated[Share | dict[str, Share] | None, BeforeValidator(_text_keys)]
        plan: Annotated[dict[str, float] | None, BeforeValidator(_shares)]
        blend: Annotated[Share | tuple[Share, Share], AfterValidator(_as_range)]
        label_key: Annotated[str, AfterValidator(_free_key)]
        class_names: tuple[str, ...] | None
        truncation: Annotated[float, Field(gt=0.0, le=1.0)]
        device: Device

        @model_validator(mode="after")
        def _plan_becomes_probabilities(self) -> Self:
            if self.plan is not None and self.probabilities is not None:
                raise ValueError("probabilities and plan say the same in two ways; give one of them")
            if self.probabilities is None:
                self.probabilities = USUAL_PROBABILITY if self.plan is None else self.plan
            return self

    def __init__(
        self,
        model: str | Path | Generator,
        probabilities: float | Mapping[str, float] | None = None,
        plan: BalancePlan | Path | str | Mapping[str, int] | None = None,  # noqa: ARG002
        blend: float | tuple[float, float] = 1.0,
        label_key: str = "label",
        class_names: Sequence[str] | None = None,
        truncation: float = 1.0,
        device: str = "cpu",
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        # What comes here went through the schema.
        self.probabilities = cast("float | dict[str, float]", probabilities)
        self.blend = cast("tuple[float, float]", blend)
        self.class_names = None if class_names is None else tuple(class_names)
        self.label_key, self.truncation = label_key, truncation
        if isinstance(model, Generator):
            self.model, self._generator = str(model.folder), model
        else:
            self.model, self._generator = str(model), Generator.open(model, device=device)
        self.device = self._generator.device
        self._probability = self._by_class()

    def _by_class(self) -> dict[str, float]:
        """Probability of each class that may be touched."""
        asked, able = self.probabilities, self._generator.class_names
        table = asked if isinstance(asked, dict) else dict.fromkeys(able, asked)
        if unknown := set(table) - set(able):
            raise UnknownClassError(unknown, able, self._generator.card.name)
        if self.class_names is not None and table and not set(table) & set(self.class_names):
            raise TransformError(
                f"GanSample: nothing could ever be touched, because none of the class_names "
                f"{list(self.class_names)} is one of {sorted(table)}; call the classes as the model does"
            )
        return {name: probability for name, probability in table.items() if probability > 0}

    @property
    def targets(self) -> dict[str, Any]:
        """One image, and nothing else."""
        return {"image": self.apply}

    @property
    def targets_as_params(self) -> list[str]:
        """The label."""
        return [self.label_key]

    def get_transform_init_args(self) -> dict[str, Any]:
        """What makes the same transform again; a plan is in the probabilities."""
        names = ("model", "probabilities", "blend", "label_key", "class_names", "truncation", "device")
        return {name: getattr(self, name) for name in names}

    def set_random_seed(self, seed: int | None) -> None:
        """Begin anew: from one seed come the same images each time."""
        super().set_random_seed(seed)
        self._begin()

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Begin anew with these."""
        super().set_random_state(random_generator, py_random)
        self._begin()

    def _begin(self) -> None:
        self._reservoir: Reservoir | None = None
        self._seeded_in = os.getpid()
        self._settled_in: int | None = None

    def _settle(self) -> None:
        """Part from the copies of this transform in other processes, once in each and after each seed."""
        if self._settled_in == os.getpid():
            return
        worker = worker_info()
        if worker is not None:
            # Beside what is the same in every worker, what differs by worker and epoch.
            entropy = [int(self.random_generator.integers(2**63)), worker.seed]
            numbers = np.random.default_rng(entropy)
            self.set_random_state(numbers, random.Random(int(numbers.integers(2**63))))  # noqa: S311
        elif self.seed is None and self._seeded_in != os.getpid():
            self.set_random_seed(None)
        self._settled_in = os.getpid()

    def set_deterministic(self, flag: bool, save_key: str = "replay") -> GanSample:
        """Record what is drawn; without the base class's warning, because a replay is exact."""
        self.deterministic, self.save_key = flag, save_key
        return self

    def add_targets(self, additional_targets: Mapping[str, str]) -> None:
        """Refuse them."""
        if additional_targets:
            raise TransformError(f"{_REFUSAL}; got additional_targets {dict(additional_targets)}")

    def set_processors(self, processors: Mapping[str, Any]) -> None:
        """Refuse a pipeline with `bbox_params` or `keypoint_params`."""
        if processors:
            raise TransformError(f"{_REFUSAL}; got a pipeline for {sorted(processors)}")

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> Any:
        """Treat `image` by its label, as albumentations calls it.

        Raises:
            TransformError: There are other targets, the image or its label cannot be used, or what was
                recorded is replayed on an image of another class.
        """
        if others := [key for key in OTHER_TARGETS.intersection(data) if data[key] is not None]:
            raise TransformError(f"{_REFUSAL}; got {sorted(others)}")
        if self.replay_mode:
            self._check_replay(data.get(self.label_key))
        else:
            self._settle()
        return super().__call__(*args, force_apply=force_apply, **data)

    def get_params_dependent_on_data(
        self,
        params: dict[str, Any],  # noqa: ARG002
        data: dict[str, Any],
    ) -> dict[str, Any]:
        """Draw whether the image is touched, and by which synthetic one."""
        class_name = self._class_name(data[self.label_key])
        probability = self._probability.get(class_name, 0.0)
        if not probability or self.py_random.random() >= probability:
            return {}
        if self._reservoir is None:
            seed = int(self.random_generator.integers(2**64, dtype=np.uint64))
            self._reservoir = Reservoir(self._generator, seed, len(self._probability), self.truncation)
        low, high = self.blend
        return {
            "class_name": class_name,
            "seed": self._reservoir.seed,
            "index": self._reservoir.next_index(class_name),
            "blend": low if low == high else self.py_random.uniform(low, high),
        }

    def apply(
        self,
        img: Image,
        class_name: str | None = None,
        seed: int = 0,
        index: int = 0,
        blend: float = 1.0,
        **params: Any,  # noqa: ARG002
    ) -> Image:
        """What becomes of an image.

        Args:
            img: (H, W) or (H, W, C), uint8 or float32 in 0..1.
            class_name: Class of the synthetic image; without one the image is left as it is.
            seed: With class and index it determines the synthetic image.
            index: From 0 to 2^62 - 1.
            blend: Weight of the synthetic image.
            params: Not used.

        Returns:
            An array of the same shape and dtype.

        Raises:
            TransformError: It is no such image.
        """
        check(img, self._generator.image_shape[2])
        if class_name is None:
            return img
        made = fit(self._image(class_name, seed, index), img)
        if blend == 1:
            return made
        blended: Image = cv2.addWeighted(img, 1 - blend, made, blend, 0)
        return blended.reshape(img.shape)

    def _image(self, class_name: str, seed: int, index: int) -> Images:
        if self._reservoir is not None and self._reservoir.seed == seed:
            return self._reservoir.image(class_name, index)
        made = self._generator.sample_at(class_name, [index], seed=seed, truncation=self.truncation)
        return made.reshape(made.shape[1:])

    def _class_name(self, label: Any) -> str:
        if isinstance(label, str):
            return str(label)
        names = self.class_names or self._generator.card.class_names
        try:
            class_id = operator.index(label)
        except TypeError as error:
            raise TransformError(
                f"GanSample: {self.label_key} {label!r} is of {type(label).__name__}; "
                "a label is a class name or a whole number"
            ) from error
        if not 0 <= class_id < len(names):
            raise TransformError(
                f"GanSample: {self.label_key} {class_id} is not between 0 and {len(names) - 1}, the ids of "
                f"{list(names)}; where your numbers mean other classes, give class_names"
            )
        return names[class_id]

    def _check_replay(self, label: Any) -> None:
        recorded = (self.params or {}).get("class_name")
        if recorded is not None and label is not None and self._class_name(label) != recorded:
            raise TransformError(
                f"GanSample: an image of class {recorded!r} was recorded, and is replayed in place of one of "
                f"class {self._class_name(label)!r}; replay it on images of its class"
            )
