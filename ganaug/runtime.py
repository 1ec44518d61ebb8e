"""ONNX Runtime sessions for graphs that somebody else may have written, on CPU or GPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.cores import few_cores
from ganaug.errors import DeviceError, MissingExtraError, ModelError

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"

# The key `location` of a tensor that lies in another file, as protobuf writes it.
_EXTERNAL_DATA = b"\x0a\x08location\x12"
_NO_SUCH_FOLDER = Path(__file__).parent / "no-external-data"
_FATAL_ONLY = 4


def open_session(
    content: bytes,
    *,
    name: str,
    device: str = "auto",
    threads: int = 1,
    gpu: int = 0,
    tensorrt: bool = False,
    cuda_graph: bool = False,
) -> Any:
    """Open a graph that stands alone.

    Args:
        content: The ONNX file.
        name: What errors call it.
        device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
        threads: Threads of one call; 0 means one per core.
        gpu: Number of the GPU.
        tensorrt: Run what it can through TensorRT; only with a GPU.
        cuda_graph: Record the first call and replay it: only with a GPU, and only for calls
            whose inputs and outputs stay where they were (`BoundCall`).

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ModelError: It is no ONNX graph, reads other files, or uses operators that ONNX
            Runtime does not have.
        DeviceError: `cuda` or TensorRT was asked for and is not there.
    """
    import onnxruntime

    if _EXTERNAL_DATA in content:
        raise ModelError(f"{name} keeps weights in another file; ganaug reads only graphs that stand alone")
    wants_cuda = device == "cuda" or (device == "auto" and has_cuda())
    if device == "cuda" and not has_cuda():
        raise DeviceError(
            "device 'cuda' was asked for, and there is no CUDA driver here or ONNX Runtime is a CPU build; "
            "use --device auto or cpu, or install the driver and onnxruntime-gpu"
        )
    if tensorrt and not (wants_cuda and TENSORRT in onnxruntime.get_available_providers()):
        raise DeviceError(
            "TensorRT was asked for, and there is no GPU here, or ONNX Runtime is built without it; leave --tensorrt away"
        )
    if wants_cuda:
        providers = _gpu_providers(onnxruntime, gpu, tensorrt=tensorrt, cuda_graph=cuda_graph)
        session = _create(onnxruntime, content, name, providers, threads)
        # A session that cannot have CUDA silently becomes a CPU one.
        if (TENSORRT if tensorrt else CUDA) in session.get_providers():
            return session
        if device == "cuda" or tensorrt:
            raise DeviceError(
                f"device 'cuda' was asked for, and ONNX Runtime {onnxruntime.__version__} cannot start it: "
                "its CUDA and cuDNN libraries are missing or of other versions. Install them, or use --device cpu."
            )
    return _create(onnxruntime, content, name, [CPU], threads)


@cache
def has_cuda() -> bool:
    """Whether a CUDA driver loads and ONNX Runtime is built for it.

    `get_available_providers()` alone also lists CUDA on machines without any GPU.
    """
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@cache
def gpu_count() -> int:
    """How many GPUs the CUDA driver shows; 0 where ONNX Runtime cannot use them."""
    if not has_cuda():
        return 0
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


class BoundCall:
    """Calls a session again and again with inputs of the same shapes, which stay on the device.

    Only the inputs' bytes go there and only the output's come back; nothing is allocated, so
    that a call can be recorded as a CUDA graph. For one thread at a time.

    Args:
        session: The session; its one output is uint8.
        feed: The first inputs, by name.
        output_shape: Shape of the output.
        device: `cuda` or `cpu`.
        gpu: Number of the GPU.
    """

    def __init__(
        self,
        session: Any,
        feed: Mapping[str, npt.NDArray[Any]],
        output_shape: tuple[int, ...],
        *,
        device: str = "cuda",
        gpu: int = 0,
    ) -> None:
        import onnxruntime

        values = onnxruntime.OrtValue
        self._session, self._binding = session, session.io_binding()
        self._inputs = {
            # A copy: on a CPU the value would be the caller's own array, and written into.
            name: values.ortvalue_from_numpy(np.array(array, order="C"), device, gpu)
            for name, array in feed.items()
        }
        self._output = values.ortvalue_from_shape_and_type(output_shape, np.uint8, device, gpu)
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._output)

    def __call__(self, feed: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
        """Run with these inputs; returns a copy of the output."""
        for name, array in feed.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding)
        return np.array(self._output.numpy(), np.uint8)


def run_into(
    session: Any,
    feed: Mapping[str, npt.NDArray[Any]],
    address: int,
    shape: tuple[int, ...],
    *,
    device: str,
    gpu: int = 0,
) -> None:
    """Run a session whose one output, uint8, goes to memory of the caller's.

    Args:
        session: The session.
        feed: Inputs, in this machine's memory, by name.
        address: Where the output has room.
        shape: Shape of the output.
        device: Where that memory is: `cuda` or `cpu`.
        gpu: Number of the GPU.
    """
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    binding.bind_output(session.get_outputs()[0].name, device, gpu, np.uint8, shape, address)
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def half_precision(content: bytes, name: str) -> bytes:
    """A graph with float16 arithmetic inside; what goes in and comes out stays as it is.

    Raises:
        MissingExtraError: `onnx` is not installed.
        ModelError: The graph cannot be converted.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtraError("fp16", "train") from error
    try:
        model = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    except Exception as error:
        # The converter raises whatever it stumbles over.
        raise ModelError(f"{name} cannot be converted to fp16 ({error}); use --precision fp32") from error
    converted: bytes = model.SerializeToString()
    return converted


