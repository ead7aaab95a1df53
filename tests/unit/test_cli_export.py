import onnx
import pytest
from model_makers import small_network

from pytest_quantguard.cli.main import main
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_model(small_network(), tmp_path_factory.mktemp("model") / "small.mlmodel")


def test_a_model_becomes_a_valid_onnx_file(path, tmp_path, capsys):
    target = tmp_path / "out.onnx"
    assert main(["export", str(path), str(target)]) == 0
    assert capsys.readouterr().out.startswith(f"{target}: ")
    onnx.checker.check_model(target, full_check=True)


def test_an_existing_file_is_kept_unless_force_is_given(path, tmp_path, capsys):
    target = tmp_path / "out.onnx"
    target.write_text("precious")
    assert main(["export", str(path), str(target)]) == 2
    assert capsys.readouterr().err == (
        f"quantguard: error: {target} exists already; choose another name or give --force.\n"
    )
    assert target.read_text() == "precious"
    assert main(["export", str(path), str(target), "--force"]) == 0


def test_a_model_never_replaces_itself(tmp_path, capsys):
    path = save_model(small_network(), tmp_path / "small.mlmodel")
    before = path.read_bytes()
    (tmp_path / "link.onnx").hardlink_to(path)
    for target in (path, tmp_path / "link.onnx"):
        assert main(["export", str(path), str(target), "--force"]) == 1
        assert "is the model itself; choose another path" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_that_is_missing_is_named(path, tmp_path, capsys):
    assert main(["export", str(path), str(tmp_path / "missing" / "out.onnx")]) == 2
    assert "missing to write out.onnx to; create it first." in capsys.readouterr().err


def test_a_pipeline_is_refused_with_the_reason(tmp_path, capsys):
    spec = import_coremltools().proto.Model_pb2.Model(specificationVersion=4)
    spec.pipeline.models.add().CopyFrom(small_network().get_spec())
    path = tmp_path / "pipe.mlmodel"
    path.write_bytes(spec.SerializeToString())
    assert main(["export", str(path), str(tmp_path / "out.onnx")]) == 1
    assert "a model of type 'pipeline'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]
