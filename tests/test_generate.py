import pickle
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ganaug.errors import DeviceError, ModelError, SettingsError, UnknownClassError
from ganaug.generate import MAX_PIXELS_PER_CALL, Generator
from ganaug.runtime import has_cuda


@pytest.fixture(params=["tiny_model", "tiny_pair_model"])
def generator(request):
    """Both kinds of generator keep the same promises."""
    return Generator.open(request.getfixturevalue(request.param))


def test_a_sample_is_uint8_in_the_shape_of_the_card(generator):
    images = generator.sample("cat", 5)
    assert (images.shape, images.dtype) == ((5, 8, 8, 1), np.uint8)
    assert generator.class_names == ("cat", "dog", "emu")
    assert images.std(axis=0).min() > 0


def test_an_image_is_the_same_however_many_are_asked_for_and_from_where(generator):
    whole = generator.sample("dog", 200, seed=3)
    for start, count in ((0, 1), (5, 64), (63, 2), (199, 1), (40, 100)):
        np.testing.assert_array_equal(
            generator.sample("dog", count, seed=3, start=start), whole[start : start + count]
        )


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_an_image_differs_by_at_most_one_level_between_batch_sizes(generator, batch):
    other = Generator(generator.folder, generator.card, batch=batch)
    difference = other.sample("dog", 100).astype(int) - generator.sample("dog", 100)
    assert np.abs(difference).max() <= 1


def test_seed_class_and_index_each_change_the_image(generator):
    image = generator.sample("cat", 1)
    for other in (
        generator.sample("cat", 1, seed=1),
        generator.sample("cat", 1, start=1),
        generator.sample("dog", 1),
    ):
        assert not np.array_equal(image, other)


def test_images_at_any_addresses_are_those_that_sample_makes_there(generator):
    names, where = ["dog", "cat", "dog", "emu", "dog"], [199, 3, 0, 70, 199]
    images = generator.sample_at(names, where, seed=3)
    for image, name, index in zip(images, names, where, strict=True):
        np.testing.assert_array_equal(image, generator.sample(name, 1, seed=3, start=index)[0])
    np.testing.assert_array_equal(generator.sample_at("emu", [4]), generator.sample("emu", 1, start=4))
    assert generator.sample_at("emu", []).shape == (0, 8, 8, 1)


def test_many_addresses_take_several_calls_and_stay_in_order(tiny_model):
    generator = Generator.open(tiny_model, batch=7)
    where = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(generator.sample_at("cat", where), generator.sample("cat", 50)[where])


def test_only_the_graph_that_is_needed_is_opened(tmp_path, write_model):
    base = write_model(tmp_path / "two", file="base.onnx")
    own = write_model(tmp_path / "two", file="own.onnx", class_ids=(2,), seed=1)
    own.model_copy(update={"graphs": (*base.graphs, *own.graphs)}).save(tmp_path / "two")
    (tmp_path / "two" / "base.onnx").unlink()
    generator = Generator.open(tmp_path / "two")
    assert not generator.is_on_gpu("emu") or has_cuda()
    np.testing.assert_array_equal(generator.sample_at("emu", [1]), generator.sample("emu", 1, start=1))
    with pytest.raises(ModelError, match=r"base\.onnx"):
        generator.sample_at("cat", [1])


def test_images_of_several_graphs_are_put_together(tmp_path, write_model):
    base = write_model(tmp_path / "two", file="base.onnx")
    own = write_model(tmp_path / "two", file="own.onnx", class_ids=(2,), seed=1)
    own.model_copy(update={"graphs": (*base.graphs, *own.graphs)}).save(tmp_path / "two")
    generator = Generator.open(tmp_path / "two")
    images = generator.sample_at(["emu", "cat", "emu"], [1, 1, 2])
    np.testing.assert_array_equal(images[[0, 2]], generator.sample("emu", 2, start=1))
    np.testing.assert_array_equal(images[1], generator.sample("cat", 1, start=1)[0])
    memory = np.zeros((3, 8, 8, 1), np.uint8)
    position = generator.sample_into(memory.ctypes.data, ["emu", "cat", "emu"], [1, 1, 2])
    np.testing.assert_array_equal(memory[position], images)


def test_images_are_written_into_memory_of_the_callers_and_nowhere_else(generator):
    memory = np.full((6, 8, 8, 1), 77, np.uint8)
    position = generator.sample_into(memory[1:].ctypes.data, ["dog", "cat", "dog", "emu"], [5, 5, 6, 0])
    np.testing.assert_array_equal(
        memory[1:5][position], generator.sample_at(["dog", "cat", "dog", "emu"], [5, 5, 6, 0])
    )
    assert (memory[[0, 5]] == 77).all()


@pytest.mark.parametrize(("names", "where"), [(["cat"], [1, 2]), ("cat", [-1]), ("cat", [2**62])], ids=str)
def test_addresses_that_cannot_be_are_refused(generator, names, where):
    with pytest.raises(SettingsError):
        generator.sample_at(names, where)


def test_several_classes_come_one_after_the_other(generator):
    images = generator.sample(["emu", "cat"], [3, 2], seed=1)
    np.testing.assert_array_equal(images[:3], generator.sample("emu", 3, seed=1))
    np.testing.assert_array_equal(images[3:], generator.sample("cat", 2, seed=1))
    again = generator.sample(["cat", "dog", "cat"], 2)
    np.testing.assert_array_equal(again[[0, 1, 4, 5]], generator.sample("cat", 4))


