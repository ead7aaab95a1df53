import importlib.metadata
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pytest
from ml_program_makers import make_spec
from model_makers import SIZE, small_network, small_program
from PIL import Image

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime import enable_predict, load_model
from pytest_quantguard.runtime.model import from_mlmodel

ct = import_coremltools()

needs_new = pytest.mark.skipif(
    int(importlib.metadata.version("coremltools").split(".")[0]) < 9,
    reason="coremltools 8 compiles nothing without Apple's framework, and has no durations and no states to read",
)
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="on macOS coremltools predicts by itself")


@pytest.fixture(scope="module")
def network_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "net.mlmodel"
    small_network().save(str(path))
    return path


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return {"image": Image.fromarray(values)}


def link():
    """Everything of coremltools that enabling replaces."""
    from coremltools.models import _compiled_model, model, utils
    from coremltools.models.neural_network import quantization_utils

    names = ("_MLModelProxy", "_is_macos", "_macos_version")
    modules = (model, _compiled_model, utils, quantization_utils)
    found = {(module.__name__, name): vars(module).get(name) for module in modules for name in names}
    return found | {"binary": sys.modules.get("coremltools.libcoremlpython")}


def unsupported_spec():
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    spec = NeuralNetworkBuilder([("x", datatypes.Array(2))], [("y", None)]).spec
    spec.customModel.className = "Mine"
    return spec


def test_importing_the_package_changes_nothing_in_coremltools():
    code = (
        "import pytest_quantguard.runtime.coremltools_predict, coremltools.models.model as model, sys;"
        "from pytest_quantguard.runtime import enable_predict, load_model;"
        "sys.exit(not (model._MLModelProxy is None and not model._is_macos() and model._macos_version() == ()))"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True).returncode == 0


def test_importing_the_runtime_imports_no_coremltools():
    code = (
        "import pytest_quantguard.runtime, sys; sys.exit('coremltools' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_loaded_model_predicts_what_our_own_model_predicts(network_path, image):
    with enable_predict():
        answer = ct.models.MLModel(str(network_path)).predict(dict(image))
    assert answer == load_model(network_path, engine="portable").predict(image)
    assert type(answer["label"]) is str
    assert {type(value) for value in answer["probabilities"].values()} == {float}


def test_a_batch_gets_the_answers_of_its_samples(network_path, image):
    other = {"image": Image.new("RGB", (SIZE, SIZE), (9, 99, 199))}
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        assert model.predict([dict(image), dict(other)]) == [
            model.predict(dict(image)),
            model.predict(dict(other)),
        ]


def test_a_model_made_in_memory_predicts(image):
    with enable_predict():
        program = small_program()
        model = ct.models.MLModel(program.get_spec(), weights_dir=program.weights_dir)
        answer = model.predict(dict(image))
    assert answer == from_mlmodel(program, name="program", engine="portable").predict(image)


def test_half_precision_outputs_are_float32_arrays(tmp_path):
    from coremltools.converters.mil.mil import Builder as mb

    x = np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3)
    spec = make_spec(lambda x: mb.relu(x=x, name="y"), {"x": x}, tmp_path)
    spec.description.output[0].type.multiArrayType.dataType = 65552
    with enable_predict():
        answer = ct.models.MLModel(spec, weights_dir=str(tmp_path)).predict({"x": x})
    assert answer["y"].dtype == np.float32
    np.testing.assert_array_equal(answer["y"], x)


def test_the_end_of_the_block_restores_coremltools_exactly(network_path, image):
    before = link()
    with enable_predict():
        assert link() != before
    assert link() == before
    model = ct.models.MLModel(str(network_path))
    with pytest.raises(Exception, match="macOS"):
        model.predict(dict(image))


def test_an_exception_restores_coremltools_as_well():
    before = link()
    with pytest.raises(ZeroDivisionError), enable_predict():
        raise ZeroDivisionError
    assert link() == before


