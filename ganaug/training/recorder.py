"""Recorded steps: on a GPU the kernels of a step are written down once, as a CUDA graph, and replayed.

The networks here are small, so that telling a GPU each kernel of a step takes several times longer than
running it. A step that is to be recorded takes tensors, changes others in place, and asks no value of
the device; what it draws at random it is given.

Source:
    PyTorch's notes on CUDA graphs (whole-network capture), docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Step = Callable[[Tensors], Tensors]

PLAIN = 3
"""Plays before a step is recorded: optimisers and libraries get their memory in the first ones."""
SWITCH = "GANAUG_CUDA_GRAPHS"
"""Environment variable; `0` has every step played plainly."""

log = logging.getLogger("ganaug.training")


@dataclass(frozen=True)
class _Recording:
    """One step as the device knows it: where it reads, where it leaves what it returns."""

    graph: Any
    inputs: Tensors
    outputs: Tensors

    def replay(self, inputs: Mapping[str, Tensor]) -> Tensors:
        for name, place in self.inputs.items():
            place.copy_(inputs[name], non_blocking=True)
        self.graph.replay()
        # The next replay writes over them.
        return {name: value.clone() for name, value in self.outputs.items()}


class Recorder:
    """Plays steps, from recordings where the device has them.

    Args:
        device: Where the tensors are; on a CPU every step is played plainly.

    Attributes:
        is_on: Whether anything is recorded.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.is_on = torch.device(device).type == "cuda" and os.environ.get(SWITCH, "1") != "0"
        self._beside = torch.cuda.Stream(device) if self.is_on else None  # type: ignore[no-untyped-call]
        self.forget()

    def forget(self) -> None:
        """Drop all recordings: what they read or change lies elsewhere now, or a number in them has changed."""
        self._recordings: dict[Hashable, _Recording] = {}
        self._plays: Counter[Hashable] = Counter()
        # Recordings share their memory: only one is played at a time. A pool that was given back is not used again.
        self._pool = torch.cuda.graph_pool_handle() if self.is_on else None

    def play(self, kind: Hashable, step: Step, inputs: Tensors) -> Tensors:
        """Play a step.

        Args:
            kind: Steps of a kind launch the same kernels, with tensors of the same names and shapes.
            step: Takes the inputs; nothing but its inputs, and what lies where it lay, may differ between
                plays of a kind.
            inputs: On the device.

        Returns:
            What the step returns.
        """
        if not self.is_on:
            return step(inputs)
        kind = (kind, tuple((name, tuple(value.shape)) for name, value in inputs.items()))
        if kind not in self._recordings:
            if self._plays[kind] < PLAIN:
                self._plays[kind] += 1
                return self._play_beside(step, inputs)
            if not self._record(kind, step, inputs):
                return step(inputs)
        return self._recordings[kind].replay(inputs)

    def _play_beside(self, step: Step, inputs: Tensors) -> Tensors:
        # Gradients of a parameter are summed up on the stream that first asked for them, which must not be the usual one.
        assert self._beside is not None
        usual = torch.cuda.current_stream()
        self._beside.wait_stream(usual)
        with torch.cuda.stream(self._beside):
            outputs = step(inputs)
        usual.wait_stream(self._beside)
        return outputs

    def _record(self, kind: Hashable, step: Step, inputs: Tensors) -> bool:
        """Record a step, which does not play it; False where that fails, and then nothing is recorded any more."""
        places = {name: value.clone() for name, value in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._beside, capture_error_mode="thread_local"
            ):
                outputs = step(places)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("steps are played plainly: recording one as a CUDA graph failed (%s)", error)
            self.is_on = False
            self.forget()
            return False
        self._recordings[kind] = _Recording(graph, places, outputs)
        return True
