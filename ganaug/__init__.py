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
    from ganaug.to_files import to_imagefolder, to_parquet, to_webdataset

__version__ = "0.1.0"
__all__ = ["Generator", "__version__", "load", "to_imagefolder", "to_parquet", "to_webdataset"]


def load(
    model: Path | str, *, sha256: str | None = None, device: str = "auto", threads: int = 1
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
        device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
        threads: Threads of one call of ONNX Runtime; 0 means one per core.

    Raises:
        MissingExtraError: An address needs packages that are not installed.
        ModelError: There is no such model, its card is damaged, or it is another one than
            `sha256` says.
    """
    from ganaug.generate import Generator

    return Generator.open(model, sha256=sha256, device=device, threads=threads)


def __getattr__(name: str) -> Any:
    # Names are imported when they are used, so that `import ganaug` costs nothing.
    if name == "Generator":
        from ganaug.generate import Generator

        return Generator
    if name in {"to_imagefolder", "to_parquet", "to_webdataset"}:
        from ganaug import to_files

        return getattr(to_files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
