"""Sessions of ONNX Runtime: calls that stay bound, half precision, and what is asked for and not there."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ganaug import runtime
from ganaug.errors import DeviceError, ModelError, SettingsError
from ganaug.generate import Generator
from ganaug.latents import draw
from ganaug.runtime import BoundCall, gpu_count, half_precision, has_cuda, open_session
from ganaug.store import packaged_store, resolve

needs_no_gpu = pytest.mark.skipif(has_cuda(), reason="this machine has a GPU")


def feeds(count, batch=16, exemplars=0):
    """Inputs of so many calls, no two alike."""
    for number in range(count):
        z, exemplar = draw(number, 0, number * batch, batch, 5, max(1, exemplars))
        feed = {"z": z, "class_id": np.full(batch, number % 3, np.int64)}
        yield feed | ({"exemplar": exemplar} if exemplars else {})


@pytest.mark.parametrize(("model", "exemplars"), [("tiny_model", 0), ("tiny_pair_model", 2)])
def test_a_bound_call_gives_the_bits_of_a_plain_one(request, model, exemplars):
    content = (request.getfixturevalue(model) / "generator.onnx").read_bytes()
    session = open_session(content, name="tiny", device="cpu")
    bound = BoundCall(session, next(feeds(1, exemplars=exemplars)), (16, 8, 8, 1), device="cpu")
    made = []
    for feed in feeds(5, exemplars=exemplars):
        images = bound(feed)
        assert (images.shape, images.dtype) == ((16, 8, 8, 1), np.uint8)
        made.append((images, session.run(None, feed)[0]))
    # Compared at the end: what a call returned is the caller's, and a later one does not change it.
    for images, plain in made:
        np.testing.assert_array_equal(images, plain)


def test_a_bound_call_leaves_the_inputs_that_it_was_given_alone(tiny_model):
    session = open_session((tiny_model / "generator.onnx").read_bytes(), name="tiny", device="cpu")
    first, second = feeds(2)
    held = {name: array.copy() for name, array in first.items()}
    BoundCall(session, first, (16, 8, 8, 1), device="cpu")(second)
    for name, array in held.items():
        np.testing.assert_array_equal(first[name], array)


def test_inputs_of_a_bound_call_need_not_be_contiguous(tiny_model):
    session = open_session((tiny_model / "generator.onnx").read_bytes(), name="tiny", device="cpu")
    feed = next(feeds(1))
    bound = BoundCall(session, feed, (16, 8, 8, 1), device="cpu")
    strided = {"z": np.asfortranarray(feed["z"]), "class_id": np.repeat(feed["class_id"], 2)[::2]}
    np.testing.assert_array_equal(bound(strided), session.run(None, feed)[0])


def test_half_precision_computes_in_float16_and_leaves_the_ports_as_they_are(tiny_model):
    content = (tiny_model / "generator.onnx").read_bytes()
    half = onnx.load_from_string(half_precision(content, "tiny"))
    whole = onnx.load_from_string(content)
    assert half.graph.input == whole.graph.input
    assert half.graph.output == whole.graph.output
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["weights"] == onnx.TensorProto.FLOAT16
    assert len(half.SerializeToString()) < len(content)


def test_images_of_the_shipped_model_are_within_a_level_in_half_precision():
    folder = resolve("exported/digits@1", packaged_store())
    full = Generator.open(folder, device="cpu")
    half = Generator.open(folder, device="cpu", precision="fp16")
    half.check()
    for class_name in full.class_names:
        levels = np.abs(half.sample(class_name, 64, seed=3).astype(int) - full.sample(class_name, 64, seed=3))
        assert levels.max() <= 1


def far_from_zero(model):
    """The same images by way of large numbers, of which float16 has but every sixteenth."""
    [levels] = [tensor for tensor in model.graph.initializer if tensor.name == "levels"]
    levels.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(levels) + np.float32(16384), "levels"))
    [grey] = [node for node in model.graph.node if node.output[0] == "grey"]
    grey.output[0] = "far"
    at = list(model.graph.node).index(grey) + 1
    model.graph.node.insert(at, helper.make_node("Sub", ["far", "distance"], ["grey"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(16384, np.float32), "distance"))
    return model


def test_a_graph_that_half_precision_would_change_is_refused(tmp_path, write_model):
    write_model(tmp_path / "far", change=far_from_zero)
    Generator.open(tmp_path / "far", device="cpu").check()
    with pytest.raises(ModelError, match=r"in fp16 .* differ by up to \d+ grey levels.*use --precision fp32"):
        Generator.open(tmp_path / "far", device="cpu", precision="fp16").check()


def test_what_cannot_be_converted_is_refused_with_the_way_out():
    with pytest.raises(ModelError, match=r"tiny cannot be converted to fp16 .*use --precision fp32"):
        half_precision(b"no graph", "tiny")


@needs_no_gpu
def test_a_gpu_that_is_not_there_is_named_with_the_way_out(tiny_model):
    assert gpu_count() == 0
    content = (tiny_model / "generator.onnx").read_bytes()
    with pytest.raises(DeviceError, match=r"no CUDA driver here .*use --device auto or cpu"):
        open_session(content, name="tiny", device="cuda")
    for device in ("auto", "cpu"):
        with pytest.raises(
            DeviceError, match=r"TensorRT was asked for, and there is no GPU.*leave --tensorrt away"
        ):
            open_session(content, name="tiny", device=device, tensorrt=True)
    assert open_session(content, name="tiny", device="auto").get_providers() == [runtime.CPU]


def test_tensorrt_on_a_cpu_is_refused_even_where_a_gpu_is(tiny_model, monkeypatch):
    monkeypatch.setattr(runtime, "has_cuda", lambda: True)
    with pytest.raises(DeviceError, match="TensorRT was asked for"):
        open_session((tiny_model / "generator.onnx").read_bytes(), name="tiny", device="cpu", tensorrt=True)


def test_a_driver_that_does_not_start_shows_no_gpu(monkeypatch):
    class Driver:
        def __init__(self, name):
            pass

        def cuInit(self, flags):  # noqa: N802 - the driver's name
            return 100

    monkeypatch.setattr(runtime, "has_cuda", lambda: True)
    monkeypatch.setattr(runtime.ctypes, "CDLL", Driver)
    assert gpu_count.__wrapped__() == 0


@pytest.mark.parametrize("settings", [{"device": "tpu"}, {"threads": -1}, {"batch": 0}], ids=str)
def test_a_generator_refuses_what_it_cannot_use(tiny_model, settings):
    with pytest.raises(SettingsError, match="device is auto, cpu or cuda"):
        Generator.open(tiny_model, **settings)
