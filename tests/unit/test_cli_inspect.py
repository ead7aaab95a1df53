import json

import pytest
from model_makers import small_network

from pytest_quantguard.cli.main import main
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools


@pytest.fixture
def path(tmp_path):
    mlmodel = small_network()
    mlmodel.author = "Ada\nL."
    mlmodel.user_defined_metadata["com.github.apple.coremltools.version"] = "9.0"
    return save_model(mlmodel, tmp_path / "small.mlmodel")


@pytest.fixture
def broken(tmp_path):
    spec = small_network().get_spec()
    for layer in spec.neuralNetworkClassifier.layers[:2]:
        layer.custom.className = "Mine"
    path = tmp_path / "broken.mlmodel"
    path.write_bytes(spec.SerializeToString())
    return path


def test_a_model_on_one_screen(path, capsys):
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    digest, size = lines.pop(4), lines.pop(3)
    assert digest.startswith("  digest")
    assert size.startswith("  size ")
    assert lines == [
        "small.mlmodel",
        "  kind                 neuralNetworkClassifier",
        "  specification        1 (iOS 11, macOS 10.13, or newer)",
        "  labels               6",
        "  author               Ada?L.",
        "  coremltools.version  9.0",
        "inputs",
        "  image  image RGB 8 x 8",
        "outputs",
        "  probabilities  dictionary by string",
        "  label          string",
        "8 layers",
        "  2  activation",
        "  2  convolution",
        "  1  flatten",
        "  1  innerProduct",
        "  1  pooling",
        "  1  softmax",
        "weights",
        "  float32  6 tensors  5,638 values  22.6 KB",
        "runs in the portable engine",
    ]


def test_json_holds_the_same(path, capsys):
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["functions"][0]["structure"][0]["counts"]["convolution"] == 2
    assert found["metadata"]["author"] == "Ada\nL."


def test_what_is_unsupported_ends_the_screen(broken, capsys):
    assert main(["inspect", str(broken)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "unsupported by the portable engine"
    assert lines[-2].startswith("  broken.mlmodel: layer 'conv1': ")
    assert lines[-1].startswith("  broken.mlmodel: layer 'relu1': ")


def test_the_exit_code_tells_whether_something_is_unsupported(path, broken, capsys):
    assert main(["inspect", str(path), "--unsupported"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["inspect", str(broken), "--unsupported"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["inspect", str(broken), "--unsupported", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["schema", "name", "digest", "unsupported"]
    assert len(found["unsupported"]) == 2


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x04"])
def test_a_file_that_is_no_model_is_one_line(data, tmp_path, capsys):
    (tmp_path / "bad.mlmodel").write_bytes(data)
    assert main(["inspect", str(tmp_path / "bad.mlmodel")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("quantguard: error: ")
    assert output.err.count("\n") == 1


def test_a_function_that_does_not_exist_is_one_line(path, capsys):
    assert main(["inspect", str(path), "--function", "other"]) == 1
    assert "small.mlmodel has no function 'other'" in capsys.readouterr().err


def test_a_model_without_weights_has_no_table_of_them(tmp_path, capsys):
    spec = import_coremltools().proto.Model_pb2.Model(specificationVersion=4)
    spec.identity.SetInParent()
    (tmp_path / "same.mlmodel").write_bytes(spec.SerializeToString())
    assert main(["inspect", str(tmp_path / "same.mlmodel")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "weights" not in lines
    assert "no layers" in lines
