"""Images per second of `ganaug produce`, beside ONNX Runtime alone, the encoders alone and torch.

    python tests/benchmarks/production.py
    python tests/benchmarks/production.py --formats npz parquet+png --images 100000 --rounds 5
    python tests/benchmarks/production.py --screen
    python tests/benchmarks/production.py --profile parquet+png
    python tests/benchmarks/production.py --device cuda --batch 1024 --precision fp16

All sides make the same images with the same graph (the `dcgan` preset at 32 px unless --recipe
says otherwise, with random weights, which cost what trained ones do), in the same process, in turns:

- `session.run`: a bare loop over ready latents. As one call of all cores' threads, and as a loop
  per core of one thread each; on a GPU one call or two at a time. Ratios are against the faster.
- `encoder`: the encoding alone of images that are there, on all cores.
- `produce`: from the settings to finished files, with manifest, hashes, card and sheets.
- `torch eager`: the exported generator's own module, all cores' threads or the GPU, `inference_mode`.

On a GPU it says first by how many grey levels its images differ from the CPU's.

`--screen` also screens with an untrained screener: what it costs, not what it rejects.
Numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from ganaug.config import ExportConfig, TrainConfig
from ganaug.cores import cores
from ganaug.formats import ENCODINGS
from ganaug.latents import draw
from ganaug.produce import Production, produce
from ganaug.training.export import export_module
from ganaug.training.networks import NETWORKS, NetworkSpec
from ganaug.training.networks.conditioning import ConditionalGenerator, ExemplarGenerator
from ganaug.training.networks.presets import resolve

SHAPES = {8: (8, 8, 1), 16: (16, 16, 3), 32: (32, 32, 3), 64: (64, 64, 3)}
LAYOUTS = ("npz", "parquet+raw", "parquet+png", "webdataset+png", "parquet+jpeg", "folder+png")
TURN_S = 2.0
"""How long the bare loops and torch run in a turn."""
PARITY = 4096
"""Images whose grey levels are compared."""
Settings = dict[str, Any]
"""Of a production: device, batch, precision and so on."""


def main() -> None:
    """Measure in turns and print medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="dcgan")
    parser.add_argument("--px", type=int, default=32, choices=list(SHAPES))
    parser.add_argument("--formats", nargs="+", default=list(LAYOUTS), help="format[+encoding]")
    parser.add_argument("--images", type=int, default=60_000, help="images of a production")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="images per call")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="of `produce`, on a GPU"
    )
    parser.add_argument("--cuda-graph", action="store_true", help="in `produce`")
    parser.add_argument(
        "--screener", type=Path, help="also screen with this one, runs/<name>/screen/screener"
    )
    parser.add_argument(
        "--profile", metavar="FORMAT", help="where the time of the deciding thread goes, instead"
    )
    asked = parser.parse_args()
    how: Settings = {"device": asked.device, "batch": asked.batch}
    if asked.device == "cuda":
        how |= {"precision": asked.precision, "cuda_graph": asked.cuda_graph}
    else:
        how |= {"workers": cores(), "threads": 1}
    with tempfile.TemporaryDirectory() as folder:
        model, module = _export(asked.recipe, SHAPES[asked.px], Path(folder) / "model")
        if asked.profile:
            _profile(model, asked.profile, asked.images, Path(folder), how)
            return
        if asked.device == "cuda":
            print(_parity(model, asked.precision))
            others = {"two calls at a time": (2, 1)}
        else:
            others = {"one call per core": (cores(), 1)}
        sides: dict[str, Callable[[], float]] = {
            f"session.run, {name}": lambda calls=calls, threads=threads: _bare(
                model, calls, threads, asked.device, asked.batch
            )
            for name, (calls, threads) in {"one call at a time": (1, cores()), **others}.items()
        }
        sides["torch eager"] = lambda: _torch(module, asked.device, asked.batch)
        encodings = dict.fromkeys(layout.partition("+")[2] for layout in asked.formats)
        for encoding in filter(None, encodings):
            sides[f"encoder {encoding}"] = lambda encoding=encoding: _encoder(model, encoding)
        for layout in asked.formats:
            sides[f"produce {layout}"] = lambda layout=layout: _produce(
                model, layout, asked.images, Path(folder), how
            )
        if asked.screener is not None:
            sides["produce parquet+png, screened"] = lambda: _produce(
                model, "parquet+png", asked.images, Path(folder), how, asked.screener
            )
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for round_number in range(asked.rounds):
            for name, measure in sides.items():
                rates[name].append(measure())
                sys.stderr.write(f"round {round_number + 1}: {name}: {rates[name][-1]:,.0f} images/s\n")
    _print(rates, f"{asked.recipe} at {asked.px} px, {cores()} cores")


