"""Balance rare image classes with GANs, and measure on real images whether it helped.

>>> import ganaug
>>> ganaug.__version__.count(".")
2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ganaug.adapters.sampler import GanOverSampler as GanOverSampler
    from ganaug.adapters.to_files import to_imagefolder, to_parquet, to_webdataset
    from ganaug.adapters.torch_balanced import BalancedDataset as BalancedDataset
    from ganaug.adapters.torch_balanced import balanced as balanced
    from ganaug.adapters.torch_batches import GanCollate as GanCollate
    from ganaug.adapters.torch_batches import SwapForSynthetic as SwapForSynthetic
    from ganaug.adapters.torch_batches import SyntheticBatches as SyntheticBatches
    from ganaug.adapters.torch_data import SyntheticDataset as SyntheticDataset
    from ganaug.adapters.transform import GanSample as GanSample
    from ganaug.adapters.worker_seeds import worker_init_fn as worker_init_fn
    from ganaug.generate import Generator

__version__ = "0.1.0"
# Without what needs an extra: `from ganaug import *` must work in the base install.
__all__ = ["Generator", "__version__", "load", "to_imagefolder", "to_parquet", "to_webdataset"]

_NAMES = {
    "BalancedDataset": ("adapters.torch_balanced", "train"),
    "GanCollate": ("adapters.torch_batches", "train"),
    "GanOverSampler": ("adapters.sampler", "sampler"),
    "GanSample": ("adapters.transform", "albumentations"),
    "Generator": ("generate", ""),
    "SwapForSynthetic": ("adapters.torch_batches", "train"),
    "SyntheticBatches": ("adapters.torch_batches", "train"),
    "SyntheticDataset": ("adapters.torch_data", "train"),
    "balanced": ("adapters.torch_balanced", "train"),
    "to_imagefolder": ("adapters.to_files", "produce"),
    "to_parquet": ("adapters.to_files", "produce"),
    "to_webdataset": ("adapters.to_files", "produce"),
    "worker_init_fn": ("adapters.worker_seeds", "albumentations"),
}
"""Where each name is imported from when it is used, so that `import ganaug` costs nothing; and the
extra that brings what it needs beyond the base install."""


def load(
    model: Path | str,
    *,
    sha256: str | None = None,
    public_key: Path | str | None = None,
    device: str = "auto",
    threads: int = 1,
) -> Generator:
    """Open a model by folder, name or address: `exported/digits`, `digits@3`, `s3://bucket/models/digits`.

    Nothing of a model is executed but its graphs, by ONNX Runtime; card and graphs are checked
    by hash, size and shape first.

    Args:
        model: A model folder, or a name in the store `exported` of the working directory;
            what that does not have is looked for among the models that come with ganaug. Or an
            address that fsspec knows (`pip install 'ganaug[remote]'`): its model is kept in
            `$GANAUG_CACHE` or the system's cache folder, and fetched again only when it changes.
        sha256: Hash that the model's card must have, as `Generator.sha256` gives it: what somebody
            else puts at the address is then refused, and what is here needs no network.
        public_key: Key of minisign that the model's card must be signed with, as the word `RW…` or
            the file that holds it (`pip install 'ganaug[sign]'`). The environment variable
            `GANAUG_PUBLIC_KEY` asks for one wherever a model is loaded.
        device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
        threads: Threads of one call of ONNX Runtime; 0 means one per core.

    Raises:
        MissingExtraError: An address, or a signature, needs packages that are not installed.
        ModelError: There is no such model, its card is damaged, it is another one than `sha256`
            says, or it is not signed as it must be.
    """
    from ganaug.generate import Generator

    return Generator.open(model, sha256=sha256, public_key=public_key, device=device, threads=threads)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _NAMES[name]
    try:
        return getattr(import_module(f"ganaug.{module}"), name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("ganaug"):
            raise
        from ganaug.errors import MissingExtraError

        raise MissingExtraError(f"ganaug.{name}", extra) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