def test_a_module_that_coremltools_imports_meanwhile_is_restored():
    code = """
import sys, pytest_quantguard.runtime as runtime
with runtime.enable_predict():
    import coremltools.models.neural_network.quantization_utils as utils
    assert utils._macos_version() >= (15, 0)
sys.exit(utils._macos_version() != ())
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True).returncode == 0


def test_nested_blocks_end_with_the_outermost():
    before = link()
    with enable_predict():
        within = link()
        with enable_predict():
            assert link() == within
        assert link() == within
    assert link() == before


def test_a_plain_call_stays_in_force_after_a_block():
    before = link()
    plain = enable_predict()
    with enable_predict():
        pass
    assert link() != before
    plain.__exit__()
    assert link() == before


def test_models_loaded_within_still_predict_after_the_end(network_path, image):
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        expected = model.predict(dict(image))
    assert model.predict(dict(image)) == expected


def test_the_innermost_block_decides_about_the_precision(tmp_path):
    from coremltools.converters.mil.mil import Builder as mb

    x = np.array([300.0], np.float16)
    spec = make_spec(lambda x: mb.sqrt(x=mb.mul(x=x, y=x), name="y"), {"x": x}, tmp_path)

    def answer():
        return float(ct.models.MLModel(spec, weights_dir=str(tmp_path)).predict({"x": x})["y"][0])

    with enable_predict():
        assert answer() == 300
        with enable_predict(precision="float16"):
            assert answer() == float("inf")
        assert answer() == 300


def test_another_precision_is_refused():
    before = link()
    with pytest.raises(UnsupportedModelError, match=r"^precision='bfloat16' does not exist; use one of float32, "):
        enable_predict(precision="bfloat16")
    assert link() == before


def test_on_macos_nothing_happens(monkeypatch):
    before = link()
    monkeypatch.setattr(sys, "platform", "darwin")
    with enable_predict():
        assert link() == before
    assert link() == before


def test_a_model_that_is_refused_loads_with_a_warning_and_says_why_when_it_shall_predict():
    spec = unsupported_spec()
    with enable_predict():
        with pytest.warns(RuntimeWarning, match="customModel"):
            model = ct.models.MLModel(spec)
        with pytest.raises(RuntimeError, match="customModel") as caught:
            model.predict({"x": np.zeros(2)})
    assert isinstance(caught.value, UnsupportedModelError)


def test_refused_inputs_are_runtime_errors_as_on_macos(network_path):
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        with pytest.raises(RuntimeError, match="resize it first") as caught:
            model.predict({"image": Image.new("RGB", (SIZE + 1, SIZE))})
    assert isinstance(caught.value, PredictionError)


@needs_new
def test_a_compiled_model_predicts(network_path, image, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with enable_predict():
        expected = ct.models.MLModel(str(network_path)).predict(dict(image))
        compiled = ct.models.utils.compile_model(str(network_path))
        assert compiled.startswith(str(tmp_path))
        assert ct.models.CompiledMLModel(compiled).predict(dict(image)) == expected


@needs_new
def test_a_compiled_package_predicts(tmp_path, image):
    path, compiled = str(tmp_path / "net.mlpackage"), str(tmp_path / "net.mlmodelc")
    small_program().save(path)
    with enable_predict():
        expected = ct.models.MLModel(path).predict(dict(image))
        assert ct.models.utils.compile_model(path, compiled) == compiled
        assert ct.models.CompiledMLModel(compiled).predict(dict(image)) == expected


@needs_new
def test_compiling_a_model_that_is_not_there_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with enable_predict(), pytest.raises(ModelFileError, match=r"no model at .*gone\.mlmodel") as caught:
        ct.models.utils.compile_model(str(tmp_path / "gone.mlmodel"))
    assert isinstance(caught.value, RuntimeError)
    assert not list(tmp_path.iterdir())


@needs_new
def test_compiling_follows_no_links(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    small_program().save(str(tmp_path / "net.mlpackage"))
    (tmp_path / "net.mlpackage" / "Data" / "more").symlink_to("/usr")
    with enable_predict():
        compiled = ct.models.utils.compile_model(str(tmp_path / "net.mlpackage"), str(tmp_path / "net.mlmodelc"))
    assert (tmp_path / "net.mlmodelc" / "model.mlpackage" / "Data" / "more").is_symlink(), compiled


def test_the_compiled_form_of_a_loaded_model_predicts(network_path, image):
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        compiled = model.get_compiled_model_path()
        assert compiled == model.get_compiled_model_path()
        assert ct.models.CompiledMLModel(compiled).predict(dict(image)) == model.predict(dict(image))


def test_the_compiled_form_of_a_model_without_a_file_is_refused():
    with enable_predict():
        model = ct.models.MLModel(small_network().get_spec())
        with pytest.raises(RuntimeError, match=r"is gone; save the model, and call compile_model"):
            model.get_compiled_model_path()


def test_what_apple_compiled_is_refused(tmp_path):
    with enable_predict(), pytest.raises(ModelFileError, match="was not compiled here"):
        ct.models.CompiledMLModel(str(tmp_path / "apple.mlmodelc"))


@needs_new
def test_durations_are_told(network_path, image):
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        assert model.load_duration_in_nano_seconds > 0
        assert model.last_predict_duration_in_nano_seconds is None
        model.predict(dict(image))
        assert model.last_predict_duration_in_nano_seconds > 0


@needs_new
def test_states_go_from_one_prediction_to_the_next():
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(
        input_specs=[mb.TensorSpec((2,)), mb.StateTensorSpec((2,), dtype=types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x, total):
        value = mb.add(x=mb.cast(x=x, dtype="fp16"), y=mb.read_state(input=total))
        return mb.coreml_update_state(state=total, value=value)

    with enable_predict(), quiet():
        model = ct.convert(program, minimum_deployment_target=ct.target.iOS18)
        state = model.make_state()
        model.predict({"x": np.array([1.0, 2.0])}, state)
        second = model.predict({"x": np.array([1.0, 2.0])}, state)
        np.testing.assert_array_equal(next(iter(second.values())), [2, 4])
        np.testing.assert_array_equal(state.read_state("total"), [2, 4])
        state.write_state("total", np.array([10.0, 20.0]))
        third = model.predict({"x": np.array([1.0, 2.0])}, state)
        np.testing.assert_array_equal(next(iter(third.values())), [11, 22])
        with pytest.raises(RuntimeError, match="'sum'"):
            state.read_state("sum")


def test_compare_models_prints_the_agreement(network_path, capsys):
    from coremltools.models.neural_network import quantization_utils

    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
    samples = [{"image": Image.fromarray(values)} for values in pixels]
    with enable_predict():
        model = ct.models.MLModel(str(network_path))
        quantization_utils.compare_models(model, model, samples)
    printed = capsys.readouterr().out
    assert "Top 1 Agreement: 100.0%" in printed
    assert "Top 5 Agreement: 100.0%" in printed


def test_activation_calibration_runs():
    import coremltools.optimize as cto
    from coremltools.optimize.coreml import experimental

    values = {"image": np.random.default_rng(2).random((1, 3, SIZE, SIZE), dtype=np.float32)}
    with enable_predict(), quiet():
        model = small_regression_program()
        config = cto.coreml.OptimizationConfig(
            global_config=experimental.OpActivationLinearQuantizerConfig(mode="linear_symmetric")
        )
        quantized = experimental.linear_quantize_activations(model, config, [dict(values)])
        expected, found = model.predict(dict(values)), quantized.predict(dict(values))
    main = quantized.get_spec().mlProgram.functions["main"].block_specializations["CoreML7"]
    operations = [operation.type for operation in main.operations]
    assert "quantize" in operations
    assert 0 < np.abs(found["y"] - expected["y"]).max() < 0.05 * np.abs(expected["y"]).max()


def small_regression_program():
    from coremltools.converters.mil.mil import Builder as mb

    rng = np.random.default_rng(3)

    @mb.program(input_specs=[mb.TensorSpec((1, 3, SIZE, SIZE))], opset_version=ct.target.iOS17)
    def program(image):
        x = mb.conv(x=image, weight=rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32), pad_type="same")
        x = mb.relu(x=x)
        return mb.conv(x=x, weight=rng.normal(0, 0.2, (4, 8, 3, 3)).astype(np.float32), name="y")

    return ct.convert(program, minimum_deployment_target=ct.target.iOS17)


def test_conversion_warns_of_nothing_where_the_model_runs(network_path):
    with enable_predict(), warnings.catch_warnings():
        warnings.simplefilter("error")
        ct.models.MLModel(str(network_path))