def test_truncation_brings_images_nearer_to_each_other(tiny_model):
    generator = Generator.open(tiny_model)
    full, half = generator.sample("cat", 200), generator.sample("cat", 200, truncation=0.5)
    assert half.std(axis=0).mean() < 0.6 * full.std(axis=0).mean()


def test_nothing_asked_for_is_nothing_made(generator):
    assert generator.sample("cat", 0).shape == (0, 8, 8, 1)
    assert generator.sample([], 4).shape == (0, 8, 8, 1)


def test_an_unknown_class_is_refused_with_the_known_ones(generator):
    with pytest.raises(UnknownClassError, match=r"cannot generate \['yak'\].*cat.*dog.*emu"):
        generator.sample(["cat", "yak"])


@pytest.mark.parametrize(
    "arguments",
    [{"count": -1}, {"count": [1, 2]}, {"seed": -1}, {"start": -1}, {"truncation": 0.0}, {"truncation": 1.5}],
    ids=str,
)
def test_impossible_requests_are_refused(generator, arguments):
    with pytest.raises(SettingsError):
        generator.sample("cat", **arguments)


def test_large_images_go_through_in_smaller_batches(tmp_path, write_model):
    write_model(tmp_path, image_shape=(256, 256, 1))
    assert Generator.open(tmp_path).batch_size(256) == MAX_PIXELS_PER_CALL // 256**2


def test_a_generator_pickles_before_and_after_its_first_use(generator):
    before = pickle.dumps(generator)
    images = generator.sample("cat", 3)
    for dumped in (before, pickle.dumps(generator)):
        np.testing.assert_array_equal(pickle.loads(dumped).sample("cat", 3), images)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_child_makes_the_same_images_and_does_not_hang(tmp_path, write_model):
    # Large enough for the runtime to share it out among its threads.
    write_model(tmp_path, image_shape=(64, 64, 3), z_dim=64)
    script = (
        "import multiprocessing, sys, numpy as np\n"
        "from ganaug.generate import Generator\n"
        "generator = Generator.open(sys.argv[1], threads=2)\n"
        "images = generator.sample('cat', 100)\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    child = pool.apply_async(generator.sample, ('cat', 100)).get(30)\n"
        "assert np.array_equal(images, child)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=60)


def test_cuda_that_is_not_there_is_refused_and_auto_goes_on_without(tiny_model):
    assert len(Generator.open(tiny_model, device="auto").sample("cat", 1)) == 1
    if has_cuda():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="--device auto or cpu"):
        Generator.open(tiny_model, device="cuda").sample("cat", 1)


def test_a_device_that_does_not_exist_is_refused(tiny_model):
    with pytest.raises(SettingsError, match="tpu"):
        Generator.open(tiny_model, device="tpu")


def test_a_graph_that_was_swapped_is_never_run(tmp_path, write_model):
    write_model(tmp_path / "a")
    write_model(tmp_path / "b", seed=1)
    (tmp_path / "a" / "generator.onnx").write_bytes((tmp_path / "b" / "generator.onnx").read_bytes())
    with pytest.raises(ModelError, match="damaged or swapped"):
        Generator.open(tmp_path / "a").sample("cat", 1)


def rename(model, old, new):
    for port in (*model.graph.input, *model.graph.output):
        port.name = new if port.name == old else port.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return model


def fix_batch(model):
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 4
    return model


def float_image(model):
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    next(node for node in model.graph.node if node.op_type == "Cast").attribute[0].i = TensorProto.FLOAT
    return model


def external(model):
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].ClearField("raw_data")
    return model


def external_unseen(model):
    # The same with the entries the other way round, which the search for them does not see.
    tensor = external(model).graph.initializer[0]
    content = model.SerializeToString()
    entry = tensor.external_data[0].SerializeToString()
    turned = entry[len(b"\x0a\x08location") :] + b"\x0a\x08location"
    return content.replace(entry, turned)


def custom_operator(model):
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    model.graph.node[-1].domain = "elsewhere"
    return model


def without_metadata(model):
    del model.metadata_props[:]
    return model


def one_class_too_few(model):
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "starts")
    table.CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "starts"))
    return model


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: b"not an onnx file", "not a graph that ONNX Runtime can run"),
        (lambda model: model.SerializeToString()[:-200], "not a graph that ONNX Runtime can run"),
        (lambda model: rename(model, "z", "latent"), "its inputs are latent"),
        (lambda model: rename(model, "image", "picture"), "its outputs are picture"),
        (fix_batch, "fixed batch size"),
        (float_image, "its outputs are image float"),
        (external, "keeps weights in another file"),
        (external_unseen, "not a graph that ONNX Runtime can run"),
        (custom_operator, "not a graph that ONNX Runtime can run"),
        (without_metadata, "do not belong together"),
        (one_class_too_few, "failed on class 'emu'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_foreign_graph_is_refused_though_its_hash_is_right(
    tmp_path, write_model, spoil, message, monkeypatch
):
    write_model(tmp_path, change=spoil)
    # Where the runtime would look for the other file if it were let.
    monkeypatch.chdir(tmp_path)
    np.zeros((5, 64), np.float32).tofile(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match=message):
        Generator.open(tmp_path).sample("emu", 1)


def test_check_opens_every_graph_at_once(tmp_path, write_model):
    write_model(tmp_path, change=fix_batch)
    with pytest.raises(ModelError, match="fixed batch size"):
        Generator.open(tmp_path).check()
