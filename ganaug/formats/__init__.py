"""How produced images become files: an encoding for each image, a format for what holds them.

Both are registries: a new one is one function or one file, and an entry.
"""

from ganaug.formats.container import Chunk, Format, Shard
from ganaug.formats.dataset_card import ProducedAbout, ProducedClass, ProducedModel, dataset_card
from ganaug.formats.encodings import ENCODINGS, Encoding, decode
from ganaug.formats.registry import FORMATS

__all__ = [
    "ENCODINGS",
    "FORMATS",
    "Chunk",
    "Encoding",
    "Format",
    "ProducedAbout",
    "ProducedClass",
    "ProducedModel",
    "Shard",
    "dataset_card",
    "decode",
]
