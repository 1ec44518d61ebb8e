"""Mass production: labelled images to shards, in an order and with bytes that never vary.

`produce` does what a `Production` says; `produce_class` is the step of a run. A shard is written
beside and renamed, then its piece of the manifest; what has one is not made again. Killed
anywhere, the next call leaves the same files, byte for byte.
"""

from __future__ import annotations

from ganaug.produce.opening import planned
from ganaug.produce.order import Production
from ganaug.produce.production import Result, account, open_shards, produce, produce_class
from ganaug.produce.reproduce import reproduce

__all__ = [
    "Production",
    "Result",
    "account",
    "open_shards",
    "planned",
    "produce",
    "produce_class",
    "reproduce",
]
