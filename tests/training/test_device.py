"""How many threads numeric libraries take."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ganaug.training import device

PROGRAM = """
import json, os
import torch
from threadpoolctl import threadpool_info
from ganaug.training.device import cpu_threads

threads = {name for name in os.environ if name.endswith("_NUM_THREADS")}
with cpu_threads(1), cpu_threads(1):
    import faiss, scipy.linalg, sklearn.cluster
    inside = [library["num_threads"] for library in threadpool_info()]
after = [library["num_threads"] for library in threadpool_info() if "torch" in library["filepath"]]
print(json.dumps([inside, after, threads == {name for name in os.environ if name.endswith("_NUM_THREADS")}]))
"""


@pytest.mark.skipif(os.cpu_count() == 1, reason="all take one thread by themselves")
def test_libraries_that_are_loaded_in_the_block_take_as_many_threads_too():
    # Tests run with one thread each, which libraries would take from the environment.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    said = subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment, text=True)
    inside, after, is_set_back = json.loads(said)
    assert len(inside) >= 4
    assert set(inside) == {1}
    assert 1 not in after
    assert is_set_back


def test_no_more_threads_than_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(device, "cores", lambda: 2)
        with device.cpu_threads(None):
            assert torch.get_num_threads() == 2
        monkeypatch.setattr(device, "cores", lambda: 1)
        with device.cpu_threads(None):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