def check_ports(
    name: str,
    what: str,
    ports: Sequence[Any],
    wanted: Mapping[str, tuple[str, tuple[int, ...]]],
) -> None:
    """Compare a session's inputs or outputs with what they must be.

    Args:
        name: What the error calls the graph.
        what: `inputs` or `outputs`.
        ports: What `session.get_inputs()` or `get_outputs()` gives.
        wanted: Type and shape after the batch axis, by name.

    Raises:
        ModelError: Names, types or shapes differ, or the batch axis is fixed.
    """
    found = {port.name: (port.type, tuple(port.shape[1:])) for port in ports}
    fixed = [port.name for port in ports if not port.shape or isinstance(port.shape[0], int)]
    if found != dict(wanted) or fixed:
        raise ModelError(
            f"{name} is not a graph of this kind: its {what} are {_say(found)}"
            f"{f', with a fixed batch size in {fixed}' if fixed else ''}; wanted are {_say(wanted)}, "
            "each for any batch size. Export it with ganaug."
        )


@cache
def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its classes share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (
        value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)
    )
    return (*own, RuntimeError, ValueError)


def _gpu_providers(onnxruntime: Any, gpu: int, *, tensorrt: bool, cuda_graph: bool) -> list[Any]:
    # Finds CUDA and cuDNN in the packages that torch brings.
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    # No trial of algorithms and no TF32: an image is the same on every run, and within a
    # grey level of the CPU's.
    cuda = {"device_id": str(gpu), "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    if cuda_graph:
        cuda["enable_cuda_graph"] = "1"
    return [*([(TENSORRT, {"device_id": str(gpu)})] if tensorrt else []), (CUDA, cuda), CPU]


def _create(onnxruntime: Any, content: bytes, name: str, providers: list[Any], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # By itself it counts the machine's cores, of which a container may have few.
    options.intra_op_num_threads = threads or few_cores()
    options.inter_op_num_threads = 1
    # Spinning threads take the cores from the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The wall behind the search above: other files are looked for where there are none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(_NO_SUCH_FOLDER)
    )
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except runtime_errors() as error:
        raise ModelError(f"{name} is not a graph that ONNX Runtime can run: {error}") from error


def _say(ports: Mapping[str, tuple[str, tuple[Any, ...]]]) -> str:
    return ", ".join(
        f"{name} {kind.removeprefix('tensor(').removesuffix(')')} ({', '.join(['N', *map(str, shape)])})"
        for name, (kind, shape) in ports.items()
    )
