"""Memory is that of a few batches and shards, however many images are made."""

import os
import subprocess
import sys

import pytest
from support.productions import order

PEAKS = """
import json, resource, sys
from ganaug.produce import Production, calibrate, produce
calibrate.TRY_S = 0.0
peaks = []
for count in (2_000, 40_000):
    settings = json.loads(sys.argv[1])
    settings |= {"counts": {"cat": count}, "out": f"{settings['out']}/{count}"}
    produce(Production(**settings))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[0], peaks[1])
"""


@pytest.mark.parametrize(("name", "encoding"), [("npz", "auto"), ("parquet", "raw")])
def test_twenty_times_the_images_take_no_more_memory(write_model, tmp_path, name, encoding):
    write_model(tmp_path / "model", image_shape=(32, 32, 3))
    asked = order(
        tmp_path / "model", tmp_path / "out", format=name, encoding=encoding, shard_images=500, batch=64
    )
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, asked.model_dump_json()],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
    )
    few, many = map(int, done.stdout.split())
    # 40,000 images are 117 MiB, more than a process is without them.
    assert many < 1.1 * few
