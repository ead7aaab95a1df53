import numpy as np
import pytest
from model_makers import LABELS, SIZE, small_network, small_program
from network_runner import make_builder
from PIL import Image

from pytest_quantguard import (
    ModelFileError,
    QuantguardError,
    SchemeError,
    UnsupportedModelError,
    load_model,
    quantize,
)
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet


@pytest.fixture(params=["network.mlmodel", "program.mlpackage"])
def path(request, tmp_path):
    made = small_network() if request.param.endswith(".mlmodel") else small_program()
    made.save(str(tmp_path / request.param))
    return tmp_path / request.param


def contents(path):
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_loading_quantizing_and_predicting_leave_the_file_alone(path):
    before = contents(path)
    small = quantize(load_model(path), bits=8, mode="linear")
    small.predict({"image": Image.new("RGB", (SIZE, SIZE))})
    assert contents(path) == before


def test_a_model_may_be_read_again_from_another_working_directory(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    model = load_model(path.name, engine="portable")
    monkeypatch.chdir("/")
    assert model.mlmodel.get_spec() == read_model_file(path).spec


def test_other_shapes_may_be_asked_for_from_another_working_directory(tmp_path, monkeypatch):
    builder = make_builder({"x": (2,)})
    builder.add_copy("copy", "x", "y")
    ranges = builder.spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
    ranges.add(lowerBound=1, upperBound=9)
    (tmp_path / "net.mlmodel").write_bytes(builder.spec.SerializeToString())
    monkeypatch.chdir(tmp_path)
    model = load_model("net.mlmodel", engine="portable")
    monkeypatch.chdir("/")
    assert model.predict({"x": [1, 2, 3]})["y"].ravel().tolist() == [1, 2, 3]


def test_a_saved_model_is_the_same_model(path, tmp_path):
    model = load_model(path)
    copy = load_model(model.save(tmp_path / f"copy{path.suffix}"))
    # The digest may differ: coremltools writes maps in an order that changes, we write them sorted.
    assert (copy.size_bytes, copy.labels) == (model.size_bytes, LABELS)
    assert load_model(copy.save(tmp_path / f"second{path.suffix}")).digest == copy.digest
    image = {"image": Image.fromarray(np.full((SIZE, SIZE, 3), 99, np.uint8))}
    assert np.array_equal(copy.outputs(image).scores, model.outputs(image).scores)


def test_quantized_models_keep_name_labels_and_say_what_they_are(path):
    model = quantize(path, bits=8, mode="kmeans_lut", engine="portable")
    assert model.name == path.name
    assert model.labels == LABELS
    assert str(model.scheme) == "kmeans_lut:8"
    assert model.compression.compressed > 0
    assert repr(model) == f"<QuantizedModel {path.name}, {model.size_bytes} bytes, engine portable>"


def test_a_coremltools_model_is_taken_as_it_is():
    mlmodel = small_network()
    assert load_model(mlmodel).mlmodel is mlmodel
    assert load_model(load_model(mlmodel)).mlmodel is mlmodel


def test_a_quantized_model_is_not_quantized_again(path):
    small = quantize(path, bits=8, mode="linear")
    with pytest.raises(SchemeError, match=r"is quantized already \(linear:8\)"):
        quantize(small, bits=4, mode="linear_lut")


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelFileError, match="is no model; give a path, a coremltools MLModel or a Model"):
        load_model(3)


def test_an_engine_that_does_not_exist_is_refused(path):
    with pytest.raises(
        UnsupportedModelError, match="engine='tpu' does not exist; use one of auto, coreml, portable"
    ):
        load_model(path, engine="tpu")


def test_every_error_is_a_quantguard_error(path):
    for arguments in ({"bits": 9}, {"mode": "kmean"}, {"bits": 3, "mode": "linear_symmetric"}):
        with pytest.raises(QuantguardError):
            quantize(path, **arguments)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools leaves folders behind
def test_a_program_without_weights_runs(tmp_path):
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec(shape=(3,))])
    def program(x):
        return mb.add(x=x, y=np.float32(1), name="y")

    with quiet():
        ct.convert(program, convert_to="mlprogram", skip_model_load=True).save(str(tmp_path / "add.mlpackage"))
    answer = load_model(tmp_path / "add.mlpackage").predict({"x": np.zeros(3, np.float32)})
    assert answer["y"].tolist() == [1, 1, 1]
