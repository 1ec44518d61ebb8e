"""Exports side by side in threads, as tasks of one process do them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import nn

from ganaug.training.onnx_file import to_onnx


def test_threads_may_export_at_the_same_time() -> None:
    def export(number: int) -> bytes:
        graph = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
        for weights in graph.parameters():
            nn.init.constant_(weights, number)
        return to_onnx(graph, {"z": np.zeros((4, 4), np.float32)}, ["out"], 20, {})

    with ThreadPoolExecutor(4) as pool:
        side_by_side = list(pool.map(export, range(4)))
    assert side_by_side == [export(number) for number in range(4)]
