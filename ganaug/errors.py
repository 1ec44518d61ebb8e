"""Every deliberate error of ganaug: one family, so that a caller can catch it whole.

Each says what came, what is allowed and what to do next, and carries its data as attributes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any


class GanaugError(Exception):
    """The base of all errors that ganaug raises on purpose; shown without a traceback."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is: Python would call __init__ with the message, and other processes get no error at all.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[GanaugError], args: tuple[Any, ...], attributes: dict[str, Any]) -> GanaugError:
    # `kind.__new__` may be ValueError's, which does not make an error of files.
    error: GanaugError = (OSError if issubclass(kind, OSError) else Exception).__new__(kind, *args)
    # An error of files has its message from __init__ alone.
    error.args = args
    error.__dict__.update(attributes)
    return error


class SettingsError(GanaugError, ValueError):
    """Settings that cannot be used; all problems are reported together."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(
            f"{len(self.problems)} problem(s) in the settings:\n{lines}\n"
            "`ganaug run --print-config` prints every setting with its meaning."
        )


class MissingExtraError(GanaugError, ImportError):
    """A feature was asked for whose optional packages are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(f"{feature} needs optional packages: pip install 'ganaug[{extra}]'")


class DatasetError(GanaugError, ValueError):
    """A dataset that cannot be read or cannot be used as it is."""


class PathNotFoundError(DatasetError, FileNotFoundError):
    """A path that does not exist."""

    def __init__(self, path: Path | str, what: str = "path") -> None:
        self.path = Path(path)
        super().__init__(
            f"{what} {str(path)!r} does not exist; check the spelling and the working directory."
        )


class UnsafeArchiveError(DatasetError):
    """An archive whose members could do harm: absolute or `..` paths, links, or a bomb."""


class UnreadableImageError(DatasetError):
    """One image that cannot be decoded; readers list it with its reason and go on."""


class TooManyUnreadableError(DatasetError):
    """More files are unreadable than `data.max_bad_share` allows.

    Attributes:
        unreadable: Every one of them, as records with `path` and `reason`.
    """

    def __init__(self, message: str, unreadable: Sequence[Any] = ()) -> None:
        self.unreadable = list(unreadable)
        super().__init__(message)


class RunFolderError(GanaugError, ValueError):
    """A run folder that belongs to another dataset, another version or another process."""


class MissingStepError(GanaugError, RuntimeError):
    """A step was asked for before one that it reads from."""

    def __init__(self, step: str, needs: str, folder: Path) -> None:
        self.step, self.needs, self.folder = step, needs, folder
        super().__init__(
            f"`{step}` reads what `{needs}` leaves, and {folder} has no finished `{needs}`. "
            f"Run `ganaug {needs}` first, or `ganaug run` for all steps."
        )


class ModelError(GanaugError, ValueError):
    """A model folder, card or graph that is missing, damaged or not one of ganaug's."""


class ParityError(ModelError):
    """An exported graph that does not reproduce the torch generator."""


class UnknownClassError(GanaugError, ValueError):
    """A generator was asked for a class that it was not trained on."""

    def __init__(self, asked: Collection[str], known: Collection[str], model: str) -> None:
        self.asked, self.known = sorted(asked), sorted(known)
        super().__init__(
            f"model {model!r} cannot generate {self.asked}; it knows {self.known}. "
            "Retrain on a data set that has those classes, or drop them from the plan."
        )


class TransformError(GanaugError, ValueError):
    """An image, label or other target that `GanSample` or `worker_init_fn` cannot work on."""


class UnmatchedLabelError(UnknownClassError):
    """Labels of y that mean no class of the model that was given to a sampler.

    Attributes:
        labels: The class name that each of these labels was taken for.
    """

    def __init__(self, labels: Mapping[Any, str], known: Collection[str], model: str) -> None:
        super().__init__(labels.values(), known, model)
        self.labels = dict(labels)
        self.args = (
            f"model {model!r} has no class for these labels of y: {self.labels} (label: class name); it knows "
            f"{self.known}. Say which class a label means with class_names={{label: name}}, name the other labels alone in "
            "sampling_strategy, or train a GAN on your data with model=None.",
        )


class LeakError(DatasetError):
    """Synthetic images that are copies of locked test images.

    Attributes:
        test_rows: Rows of the test split that are copied, by class name.
    """

    def __init__(
        self,
        findings: Sequence[str],
        test_rows: Mapping[str, Sequence[int]],
        *,
        has_groups: bool = False,
        is_exact: bool = True,
    ) -> None:
        self.findings = list(findings)
        self.test_rows = {name: list(rows) for name, rows in test_rows.items()}
        groups = (
            "The images are grouped: look whether whole groups of the test split were used. "
            if has_groups
            else ""
        )
        # That an image is one to the last pixel cannot be a mistake.
        unless = (
            ""
            if is_exact
            else " Where you have looked, and they are no copies, `--evaluate.near-copies note` goes on and says so."
        )
        super().__init__(
            "synthetic images are copies of locked test images, so nothing that is measured with them could be "
            "believed:\n"
            + "\n".join(f"  - {finding}" for finding in self.findings)
            + "\nThe generator, or the folder that the images are from, has seen the test split. "
            f"{groups}Train on the training split alone, or take other images, and evaluate again.{unless}"
        )


class NotPublishedError(GanaugError, RuntimeError):
    """A gain was required, and the model was refused; everything else of the run is there.

    Attributes:
        reason: Why, and what it takes.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason} This is a failure because publish.require_gain is set; everything else is done and kept, "
            "and without it the same refusal is a result."
        )


class DeviceError(GanaugError, RuntimeError):
    """A device was asked for that this machine does not have."""


class TrainingError(GanaugError, RuntimeError):
    """Training that went wrong in a way that retrying with the same settings cannot mend."""


class OutputError(GanaugError, OSError):
    """Results that cannot be written: a full disk, an unwritable folder."""


class PipelineError(GanaugError, RuntimeError):
    """Prefect's server, or what should be on it, is not there."""


class ReviewError(GanaugError, RuntimeError):
    """Images wait for a review, or there is nothing to review."""
