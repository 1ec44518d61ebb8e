"""Several processes that train one GAN together: the same step, each on its part of the batch.

Every process draws the whole hand from the same random state and plays its own part of it;
gradients and metrics are then averaged over all. So a step is the same step for one process and
for eight, up to the order in which floats are added; weights, moments and random states are
equal everywhere, and the first process alone writes. What is decided by what one process
measured (seconds, examinations) is decided by the first's.

Not the same step, because they are no mean over images: batch normalisation, which sees the
statistics of a part; the noise of `dragan`; the softmax and min of several discriminators;
and the class loss of `sgan` where parts hold different numbers of labelled images.

How the processes are started is in launch.py, what each one does in together.py.
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganaug.errors import DeviceError

Value = TypeVar("Value")


def rank_and_size() -> tuple[int, int]:
    """Number of this process and how many there are; (0, 1) when it is alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def check_gpus(device: str, processes: int) -> None:
    """Refuse more processes on this machine than it has GPUs.

    Raises:
        DeviceError: `device` is `cuda` and there are fewer GPUs.
    """
    if device.startswith("cuda") and processes > torch.cuda.device_count():
        raise DeviceError(
            f"train.processes asks for {processes} processes with a GPU each, and torch finds "
            f"{torch.cuda.device_count()} here; set train.processes to that, or take --device cpu"
        )


def join(device: str) -> str:
    """Join the processes that torchrun started with this one.

    Returns:
        The device of this process: its own GPU, or the CPU.

    Raises:
        DeviceError: There are more processes than GPUs.
    """
    if not device.startswith("cuda"):
        dist.init_process_group("gloo")
        return device
    check_gpus(device, int(os.environ["LOCAL_WORLD_SIZE"]))
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(own)
    dist.init_process_group("nccl", device_id=torch.device(own))
    return own


def leave_group() -> None:
    """Part from the other processes, where there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if rank_and_size()[1] > 1:
        dist.barrier()


def average_gradients(module: nn.Module) -> None:
    """Make every process's gradients the mean over all."""
    if rank_and_size()[1] == 1:
        return
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    # One message for all: many small ones would cost more than the bytes.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    _average(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def average_buffers(module: nn.Module) -> None:
    """Make every process's batch statistics the mean over all."""
    if rank_and_size()[1] > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                _average(buffer)


def average_numbers(numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over all processes of each scalar."""
    if rank_and_size()[1] == 1 or not numbers:
        return numbers
    stacked = torch.stack([value.detach().float() for value in numbers.values()])
    _average(stacked)
    return dict(zip(numbers, stacked.unbind(), strict=True))


def as_the_first(value: Value) -> Value:
    """What the first process holds here, for all of them: clocks and GPUs differ a little.

    >>> as_the_first({"seconds": 3.0})
    {'seconds': 3.0}
    """
    if rank_and_size()[1] == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held)
    return held[0]


def _average(values: Tensor) -> None:
    dist.all_reduce(values)
    values /= dist.get_world_size()
