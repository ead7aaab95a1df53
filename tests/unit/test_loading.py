"""Loading a model keeps its weights in memory once, and its file is read again only when that is needed."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ml_program_makers import make_spec
from network_runner import make_builder, numbers

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.files import SpecSource, read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime import heap
from pytest_quantguard.runtime.model import load_model
from pytest_quantguard.runtime.portable.constants_file import LARGE, ConstantsFile
from pytest_quantguard.runtime.portable.engine import PortableEngine
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program import translator as programs
from pytest_quantguard.runtime.portable.neural_network import translator as networks

SIZE = 160


def network_spec(seed=0):
    """A rank 5 network of one dense layer, whose weights are large."""
    builder = make_builder({"x": (SIZE,)})
    with quiet():
        builder.add_inner_product("dense", numbers(SIZE, SIZE, seed=seed), None, SIZE, SIZE, False, "x", "y")
    return builder.spec


def write_network(path, seed=0):
    path.write_bytes(network_spec(seed).SerializeToString(deterministic=True))
    return path


def test_the_coremltools_model_of_a_file_is_made_when_it_is_asked_for(tmp_path, monkeypatch):
    path, made = write_network(tmp_path / "net.mlmodel"), []
    original = import_coremltools().models.MLModel
    monkeypatch.setattr(
        import_coremltools().models,
        "MLModel",
        lambda *args, **options: made.append(1) or original(*args, **options),
    )
    model = load_model(path, engine="portable")
    model.predict({"x": numbers(SIZE)})
    assert made == []
    assert model.mlmodel is model.mlmodel
    assert made == [1]
    assert model.mlmodel.get_spec() == read_model_file(path).spec


def test_a_model_that_is_given_is_the_one_behind_it():
    with quiet():
        mlmodel = import_coremltools().models.MLModel(network_spec(), skip_model_load=True)
    assert load_model(mlmodel, engine="portable").mlmodel is mlmodel


def test_a_file_that_changed_since_it_was_loaded_is_refused(tmp_path):
    path = write_network(tmp_path / "net.mlmodel")
    model = load_model(path, engine="portable")
    write_network(path, seed=1)
    with pytest.raises(ModelFileError, match=r"net\.mlmodel has changed since it was loaded; load it again\."):
        model.save(tmp_path / "copy.mlmodel")


def test_a_file_that_is_gone_is_refused_when_it_is_needed(tmp_path):
    path = write_network(tmp_path / "net.mlmodel")
    model = load_model(path, engine="portable")
    path.unlink()
    assert model.predict({"x": numbers(SIZE)})["y"].size == SIZE
    with pytest.raises(ModelFileError, match="There is no model at"):
        _ = model.mlmodel


def test_a_shape_that_comes_later_is_translated_from_the_file(tmp_path):
    x = numbers(2, 1, SIZE, 1, 1)
    path = write_network(tmp_path / "net.mlmodel")
    model = load_model(path, engine="portable")
    expected = PortableEngine(network_spec(), None, name="net").predict({"x": x})["y"]
    np.testing.assert_array_equal(model.predict({"x": x})["y"], expected)
    write_network(path, seed=1)
    with pytest.raises(ModelFileError, match="has changed since it was loaded"):
        model.predict({"x": numbers(3, 1, SIZE, 1, 1)})


def test_a_source_gives_its_message_away(tmp_path):
    source = SpecSource(read_model_file(write_network(tmp_path / "net.mlmodel")), None)
    first, second = source.take(), source.take()
    assert first == second
    assert first is not second
    assert source._spec is None


def test_the_engine_of_a_file_keeps_no_message(tmp_path):
    source = load_model(write_network(tmp_path / "net.mlmodel"), engine="portable").engine._spec
    assert isinstance(source, SpecSource)
    assert source._spec is None


def optimized(model, folder, name):
    """The operators that onnxruntime runs for a graph, given as bytes or in a file."""
    import onnxruntime
    from onnx import load

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / name)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = load(folder / name, load_external_data=False).graph
    return session, sorted(node.op_type for node in graph.node)


def image_network():
    builder = make_builder({"x": (16, 8, 8)})
    gamma, beta, mean, variance = np.abs(numbers(4, 64, seed=3)) + 0.5
    with quiet():
        kernel = numbers(3, 3, 16, 64)
        builder.add_convolution(
            "conv", 16, 64, 3, 3, 1, 1, "same", 1, kernel, None, False, input_name="x", output_name="a"
        )
        builder.add_batchnorm("norm", 64, gamma, beta, mean, variance, "a", "b")
        builder.add_activation("relu", "RELU", "b", "c")
        builder.add_inner_product("dense", numbers(8, 64 * 64), None, 64 * 64, 8, False, "c", "y")
    return builder.spec


def test_a_network_with_its_constants_in_a_file_runs_the_same_operators(tmp_path):
    spec, x = image_network(), numbers(16, 8, 8)
    inline, operators = optimized(networks.translate(spec, name="net").onnx_model, tmp_path, "inline.onnx")
    with ConstantsFile() as file:
        path = file.save(networks.translate(spec, name="net", file=file).onnx_model)
        assert path.stat().st_size < LARGE
        session, found = optimized(path, tmp_path, "file.onnx")
    assert found == operators
    assert "BatchNormalization" not in found
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], inline.run(None, {"x": x})[0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_program_with_its_constants_in_a_file_runs_the_same_operators(dtype, tmp_path):
    from coremltools.converters.mil import Builder

    weight, bias = numbers(SIZE, SIZE).astype(dtype), numbers(SIZE, seed=1).astype(dtype)
    inputs = {"x": numbers(2, 3, SIZE).astype(dtype)}
    spec = make_spec(lambda x: Builder.linear(x=x, weight=weight, bias=bias), inputs, tmp_path)
    x = inputs["x"].astype(np.float32)
    inline, operators = optimized(programs.translate(spec, tmp_path).onnx_model, tmp_path, "inline.onnx")
    with ConstantsFile() as file:
        path = file.save(programs.translate(spec, tmp_path, file=file).onnx_model)
        assert path.stat().st_size < LARGE
        session, found = optimized(path, tmp_path, "file.onnx")
    assert found == operators
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], inline.run(None, {"x": x})[0])


def test_no_file_is_left_after_loading(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = PortableEngine(network_spec(), None, name="net")
    engine.predict({"x": numbers(2, 1, SIZE, 1, 1)})
    assert list(tmp_path.iterdir()) == []


def test_constants_lie_at_whole_pages_and_small_ones_stay_in_the_graph():
    from onnx import load_from_string

    with ConstantsFile() as file:
        graph = GraphBuilder(file=file)
        for count in (LARGE // 4 - 1, LARGE // 4, LARGE // 4 + 1, LARGE // 4):
            graph.constant(np.arange(count, dtype=np.float32))
        tensors = load_from_string(graph.build()).graph.initializer
        places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
        folder = file.save(graph.build()).parent
        data = (folder / places[1]["location"]).read_bytes()
    assert places[0] == {}
    assert [int(place["offset"]) for place in places[1:]] == [0, LARGE, 2 * LARGE + 4096]
    start = int(places[2]["offset"])
    stored = np.frombuffer(data[start : start + int(places[2]["length"])], np.float32)
    np.testing.assert_array_equal(stored, np.arange(LARGE // 4 + 1))
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_named():
    with ConstantsFile() as file:
        file._stream.close()
        with Path("/dev/full").open("wb", buffering=0) as file._stream, pytest.raises(ModelFileError) as caught:
            file.add(np.zeros(LARGE, np.float32))
    assert "cannot be written to the temporary folder" in str(caught.value)
    assert str(caught.value).endswith("make room there, or set TMPDIR to another folder.")


@pytest.fixture
def options(monkeypatch):
    """What is told to the memory allocator."""
    told = []
    monkeypatch.setattr(heap, "_mallopt", lambda: lambda option, value: told.append((option, value)))
    return told


def test_memory_is_returned_only_while_someone_wants_it(options):
    with heap.returning_memory():
        with heap.returning_memory():
            pass
        assert options == [(-3, 1 << 17), (-1, 1 << 17)]
    assert options[2:] == [(-3, 1 << 25), (-1, 1 << 26)]


def test_memory_is_no_longer_returned_after_an_error(options):
    with pytest.raises(ZeroDivisionError), heap.returning_memory():
        _ = 1 / 0
    assert options[-1] == (-1, 1 << 26)


@pytest.mark.parametrize(
    "variable", [("MALLOC_MMAP_THRESHOLD_", "1000000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1000000")]
)
def test_limits_in_the_environment_stay(variable, monkeypatch):
    monkeypatch.setenv(*variable)
    assert heap._mallopt.__wrapped__()(0, 0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_glibc_knows_the_options(monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert heap._mallopt.__wrapped__()(-3, 1 << 25) in (1, None)
