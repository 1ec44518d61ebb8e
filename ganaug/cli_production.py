"""The verbs of mass production: `ganaug produce`, `ganaug screen` and `ganaug reproduce`.

Without `--out` the first two are steps of a run; with it they write images for others to use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from ganaug import steps
from ganaug.config import PipelineConfig, explain
from ganaug.display import Display
from ganaug.errors import SettingsError
from ganaug.progress import listening, to_listener
from ganaug.run import RunFolder
from ganaug.terminal import (
    ConfigFile,
    DeviceName,
    Flag,
    Rest,
    RunDir,
    console,
    do_step,
    errors,
    quiet_prefect,
    settings_of,
)

if TYPE_CHECKING:
    from ganaug.produce import Production, Result

EXIT_UNFILLED = 3
"""Of `produce`, when a class could not be filled."""

Part = Annotated[str | None, Parameter(help="Only this part of the run's step: a class's name.")]
Format = Literal["parquet", "webdataset", "npz", "folder"]
Encoding = Literal["auto", "png", "jpeg", "webp", "raw"]
Runner = Literal["threads", "processes", "ray", "dask"]
_AUTO = "auto"


def produce(
    *path: Rest,
    model: str | None = None,
    out: str | None = None,
    count: int | None = None,
    kept: int | None = None,
    classes: str | None = None,
    mix: str | None = None,
    counts: str | None = None,
    screener: str | None = None,
    until_kept: Flag = False,
    max_tries: float = 20.0,
    format: Format = "parquet",  # noqa: A002 - what the option is called
    encoding: Encoding = "auto",
    quality: int = 95,
    shard_images: int | None = None,
    shard: str | None = None,
    parts: int = 1,
    runner: Runner | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    batch: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    tensorrt: Flag = False,
    cuda_graph: Flag = False,
    license: str = "unknown",  # noqa: A002 - what the option is called
    dry_run: Flag = False,
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    part: Part = None,
) -> None:
    """Make labelled synthetic images with ONNX Runtime, by model, class, seed and index.

    Without `--out` it is the step of a run. With `--out` it writes any number of images to any
    place, from a model (`--model`) or from a run's generators. Killed, give the same command again:
    the finished set is the same to the byte. Ends with 3 when a class could not be filled.

    Examples:
        ganaug produce --model digits --count 1000 --out images/

        ganaug produce --model digits@1 --counts 3=5000,8=200 --format webdataset --out s3://bucket/digits

        ganaug produce --run-dir runs/digits --kept 1000 --screener auto --out images/

        ganaug produce --model digits --count 1000000 --out images/ --shard 3/16

        ganaug produce --model digits --count 1000000 --out images/ --parts 16 --runner processes

        ganaug produce

    Args:
        path: The dataset of the run.
        model: A model folder, or a name that `ganaug models` lists; nothing: the run's generators.
        out: A folder, or an address that fsspec knows, such as s3://bucket/path.
        count: Images of each class; with --mix, of all classes together.
        kept: The same, but of images that the screener keeps: more are made until they are reached.
        classes: Only these, with commas between.
        mix: Ratio of the classes: cat=3,dog=1; or trained, as among the model's training images.
        counts: Images of each class: cat=100,dog=20; or a table (.csv, .json, .yaml); or plan, the deficits
            of the run's plan.
        screener: Folder of a screener; auto: that of the run. What it rejects is not written.
        until_kept: The counts of --counts are images that the screener keeps.
        max_tries: Images tried for each one wanted, before a class is given up.
        format: Hugging Face image Parquet, WebDataset .tar, numpy .npz, or a folder of images per class.
        encoding: How an image is stored; raw: an uncompressed TIFF; auto: png, and arrays in .npz.
        quality: Of JPEG and WebP, 1 to 100; WebP at 100 is lossless.
        shard_images: Images of a class tried for one shard; nothing: 4096, fewer when they are large.
        shard: Do only the k-th of n parts: 3/16. Any machine, any order; the last one done finishes.
        parts: Cut the work into so many parts; with a screener, copies are looked for within each.
        runner: Do the parts as a Prefect flow, in threads or processes, or on a cluster of Ray or Dask, with the
            other settings of `pipeline`.
        seed: With model, class and index it determines every image.
        truncation: Scale of the latents: below 1 gives more typical, less varied images.
        batch: Images per call of ONNX Runtime; nothing: measured.
        workers: Calls of ONNX Runtime at a time; nothing: measured.
        threads: Threads of each call; nothing: measured.
        precision: fp16 halves the arithmetic on a GPU; refused where images differ by more than a level.
        tensorrt: Run through TensorRT, where ONNX Runtime and the machine have it.
        cuda_graph: On a GPU, record the first call of ONNX Runtime and replay it; not for every network.
        license: Licence for the dataset card, in Hugging Face's words: cc-by-4.0, mit, other.
        dry_run: Tell what would be made, and stop.
        config: YAML file of settings of the run.
        run_dir: The run folder.
        device: auto, cpu or cuda.
        part: Only this part of the run's step.
    """
    if out is None and model is None and not dry_run:
        do_step("produce", settings_of(path, config, run_dir, device, continues=True), part)
        return
    if count is not None and kept is not None:
        raise SettingsError(["--count and --kept: one of them says how many images are wanted"])
    chosen = settings_of(path, config, run_dir, device, continues=True)
    one, of = _shard(shard, parts)
    production = _production(
        model=model or _run_model(steps.run_dir(chosen)),
        out=out or "",
        count=kept if kept is not None else count,
        classes=tuple(filter(None, (classes or "").split(","))),
        mix=mix if mix in {None, "trained"} else _pairs("mix", str(mix), float),
        counts=_counts(counts, steps.run_dir(chosen)),
        screener=steps.run_dir(chosen) / "screen" / "screener" if screener == _AUTO else screener,
        until_kept=until_kept or kept is not None,
        max_tries=max_tries,
        format=format,
        encoding=encoding,
        quality=quality,
        shard_images=_AUTO if shard_images is None else shard_images,
        part=one,
        parts=of,
        seed=seed,
        truncation=truncation,
        device=chosen.device,
        batch=_AUTO if batch is None else batch,
        workers=_AUTO if workers is None else workers,
        threads=_AUTO if threads is None else threads,
        precision=precision,
        tensorrt=tensorrt,
        cuda_graph=cuda_graph,
        license=license,
    )
    _do(production, _places(runner, chosen.pipeline), dry_run=dry_run)


def screen(
    *path: Rest,
    images: Path | None = None,
    out: str | None = None,
    screener: str = _AUTO,
    format: Format = "parquet",  # noqa: A002 - what the option is called
    encoding: Encoding = "auto",
    quality: int = 95,
    license: str = "unknown",  # noqa: A002 - what the option is called
    config: ConfigFile = None,
    run_dir: RunDir = None,
    device: DeviceName = None,
    part: Part = None,
) -> None:
    """Keep the synthetic images that classifiers recognise, that look real, and that are no copies.

    Without `--images` it is the step of a run. With it, images that something else made are
    judged: a folder per class, an archive, a table or a production of ganaug; what is kept is
    written to `--out`, and the reasons for the rest to its manifest.

    Examples:
        ganaug screen --images diffusion-output/ --run-dir runs/photos --out kept/

        ganaug screen

    Args:
        path: The dataset of the run.
        images: Images to judge, of classes of the run: any source that `ganaug run` reads.
        out: Where the kept ones go: a folder, or an address that fsspec knows.
        screener: Folder of a screener; auto: that of the run.
        format: Hugging Face image Parquet, WebDataset .tar, numpy .npz, or a folder of images per class.
        encoding: How an image is stored; raw: an uncompressed TIFF; auto: png, and arrays in .npz.
        quality: Of JPEG and WebP, 1 to 100; WebP at 100 is lossless.
        license: Licence for the dataset card.
        config: YAML file of settings of the run.
        run_dir: The run folder.
        device: auto, cpu or cuda.
        part: Only this part of the run's step.
    """
    chosen = settings_of(path, config, run_dir, device, continues=True)
    if images is None:
        do_step("screen", chosen, part)
        return
    production = _production(
        images=images,
        out=out or "",
        screener=steps.run_dir(chosen) / "screen" / "screener" if screener == _AUTO else screener,
        format=format,
        encoding=encoding,
        quality=quality,
        license=license,
        device=chosen.device,
    )
    _do(production, None, dry_run=False)


def reproduce(
    production: str,
    *,
    row: int,
    model: str | None = None,
    device: DeviceName = None,
    save: Path | None = None,
) -> None:
    """Make one image of a production again from its row of the manifest, and compare. Ends with 1 if it differs.

    Examples:
        ganaug reproduce images/ --row 1234

        ganaug reproduce s3://bucket/digits/manifest/003-3-00000.parquet --row 7 --save again.png

    Args:
        production: What `produce` wrote: its folder or address, its manifest, or one file of that.
        row: Row of the manifest, from 0.
        model: The model, where it is not found under the name that it had.
        device: auto, cpu or cuda; another device may differ in the last bit.
        save: Write the image as PNG.
    """
    from ganaug.formats import ENCODINGS
    from ganaug.produce import reproduce as again

    found = again(production, row, model=model, device=device or _AUTO)
    if save is not None:
        save.write_bytes(ENCODINGS["png"].encode(found.image[None], 100)[0])
    what = found.row
    console.print(
        Text(
            f"class {what['class_name']}, seed {what['seed']}, index {what['index']}, in {what['file'] or 'no file'}"
        ),
        soft_wrap=True,
    )
    if found.levels is None:
        console.print(Text(f"made again; it was not kept ({what['reason']}), so there is nothing to compare"))
    elif found.is_same:
        console.print(Text("the same to the last bit", style="green"))
    else:
        console.print(Text(f"differs by up to {found.levels} grey levels", style="red"))
        raise SystemExit(1)


def _do(production: Production, places: PipelineConfig | None, *, dry_run: bool) -> None:
    from ganaug.produce import planned, produce

    if dry_run:
        _show_plan(production, planned(production))
        return
    with Display(console, ["produce"]) as display, listening(display):
        if places is None:
            result = produce(production, to_listener("produce", ""))
        else:
            quiet_prefect()
            from pipeline.production import run_production

            result = run_production(production, places)
    _show(result)


def _places(runner: Runner | None, settings: PipelineConfig) -> PipelineConfig | None:
    """Where the tasks of a flow run; None without a flow."""
    if runner is None or runner == settings.runner:
        return settings if runner else None
    # What is set for a cluster means nothing to another runner.
    return PipelineConfig(runner=runner, workers=settings.workers, threads=settings.threads)


def _show_plan(production: Production, wanted: dict[str, int]) -> None:
    table = Table(title=f"Dry run: {production.out or 'no --out given'}", title_justify="left")
    table.add_column("class")
    table.add_column("to keep" if production.until_kept else "to make", justify="right")
    for name, number in wanted.items():
        table.add_row(Text(name), f"{number:,}")
    console.print(table)


def _show(result: Result) -> None:
    table = Table(title="Images", title_justify="left")
    table.add_column("class")
    for name in ("wanted", "tried", "kept", "rejected"):
        table.add_column(name, justify="right")
    table.add_column("mostly because")
    for name, tally in result.classes.items():
        if not tally.wanted:
            continue
        numbers = (tally.wanted, tally.tried, tally.kept, tally.rejected.total())
        table.add_row(Text(name), *(f"{number:,}" for number in numbers), tally.mostly)
    console.print(table)
    way = result.way
    how = f" ({way.workers} calls at a time of {way.batch} images and {way.threads} threads)" if way else ""
    rate = f"{result.made:,} tried in {result.seconds:,.1f} s, {result.images_per_s:,.0f} images/s{how}"
    console.print(Text(rate if result.made else "nothing was to do: all of it was there"), soft_wrap=True)
    if not result.is_finished:
        console.print(Text("this part is done; other parts are not yet"))
    console.print(Text(f"in {result.address}"), soft_wrap=True)
    for name in result.unfilled:
        tally = result.classes[name]
        errors.print(
            Text(
                f"! class {name} could not be filled: {tally.kept:,} of {tally.wanted:,} kept after {tally.tried:,} "
                f"tries, mostly because of: {tally.mostly}. Raise --max-tries, or train its GAN longer or on more images.",
                style="yellow",
            ),
            soft_wrap=True,
        )
    if result.unfilled:
        raise SystemExit(EXIT_UNFILLED)


def _production(**fields: Any) -> Production:
    from ganaug.produce import Production

    try:
        return Production(**fields)
    except ValidationError as error:
        raise SettingsError(explain(error, Production)) from error


def _run_model(folder: Path) -> str:
    return str(steps.run_model(RunFolder.open(folder)))


def _shard(shard: str | None, parts: int) -> tuple[int, int]:
    """Part and parts; part 0 is all of them."""
    if shard is None:
        return 0, parts
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError([f"--shard {shard!r}: wanted is k/n with k from 1 to n, such as 3/16"])
    return int(found[1]), int(found[2])


def _counts(text: str | None, run_folder: Path) -> dict[str, Any] | Path | None:
    if text is None:
        return None
    if text == "plan":
        return run_folder / "plan" / "plan.json"
    return _pairs("counts", text, int) if "=" in text else Path(text)


def _pairs(option: str, text: str, kind: type[int] | type[float]) -> dict[str, Any]:
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        found = {name.strip(): kind(value) for name, _, value in pairs}
    except ValueError as error:
        raise SettingsError([f"--{option} {text!r}: wanted is class=number,class=number"]) from error
    if len(found) < len(pairs):
        raise SettingsError([f"--{option} {text!r}: a class stands there twice"])
    return found
