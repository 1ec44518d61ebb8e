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
    from ganaug.torch_balanced import BalancedDataset as BalancedDataset
    from ganaug.torch_balanced import balanced as balanced
    from ganaug.torch_batches import GanCollate as GanCollate
    from ganaug.torch_batches import SwapForSynthetic as SwapForSynthetic
    from ganaug.torch_batches import SyntheticBatches as SyntheticBatches
    from ganaug.torch_data import SyntheticDataset as SyntheticDataset

__version__ = "0.1.0"
__all__ = ["Generator", "__version__", "load"]
_TORCH_NAMES = {
    "BalancedDataset": "torch_balanced",
    "GanCollate": "torch_batches",
    "SwapForSynthetic": "torch_batches",
    "SyntheticBatches": "torch_batches",
    "SyntheticDataset": "torch_data",
    "balanced": "torch_balanced",
}
"""Which module has them; not in `__all__`, because they need an extra."""


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
    if name in _TORCH_NAMES:
        return _with_torch(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _with_torch(name: str) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(f"ganaug.{_TORCH_NAMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from ganaug.errors import MissingExtraError

        raise MissingExtraError(f"ganaug.{name}", "train") from error
