"""Settings: one frozen class per step; the command line, YAML and Prefect forms share them.

Every field is described by the string under it, which `--print-config` and the
parameter forms show. `load` is the one way from user input to a `Config`.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from ganaug import classifier_name
from ganaug.errors import PathNotFoundError, SettingsError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Device = Literal["auto", "cpu", "cuda"]


def _text_keys(table: Any) -> Any:
    """YAML reads the class name 3 as a number; class names are text."""
    return {str(key): value for key, value in table.items()} if isinstance(table, Mapping) else table


class Section(BaseModel):
    """The settings of one step."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataConfig(Section):
    """Where the real images are and how they are read."""

    path: Path | None = None
    """Folder, .zip, .tar, .csv, .parquet or .npz; nothing means the bundled digits."""
    unlabelled: Path | None = None
    """More images, of no known class, in any of these forms; brought to the size of the others.
    Copies and near-duplicates of test images are left out."""
    size: str = "auto"
    """Pixels of the images that ganaug works on: `32`, `48x32` (height x width) or `auto`."""
    channels: Literal["auto", 1, 3, 4] = "auto"
    """1 grey, 3 RGB, 4 RGBA; `auto` is 1 when every image is grey, else 3."""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """How an image of another shape is brought to `size`."""
    white_16bit: PositiveInt = 65535
    """The 16-bit value that becomes white (255); 4095 for 12-bit cameras."""
    image_column: str = "auto"
    """Tables: the column of image paths (or of `image{bytes, path}`)."""
    label_column: str | None = "auto"
    """Tables: the column of class names or numbers; nothing for images without labels."""
    split_column: str = "auto"
    """Tables: the column that says train, val or test; optional."""
    group_column: str = "auto"
    """Tables: the column of groups (patient, photograph) that no split may cut; optional."""
    group_pattern: str | None = None
    """Regular expression; what it matches of a file name (its first group, if it has one) is
    the image's group: `^(.*)-` takes the part up to the last dash."""
    max_bad_share: Share = 0.01
    """Unreadable files are listed and left out; a larger share of them stops the run."""
    max_pixels: PositiveInt = 64_000_000
    """An image with more pixels than this is refused as a decompression bomb."""
    max_unpacked_bytes: PositiveInt = 64 * 2**30
    """An archive that unpacks to more than this is refused."""
    workers: NonNegativeInt = 0
    """Threads that decode images; 0 means one per core."""

    @property
    def has_labels(self) -> bool:
        """Whether labels are asked for."""
        return self.label_column is not None

    @field_validator("size", mode="before")
    @classmethod
    def _size_is_readable(cls, size: Any) -> Any:
        if size != "auto":
            height_width(str(size))
        return str(size)

    @field_validator("group_pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern


class SplitConfig(Section):
    """How real images are parted into training and test."""

    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Share of each class that is locked away as the test split, unless the data has one."""
    near_duplicates: bool = True
    """Search for near-duplicates (bursts, overlapping crops) and keep each set on one side."""
    group_names: bool = True
    """Take numbered file names (`photo7-01`, `photo7-02`) for one group when their images are
    measurably more alike than others; never when a group column or pattern is given."""
    keep: dict[str, PositiveInt] = {}
    """For trials: cut these classes to so many training images, by `seed`."""
    long_tail: Annotated[float, Field(ge=1.0)] | None = None
    """For trials: cut class k of K to n * long_tail^(-k/(K-1)) training images, by `seed`."""
    seed: NonNegativeInt = 0
    """Chooses the test images, and those that `keep` and `long_tail` leave."""

    @field_validator("keep", mode="before")
    @classmethod
    def _class_names_are_text(cls, keep: Any) -> Any:
        return _text_keys(keep)


class PlanConfig(Section):
    """Which classes get synthetic images, and how many."""

    target: Literal["majority", "median"] | PositiveInt | PositiveFloat | dict[str, PositiveInt] = "majority"
    """Wanted size of every class: `majority`, `median`, a count, a ratio of the largest class
    (a float up to 1.0) or a table of counts per class."""
    tolerance: Share = 0.1
    """A class that lacks less than this share of its target is left alone."""
    min_images: PositiveInt = 5
    """A class with fewer training images is too rare to learn from."""
    too_rare: Literal["skip", "base"] = "skip"
    """What happens to a class that is too rare: left alone, or served by the base GAN only."""

    @field_validator("target", mode="before")
    @classmethod
    def _class_names_are_text(cls, target: Any) -> Any:
        return _text_keys(target)

    @field_validator("target")
    @classmethod
    def _ratio_is_a_share(cls, target: Any) -> Any:
        if isinstance(target, float) and target > 1.0:
            raise ValueError(
                "as a ratio of the largest class must be at most 1.0; write a count without a dot"
            )
        return target


class TrainConfig(Section):
    """How the GANs are trained."""

    recipe: Literal[
        "auto",
        "vanilla",
        "cgan",
        "dcgan",
        "strided",
        "sgan",
        "multi-discriminator",
        "long-tail",
        "pair",
        "modern",
    ] = "auto"
    """`vanilla`: unconditional MLPs, one GAN per class from nothing; `cgan`: class-conditional
    MLPs; `dcgan`: strided and transposed convolutions with batch norm; `strided`: the same
    without norm and with bilinear upsampling; `sgan`: a discriminator that also tells the
    classes and learns from `data.unlabelled`; `multi-discriminator`: several of them against
    one generator; `long-tail`: `strided` with the class late and at high resolution alone, so
    that rare classes borrow from common ones; `pair`: exemplar-conditional (a real image of the
    class goes in, another one comes out), MLP below 16 px and convolutional from there;
    `modern`: norm-free residual networks, best on a GPU; `auto` chooses by image size, number
    of images and device."""
    scope: Literal["auto", "base", "per-class", "independent"] = "auto"
    """`base`: one GAN for all classes; `per-class`: each wanted class goes on from the base
    with its own training and its own best checkpoint; `independent`: each wanted class is
    trained from nothing on its own images; `auto`: independent where the GAN knows no
    classes, base for `long-tail`, else per-class."""
    loss: Literal[
        "auto", "minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"
    ] = "auto"
    """What both players minimise."""
    regularizers: (
        dict[Literal["r1", "r2", "wgan-gp", "dragan", "spectral-norm", "lecam"], NonNegativeFloat]
        | Literal["auto"]
    ) = "auto"
    """Regularisers of the discriminator and their weights, as `{r1: 0.3, r2: 0.3}`; a list of
    names takes each one's usual weight; `{}` is none; `auto` is the recipe's."""
    conditioning: Literal["auto", "none", "embedding", "projection", "normalisation", "classes"] = "auto"
    """How the class reaches the networks: `embedding` beside the input of both; `projection`
    into the discriminator's score; `normalisation` as scale and shift of the generator's maps;
    `classes` as outputs of the discriminator; `none` not at all."""
    transitional: bool | Literal["auto"] = "auto"
    """The class counts for nothing in the first quarter of the steps and for all from half way:
    against collapse where classes are small. `auto`: with `long-tail`."""
    unconditional_px: NonNegativeInt | Literal["auto"] = "auto"
    """Convolutional recipes: the generator's maps up to this side know no class, and one more
    discriminator judges images of this side without it: for long tails. 0 turns it off; `auto`:
    8 with `long-tail`, else 0."""
    sampling: Literal["auto", "natural", "square-root", "balanced"] = "auto"
    """How often classes are drawn: as they come, by the square root of that, or all alike."""
    discriminators: PositiveInt | Literal["auto"] = "auto"
    """How many discriminators judge the one generator."""
    aggregate: Literal["auto", "mean", "min", "softmax"] = "auto"
    """What the generator makes of several discriminators: their mean loss, that of the one that
    is hardest to fool, or a softmax-weighted mean."""
    optimizer: Literal["auto", "adam", "sgd"] = "auto"
    """Adam, or plain stochastic gradient descent (which wants a larger `learning_rate`)."""
    steps: PositiveInt | Literal["auto"] = "auto"
    """Training steps of the base GAN."""
    class_steps: PositiveInt | Literal["auto"] = "auto"
    """Training steps of each class's own GAN."""
    max_seconds: PositiveFloat | None = None
    """A GAN is trained no longer than this; what was best by then is kept."""
    max_images: PositiveInt | None = None
    """A GAN sees no more real images than this."""
    patience: NonNegativeInt = 5
    """Training stops after so many examinations (a tenth of the steps each) without a better
    score; 0 never stops."""
    batch: PositiveInt = 64
    """Images per step, over all processes."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """The optimiser's step size."""
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.998
    """Decay per step of the generator's moving average, which is what is exported."""
    z_dim: PositiveInt | Literal["auto"] = "auto"
    """Length of the latent vector."""
    width: PositiveInt | Literal["auto"] = "auto"
    """Units of an MLP layer, or channels of the widest-resolution convolution."""
    augment: bool = True
    """Differentiable augmentation of what the discriminator sees: shift, zoom, light, contrast,
    colour, cutout."""
    adaptive: bool = True
    """More augmentation when the discriminator overfits to the training images, less when not."""
    flips: bool = False
    """Let that augmentation mirror left to right; only where that leaves the class as it is."""
    quarter_turns: bool = False
    """Let it turn by 90 degrees too (180 where not square); only where the class stays."""
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Share of each class of 50 images or more that the GANs do not see, to watch them with."""
    remedies: bool = True
    """Act on what is detected (collapse, divergence, oscillation, vanishing gradients,
    memorisation); otherwise it is only reported."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`bf16`: forward passes in bfloat16, with penalties and weights in float32; `auto` is `fp32`, which was
    faster on an H100 at the usual widths."""
    processes: PositiveInt = 1
    """Processes that train one GAN together, each on its part of the batch: one per GPU."""
    keep_discriminator: bool = True
    """Save the base GAN's discriminator too, so that a classifier can start from its features."""
    seed: NonNegativeInt = 0
    """Chooses initial weights, batches and latents."""
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints, from which a killed run goes on."""

    @field_validator("regularizers", mode="before")
    @classmethod
    def _names_take_usual_weights(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return {name: USUAL_WEIGHTS.get(name, 1.0) for name in given}
        return given

    @model_validator(mode="after")
    def _scope_fits(self) -> Self:
        if self._is_unconditional and self.scope not in {"auto", "independent"}:
            raise ValueError(
                f"scope {self.scope!r} needs a GAN that knows classes, and this one knows none "
                "(conditioning none, or recipe vanilla); set train.scope independent, or leave it auto"
            )
        return self

    @property
    def _is_unconditional(self) -> bool:
        is_vanilla = self.recipe == "vanilla" and self.conditioning == "auto"
        return self.conditioning == "none" or is_vanilla

    @property
    def chosen_scope(self) -> Literal["base", "per-class", "independent"]:
        """The scope, `auto` resolved."""
        if self.scope != "auto":
            return self.scope
        if self._is_unconditional:
            return "independent"
        return "base" if self.recipe == "long-tail" else "per-class"

    @property
    def leaves_discriminator(self) -> bool:
        """Whether there will be a discriminator that a classifier can start from."""
        return self.keep_discriminator and self.chosen_scope != "independent"


USUAL_WEIGHTS = {"r1": 0.3, "r2": 0.3, "wgan-gp": 10.0, "dragan": 10.0, "spectral-norm": 1.0, "lecam": 0.1}
"""Weights of the regularisers that are named without one; those of their papers, and for R1 and
R2 what held on the digits."""


class ExportConfig(Section):
    """How generators become ONNX files."""

    opset: Annotated[int, Field(ge=18, le=22)] = 20
    """ONNX operator set."""
    parity_levels: NonNegativeInt = 1
    """Largest difference between torch and ONNX, in grey levels of 255, that is accepted."""


class ProduceConfig(Section):
    """Mass production with ONNX Runtime."""

    surplus: PositiveFloat = 2.0
    """Images made for each image wanted, so that screening can choose."""
    batch: PositiveInt | Literal["auto"] = "auto"
    """Images per call of ONNX Runtime; auto: measured."""
    shard_images: PositiveInt | Literal["auto"] = "auto"
    """Images per shard file; auto: 4096, fewer when they are large."""
    truncation: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Scale of the latents: below 1 gives more typical, less varied images."""
    seed: NonNegativeInt = 0
    """With model, class and index it determines every image."""


class ScreenConfig(Section):
    """Which synthetic images are kept."""

    classifiers: PositiveInt = 2
    """Classifiers, trained on real training images only, that must all agree with the label."""
    folds: Annotated[int, Field(ge=2)] = 3
    """Classifiers trained beside them, each without its share of the real training images, so that
    what is `auto` below is measured on images that a classifier has not seen."""
    steps: PositiveInt | Literal["auto"] = "auto"
    """Training steps of each of these classifiers; `auto`: thirty times through the real training images,
    at least 400 and at most 1,500."""
    min_confidence: Share | Literal["auto"] = "auto"
    """Probability that each classifier must give the label, after calibration; `auto`: what
    `keep_real` of the real images reach that were held out and are recognised."""
    keep_real: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Share of those real images that `min_confidence: auto` lets pass, every class alike."""
    min_realism: NonNegativeFloat | Literal["auto"] = "auto"
    """Typical distance between real neighbours of the class, over an image's distance to its
    nearest real one, in a classifier's features; `auto`: what 99 % of held-out real images
    reach; 0 lets everything pass."""
    min_distance: NonNegativeFloat | Literal["auto"] = "auto"
    """An image nearer than this to a real training image, or to one kept already, is a copy:
    root mean square difference of pixels in 0..1; `auto` takes it from the distances among
    the real images themselves. It scales the distances in features and codes too; 0 calls
    nothing a copy."""
    quota: NonNegativeFloat = 2.0
    """No cluster of a class may hold more of the images kept than so many times its share of the
    real ones; its first 16 are always allowed; 0 allows everything."""

    @field_validator("quota")
    @classmethod
    def _quota_leaves_room(cls, quota: float) -> float:
        # At 1 all clusters can be full at once, and production would stand still.
        if 0 < quota < 1.1:
            raise ValueError("takes 0 (no quota) or at least 1.1")
        return quota


class ReviewConfig(Section):
    """Whether somebody looks at the screened images before they are used."""

    mode: Literal["none", "required"] = "none"
    """`required`: the run waits after screening until the images are approved, rejected, or classes
    dropped, on Prefect's page or with `ganaug review`."""
    timeout_s: PositiveFloat = 86_400.0
    """Seconds that it waits at most."""
    on_timeout: Literal["approve", "reject"] = "reject"
    """What is decided when nobody has by then."""


class AssembleConfig(Section):
    """How the balanced training set is written."""

    format: Literal["folder", "parquet"] = "parquet"
    """`folder`: PNG files in a folder per class; `parquet`: Hugging Face style image Parquet."""


class EvaluateConfig(Section):
    """How it is measured, on the locked real test split, whether synthetic images help."""

    budget: Literal["quick", "standard", "paper"] = "quick"
    """What `auto` means below. `quick`: five arms, 4 seeds, nothing tuned; `standard`: every cheap
    arm and every use of synthetic images, 5 seeds, augmentation, the best way without synthetic images and
    the use of them tuned on validation folds inside the training split; `paper`: the same on 10 splits of the images, 3
    seeds each."""
    arms: tuple[str, ...] | Literal["auto"] = "auto"
    """Ways of building the training set that are compared: parts joined by `+`, as
    `oversampling+albumentations+mixup`, or a function of your own, `package.module:function`. `best
    baseline` stands for the way without synthetic images that validation folds choose."""
    seeds: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Classifier seeds per arm; all arms share them, so that comparisons are paired."""
    splits: PositiveInt | Literal["auto"] = "auto"
    """Splits of the images into training and test; each after the first is a whole run of its own,
    with other seeds, GANs and screen, in `splits/` of the run folder."""
    synthetic_share: Share | Literal["auto"] = "auto"
    """Share of a wanted class's draws that are synthetic, in the arms that mix them in; `auto` is
    0.25 or tuned."""
    steps: PositiveInt | Literal["auto"] = "auto"
    """Training steps of each classifier, equal for all arms."""
    augment: Literal["auto", "light", "medium", "strong"] = "auto"
    """How far albumentations goes in the arms that name no strength; `auto` is strong or tuned."""
    flips: bool = False
    """Let albumentations mirror left to right; only where that leaves the class as it is."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the intervals."""
    margin: PositiveFloat = 0.01
    """A difference of macro-F1 that is certainly smaller than this is called no difference."""
    min_right_label: Share = 0.5
    """Share of a class's synthetic images, as produced, that every screening classifier must call by
    the class; with less, none of them is used, and without any class left no classifier is trained
    on them. 0 switches it off."""
    near_copies: Literal["refuse", "note"] = "refuse"
    """What is done where synthetic images come nearer to test images than real ones do: end with an
    error, or go on and say so in the verdict. Exact copies are always refused."""
    workers: NonNegativeInt = 0
    """Processes that train classifiers; 0 means one per core, and on a GPU at most eight, or one of a network or
    command of your own."""
    classifier: str = classifier_name.DEFAULT
    """What is trained in every arm: `small-cnn`; `resnet-32`; `package.module:function`, a function of
    your own that makes a torch module or a scikit-learn estimator; or `command: python my_train.py
    {folder} {predictions}`, a program of your own, which may take `{seed}` too."""
    classifier_max_seconds: PositiveFloat | None = None
    """A command that has not ended after so many seconds is stopped, and the evaluation with it."""

    @field_validator("classifier", mode="before")
    @classmethod
    def _classifier_is_one(cls, classifier: Any) -> Any:
        classifier = classifier_name.as_text(classifier)
        if isinstance(classifier, str):
            classifier_name.kind_of(classifier)
        return classifier

    @property
    def is_tuned(self) -> bool:
        """Whether `auto` settings are chosen on validation folds."""
        return self.budget != "quick"

    @property
    def chosen_seeds(self) -> int:
        """Classifier seeds per arm and split, `auto` resolved."""
        return {"quick": 4, "standard": 5, "paper": 3}[self.budget] if self.seeds == "auto" else self.seeds

    @property
    def chosen_splits(self) -> int:
        """Splits of the images, `auto` resolved."""
        if self.splits != "auto":
            return self.splits
        return 10 if self.budget == "paper" else 1


def _folder_or_address(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and "://" not in value else value


class PublishConfig(Section):
    """Which models are accepted, and where they go."""

    accept: Literal["helps", "no difference"] = "helps"
    """Verdict that ships: `helps` and nothing else; `no difference`: that as well. `cannot tell` and
    `hurts` never ship."""
    require_gain: bool = False
    """A model that is refused is a failure, told when all else is done: exit status 4, flow run failed."""
    store: Annotated[Path | str, BeforeValidator(_folder_or_address)] = Path("exported")
    """The model store: a folder, or an address, as `s3://bucket/models`."""
    name: str = "auto"
    """Name in the store; `auto` is the run's name."""
    license: str = "unknown"
    """Licence of the model for its README.md, in Hugging Face's words: `cc-by-4.0`, `mit`, `other`."""
    source: str = ""
    """Where the real images are from, in a sentence for the README.md; what attribution their licence asks for."""
    promote: Literal["auto", "manual"] = "auto"
    """`auto`: what is published goes into production at once; `manual`: it is the candidate, and
    `ganaug promote` puts it there."""
    sign_with: Path | None = None
    """Secret key, of `ganaug keys` or `minisign -G -W`, that the model's card is signed with."""


class ReportConfig(Section):
    """The HTML page."""

    samples: PositiveInt = 8
    """Synthetic images shown per class."""


class RefreshConfig(Section):
    """How `ganaug refresh` goes on from the last run when the data have changed."""

    mode: Literal["changed", "full"] = "changed"
    """`changed`: GANs of classes whose training images changed are trained on from their last weights,
    the others are kept; `full`: every GAN is trained anew."""
    max_class_drift: PositiveFloat = 0.25
    """Everything is trained anew when the classes' shares have moved further than this since it last
    was: population stability index, of which 0.1 is commonly called moderate and 0.25 large."""
    max_feature_drift: Annotated[float, Field(gt=0.5, le=1.0)] = 0.75
    """And when new images can be told from earlier ones of the same classes better than this: area
    under the ROC curve of a classifier that tries; 0.5 is not at all, 1 is always."""
    keep_runs: PositiveInt = 3
    """Runs that keep all their files; of earlier ones the report and the records stay."""


class Resources(Section):
    """What one task of a step holds of a cluster."""

    cpus: PositiveFloat = 1.0
    """Processor cores."""
    gpus: NonNegativeFloat = 0.0
    """GPUs; a fraction lets several tasks share one, which must then hold them all in its memory."""


CLUSTER_STEPS = ("train", "export", "produce", "screen", "evaluate")
"""Steps whose tasks a cluster does; the others are short, and done where the command was given."""


class PipelineConfig(Section):
    """How Prefect runs the steps."""

    runner: Literal["threads", "processes", "ray", "dask"] = "threads"
    """Where tasks run: in threads or processes of this machine, or on a cluster of Ray or Dask, whose
    nodes must all see the run folder under the same path."""
    cluster: str | None = None
    """Address of the cluster: `auto` or `ray://head:10001` (also from RAY_ADDRESS), `tcp://scheduler:8786`;
    nothing starts one on this machine."""
    workers: PositiveInt | Literal["auto"] = "auto"
    """Tasks that run at the same time; `auto`: 1 in threads, one per core in processes, and as many as fit
    on a cluster. In threads more than 1 pays only with a GPU or many cores."""
    threads: PositiveInt | None = None
    """Processor threads that each task computes with; nothing: in threads and processes all cores, on a
    cluster the task's `cpus`. How sums are shared among threads changes the last bits of what is trained:
    give a number to get the same models from every runner and machine."""
    resources: dict[str, Resources] = {}
    """On a cluster: what a task holds, by step, as `{train: {gpus: 0.5, cpus: 2}}`; nothing is 1 core, and
    with `device: cuda` 1 GPU for `produce` and `evaluate`, and for `train` one per process."""
    retries: NonNegativeInt = 1
    """Times that a task is tried again when a retry can help (input/output trouble)."""
    mlflow: str | None = None
    """Address of an MLflow tracking server (its URL): settings, figures and report of each run go
    there, and published models into its registry."""
    metrics_file: Path | None = None
    """A file that holds the run's figures in Prometheus' text format, written anew after each step: for
    node_exporter's textfile collector."""

    @property
    def is_cluster(self) -> bool:
        """Whether tasks may run on other machines."""
        return self.runner in {"ray", "dask"}

    @field_validator("resources")
    @classmethod
    def _steps_are_steps(cls, resources: dict[str, Resources]) -> dict[str, Resources]:
        for step in resources:
            if step not in CLUSTER_STEPS:
                near = difflib.get_close_matches(step, CLUSTER_STEPS, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(
                    f"has no step {step!r} for a cluster; {hint}steps are {', '.join(CLUSTER_STEPS)}, as "
                    "{train: {gpus: 0.5}}"
                )
        return resources

    @model_validator(mode="after")
    def _runner_can(self) -> Self:
        given = [name for name in ("cluster", "resources") if getattr(self, name)]
        if given and not self.is_cluster:
            raise ValueError(
                f"{' and '.join(given)} {'are' if given[1:] else 'is'} for runner ray or dask; in {self.runner} one "
                "task at a time holds the GPU, and pipeline.workers says how many run"
            )
        return self


class Config(Section):
    """All settings of a run."""

    name: str = "auto"
    """Name of the run, its folder and its models; `auto` is the dataset's file name."""

    @field_validator("name")
    @classmethod
    def _name_is_a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w-][\w.-]{0,79}", name):
            raise ValueError("takes letters, digits, dots, dashes and underscores")
        return name

    run_dir: Path | None = None
    """The run folder; nothing means `runs/<name>`."""
    device: Device = "auto"
    """Where GANs are trained and run; `auto` takes a GPU when there is one."""
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    plan: PlanConfig = PlanConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    produce: ProduceConfig = ProduceConfig()
    screen: ScreenConfig = ScreenConfig()
    review: ReviewConfig = ReviewConfig()
    assemble: AssembleConfig = AssembleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()
    report: ReportConfig = ReportConfig()
    refresh: RefreshConfig = RefreshConfig()
    pipeline: PipelineConfig = PipelineConfig()


BUNDLED_DIGITS: Mapping[str, Any] = {
    "name": "digits",
    "split": {"test_share": 0.5, "keep": {"3": 5, "5": 5, "8": 5}},
}
"""What the embedded default changes: scikit-learn's digits, three classes cut to 5 images.
Half of the images test, because three classes of 45 could show no difference under 10 points."""


def height_width(size: str) -> tuple[int, int]:
    """Read `32` or `48x32` as (height, width) in pixels.

    Raises:
        ValueError: Not of that form, or outside 8 to 256 px.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
    if match is None:
        raise ValueError(f"{size!r} is not a size; write 32, 48x32 (height x width) or auto")
    height = int(match[1])
    width = int(match[2] or height)
    if not (8 <= height <= 256 and 8 <= width <= 256):
        raise ValueError(f"{size!r} is outside 8 to 256 px")
    return height, width


def load(
    path: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    data: Path | str | None = None,
) -> Config:
    """Build the settings from a YAML file, overrides and the path of the data.

    Args:
        path: YAML file of settings; its keys are those of `Config`.
        overrides: Dotted keys and their values, as `{"train.steps": "500"}`; they win.
        data: The dataset; the same as `data.path`.

    Raises:
        PathNotFoundError: `path` does not exist.
        SettingsError: Unknown keys and impossible values, all in one message.
    """
    tree = _read_yaml(Path(path)) if path is not None else {}
    problems: list[str] = []
    for key, value in {**(overrides or {}), **({"data.path": str(data)} if data is not None else {})}.items():
        _plant(tree, key, value, problems)
    data_section = tree.get("data") or {}
    if isinstance(data_section, Mapping) and data_section.get("path") is None:
        tree = _merge(BUNDLED_DIGITS, tree)
    return _validated(tree, problems)


def load_whole(path: Path) -> Config:
    """Read a file that `describe` wrote: it says everything, and nothing is filled in.

    Raises:
        PathNotFoundError: It does not exist.
        SettingsError: It was changed to something that cannot be.
    """
    return _validated(_read_yaml(path), [])


def _validated(tree: Mapping[str, Any], problems: list[str]) -> Config:
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += explain(error, Config)
    if problems:
        raise SettingsError(problems)
    return config


def describe(config: Config) -> str:
    """Write the effective settings as YAML, each field under its description."""
    lines: list[str] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            lines += ["", f"# {' '.join((type(value).__doc__ or '').split())}", f"{name}:"]
            for inner, inner_field in type(value).model_fields.items():
                lines += _yaml_field(inner, getattr(value, inner), inner_field.description, "  ")
        else:
            lines += _yaml_field(name, value, field.description, "")
    return "\n".join(lines) + "\n"


def _yaml_field(name: str, value: Any, description: str | None, indent: str) -> list[str]:
    plain = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    if isinstance(plain, dict):
        plain = {key: one.model_dump() if isinstance(one, Section) else one for key, one in plain.items()}
    text = yaml.safe_dump({name: plain}, default_flow_style=False, width=1000).strip()
    return [
        f"{indent}# {' '.join((description or '').split())}",
        *(indent + line for line in text.splitlines()),
    ]


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PathNotFoundError(path, "settings file")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # YAML's own dates and numbers end in ValueError where there is no such day, or too many digits.
        raise SettingsError([f"{path} is not a YAML file: {error}"]) from error
    if not isinstance(tree, dict):
        raise SettingsError([f"{path} holds a {type(tree).__name__}; a table of settings was expected"])
    return tree


def _plant(tree: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    """Put a dotted key into the tree; text is read as YAML, so `500` is a number."""
    # What follows the second dot is a key of a table, such as a class name: taken as it is.
    section, *rest = key.split(".", 2)
    path = [section.replace("-", "_"), *(part.replace("-", "_") for part in rest[:1]), *rest[1:]]
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            problems.append(f"{key}: {part} is not a section")
            return
    try:
        tree[path[-1]] = yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError, RecursionError):
        tree[path[-1]] = value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """What is wrong with settings of `root`, a line per field; the members of a union share one."""
    wrong: dict[str, list[str]] = {}
    for problem in error.errors():
        field, message = _explain_one(problem, root)
        messages = wrong.setdefault(field, [])
        if message not in messages:
            messages.append(message)
    return [f"{field}: {', or '.join(messages)}" for field, messages in wrong.items()]


# Aliases of YAML make a few lines into gigabytes, once they are written out.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 3, 20, 20, 500, 500


def _explain_one(problem: Any, root: type[BaseModel]) -> tuple[str, str]:
    """The field's dotted name and what is wrong, with the nearest known name for an unknown one."""
    section = root
    path: list[str] = []
    for part in map(str, problem["loc"]):
        path.append(part)
        field = section.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        ):
            break
        section = field.annotation
    name, known = ".".join(path), list(section.model_fields)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = (
            f"did you mean {'.'.join([*path[:-1], near[0]])}?" if near else f"known here: {', '.join(known)}"
        )
        return name, f"no such setting; {hint}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    # Of fields that do not fit together the message says all; the input would be every setting.
    return (name, f"{_SHORT.repr(problem['input'])} {message}") if name else ("together", message)
