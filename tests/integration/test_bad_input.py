"""Bad input fails with one sentence that names it, without a traceback through the plugin."""

import numpy as np
import pytest
from PIL import Image

GATE = """
import pytest

@pytest.mark.quantized({arguments})
def test_gate(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot
"""


def run(project, *flags, arguments="bits=8, mode='linear'"):
    """Run a gate that must fail before it measures; returns what pytest printed."""
    project.makepyfile(test_app=GATE.format(arguments=arguments))
    result = project.runpytest_inprocess("--snapshot-update", *flags)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not list(project.path.glob("__quantguard__/**/*.json"))
    output = result.stdout.str()
    assert "Traceback" not in output
    assert "pytest_quantguard/" not in output
    assert "During handling" not in output
    return " ".join(output.split())


def test_no_such_model(project):
    assert "There is no model at" in run(project, "--quantguard-model=absent.mlmodel")
    assert "absent.mlmodel; give the path of" in run(project, "--quantguard-model=absent.mlmodel")


def test_no_model_at_all(project):
    project.makefile(".ini", pytest="[pytest]\nquantguard-samples = photos\n")
    assert "No model is given; set --quantguard-model" in run(project)


def test_no_samples_at_all(project):
    project.makefile(".ini", pytest="[pytest]\nquantguard-model = model.mlmodel\n")
    assert "No samples are given; set --quantguard-samples" in run(project)


def test_a_truncated_model(project):
    path = project.path / "model.mlmodel"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.mlmodel is no complete Core ML model (it is truncated or of another format)" in run(project)


def test_a_file_that_is_no_model(project):
    (project.path / "model.mlmodel").write_text("weights go here")
    assert "model.mlmodel is no" in run(project)


def test_a_model_without_image_input(project):
    from coremltools.models import MLModel, datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", None)])
    builder.add_inner_product("dense", np.eye(3, dtype=np.float32), None, 3, 3, False, "x", "y")
    MLModel(builder.spec, skip_model_load=True).save(str(project.path / "arrays.mlmodel"))
    output = run(project, "--quantguard-model=arrays.mlmodel", arguments="bits=16")
    assert "arrays.mlmodel does not take one image and nothing else (inputs: x)" in output
    assert "let the fixture quantguard_samples return a list of input dictionaries" in output


def test_an_empty_sample_folder(project):
    (project.path / "empty").mkdir()
    assert "empty' holds no images; put sample images into it." in run(project, "--quantguard-samples=empty")


def test_no_such_sample_folder(project):
    assert "absent' does not exist; name a folder of images" in run(project, "--quantguard-samples=absent")


def test_corrupt_images_are_listed_all(project):
    for name in ("one.png", "two.jpg"):
        (project.path / "photos" / "fig" / name).write_bytes(b"no image at all")
    output = run(project)
    assert "2 of 74 samples are no readable images: 'fig/one.png', 'fig/two.jpg'; replace them" in output


def test_an_unknown_label_folder(project):
    (project.path / "photos" / "bred").mkdir()
    Image.new("RGB", (8, 8)).save(project.path / "photos" / "bred" / "x.png")
    output = run(project)
    assert "holds a folder that is no label of the model: 'bred' (closest: 'bread')" in output


def test_unknown_labels_can_be_allowed(project):
    (project.path / "photos" / "bred").mkdir()
    Image.new("RGB", (8, 8), "red").save(project.path / "photos" / "bred" / "x.png")
    project.makepyfile(test_app=GATE.format(arguments="bits=8, mode='linear'"))
    result = project.runpytest_inprocess("--snapshot-update", "--quantguard-allow-unknown-labels")
    result.assert_outcomes(passed=1)
    assert "accuracy delta" not in result.stdout.str()


def test_a_pair_of_bits_and_mode_that_the_kind_does_not_have(project):
    output = run(project, arguments="bits=4, mode='linear_symmetric'")
    assert "linear_symmetric" in output
    assert "kmeans_lut" in output


def test_the_engine_of_another_platform(project, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    output = run(project, "--quantguard-engine=coreml")
    assert "macOS" in output
    assert "portable" in output


def test_a_network_that_nothing_can_run_is_refused_by_layer(project):
    from coremltools.models import MLModel

    mlmodel = MLModel(str(project.path / "model.mlmodel"), skip_model_load=True)
    spec = mlmodel.get_spec()
    layer = spec.neuralNetworkClassifier.layers[1]
    layer.custom.className = "Swish"
    MLModel(spec, skip_model_load=True).save(str(project.path / "model.mlmodel"))
    output = run(project)
    assert "layer 'relu1'" in output
    assert "custom" in output


def test_a_model_that_is_quantized_already(project):
    import pytest_quantguard

    pytest_quantguard.quantize(project.path / "model.mlmodel", bits=8, mode="linear").save(
        project.path / "small.mlmodel"
    )
    output = run(project, "--quantguard-model=small.mlmodel")
    assert "small.mlmodel" in output
    assert "quantized" in output


def test_answers_that_are_nan_fail_with_the_samples_name(project):
    from coremltools.models import MLModel

    spec = MLModel(str(project.path / "model.mlmodel"), skip_model_load=True).get_spec()
    relu = next(layer for layer in spec.neuralNetworkClassifier.layers if layer.name == "relu1")
    relu.unary.type = relu.unary.LOG  # of numbers that are often negative
    MLModel(spec, skip_model_load=True).save(str(project.path / "model.mlmodel"))
    output = run(project, arguments="bits=16")
    assert "NaN" in output
    assert "apple/" in output


def test_weights_that_are_nan_are_refused_by_name(project):
    from coremltools.models import MLModel

    spec = MLModel(str(project.path / "model.mlmodel"), skip_model_load=True).get_spec()
    dense = next(layer for layer in spec.neuralNetworkClassifier.layers if layer.name == "dense").innerProduct
    dense.bias.floatValue[0] = float("nan")
    MLModel(spec, skip_model_load=True).save(str(project.path / "model.mlmodel"))
    assert "dense.bias" in run(project)


def test_nothing_of_the_project_is_written_to(project):
    before = {path: path.read_bytes() for path in project.path.rglob("*") if path.is_file()}
    project.makepyfile(test_app=GATE.format(arguments="bits=[16, 8, 4], mode='linear_lut'"))
    project.runpytest_inprocess("--snapshot-update", "-p", "no:cacheprovider").assert_outcomes(passed=3)
    assert {path: path.read_bytes() for path in before} == before