def _print(rates: dict[str, list[float]], title: str) -> None:
    """A table in Markdown: medians, and ratios taken within each round."""
    bare = [max(pair) for pair in zip(*(rates[name] for name in rates if "session" in name), strict=True)]
    print(f"{title}, {len(bare)} rounds, onnxruntime {onnxruntime.__version__}\n")
    print("| side | images/s | ratio to session.run |\n| --- | --- | --- |")
    for name, values in rates.items():
        ratio = statistics.median(value / other for value, other in zip(values, bare, strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")


def _export(recipe: str, shape: tuple[int, int, int], folder: Path) -> tuple[Path, Any]:
    preset = resolve(TrainConfig(recipe=recipe), shape, 1000, "cpu")[2]  # type: ignore[arg-type]
    network = NETWORKS[preset.network]
    is_pair = network.kind == "exemplar-conditional"
    classes = tuple(range(10))
    spec = NetworkSpec(
        preset.network,
        shape,
        classes,
        preset.z_dim,
        preset.width,
        (20,) * 10 if is_pair else None,
        preset.conditioning,  # type: ignore[arg-type]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wrapper = ExemplarGenerator if is_pair else ConditionalGenerator
        module = wrapper(spec, network.generator(spec)).eval()
    names = [str(number) for number in classes]
    export_module(
        module,
        folder,
        ExportConfig(),
        class_names=names,
        dataset_sha256="0" * 64,
        name="model",
        recipe=recipe,
    )
    return folder, module


def _parity(model: Path, precision: str) -> str:
    """How far the GPU's images are from the CPU's, in a sentence."""
    from ganaug.generate import Generator

    cpu, gpu = (
        Generator.open(model, device=device, precision=kind).sample("3", PARITY).astype(np.int16)
        for device, kind in (("cpu", "fp32"), ("cuda", precision))
    )
    gap = np.abs(cpu - gpu)
    return (
        f"{PARITY} images, {precision} on the GPU: at most {gap.max()} grey levels from the CPU's, "
        f"{(gap > 0).mean():.2%} of the values differ\n"
    )


def _feed(session: Any, batch: int) -> dict[str, Any]:
    z_dim = next(port.shape[1] for port in session.get_inputs() if port.name == "z")
    z, exemplar = draw(0, 3, 0, batch, z_dim, 5)
    feed = {"z": z, "class_id": np.full(batch, 3, np.int64), "exemplar": exemplar}
    return {port.name: feed[port.name] for port in session.get_inputs()}


def _bare(model: Path, calls: int, threads: int, device: str, batch: int) -> float:
    """Images per second of `session.run` in a loop, in `calls` threads at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # As one call it may spin, which is its own default and does not take cores from others here.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if calls == 1 else "0")
    if device == "cuda":
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(
        str(model / "generator.onnx"), options, providers=[f"{device.upper()}ExecutionProvider"]
    )
    feed = _feed(session, batch)
    session.run(None, feed)
    return _rate(calls, lambda: session.run(None, feed), batch)


def _rate(calls: int, once: Callable[[], Any], images: int) -> float:
    """Images per second of a function that makes so many, called for `TURN_S` in some threads."""
    started = time.perf_counter()

    def loop(_number: int) -> tuple[int, float]:
        made = 0
        while time.perf_counter() - started < TURN_S:
            once()
            made += images
        return made, time.perf_counter() - started

    with ThreadPoolExecutor(calls) as pool:
        return sum(made / seconds for made, seconds in pool.map(loop, range(calls)))


def _torch(module: Any, device: str, batch: int) -> float:
    torch.set_num_threads(cores())
    module = module.to(device)
    z, exemplar = draw(0, 3, 0, batch, module.z_dim, 5)
    inputs = [torch.from_numpy(z), torch.full((batch,), 3)]
    if module.exemplar_counts is not None:
        inputs.append(torch.from_numpy(exemplar))

    def once() -> None:
        with torch.inference_mode():
            module(*(one.to(device) for one in inputs)).cpu()

    once()
    return _rate(1, once, batch)


def _encoder(model: Path, encoding: str) -> float:
    from ganaug.generate import Generator

    images = Generator.open(model, device="cpu").sample("3", 1024)
    return _rate(cores(), lambda: ENCODINGS[encoding].encode(images, 95), len(images))


def _produce(
    model: Path, layout: str, images: int, folder: Path, how: Settings, screener: Path | None = None
) -> float:
    """Images per second of a production, all it does included."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    result = produce(_production(model, layout, images, out, how, screener))
    seconds = time.perf_counter() - started
    shutil.rmtree(out)
    return result.made / seconds


def _production(
    model: Path, layout: str, images: int, out: Path, how: Settings, screener: Path | None = None
) -> Production:
    name, _, encoding = layout.partition("+")
    return Production(
        model=str(model),
        out=str(out),
        count=images,
        mix={"3": 1, "7": 1},
        format=name,  # type: ignore[arg-type]
        encoding=encoding or "auto",  # type: ignore[arg-type]
        screener=screener,
        **how,
    )


def _profile(model: Path, layout: str, images: int, folder: Path, how: Settings) -> None:
    profile = cProfile.Profile()
    profile.runcall(produce, _production(model, layout, images, folder / "out", how))
    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
