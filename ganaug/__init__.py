"""Balance rare image classes with GANs, and measure on real images whether it helped.

>>> import ganaug
>>> ganaug.__version__.count(".")
2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ganaug.generate import Generator
    from ganaug.sampler import GanOverSampler as GanOverSampler

__version__ = "0.1.0"
__all__ = ["Generator", "__version__", "load"]


def load(model: Path | str, *, device: str = "auto", threads: int = 1) -> Generator:
    """Open a model by folder or by name, as `exported/digits`, `digits` or `digits@3`.

    Args:
        model: A model folder, or a name in the store `exported` of the working directory;
            what that does not have is looked for among the models that come with ganaug.
        device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
        threads: Threads of one call of ONNX Runtime; 0 means one per core.

    Raises:
        ModelError: There is no such model, or its card is damaged.
    """
    from ganaug.generate import Generator

    return Generator.open(model, device=device, threads=threads)


def __getattr__(name: str) -> Any:
    # Names are imported when they are used, so that `import ganaug` costs nothing.
    if name == "Generator":
        from ganaug.generate import Generator

        return Generator
    if name == "GanOverSampler":
        from ganaug.sampler import GanOverSampler

        return GanOverSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
