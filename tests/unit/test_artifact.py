import subprocess
import sys
from pathlib import Path

import pytest
from model_makers import small_network, small_program

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools

MAKERS = {"small.mlmodel": small_network, "small.mlpackage": small_program}


@pytest.fixture(params=MAKERS)
def saved(request, tmp_path):
    mlmodel = MAKERS[request.param]()
    return mlmodel, save_model(mlmodel, tmp_path / request.param)


def test_size_and_digest_are_those_of_the_written_model(saved):
    mlmodel, path = saved
    file = read_model_file(path)
    assert serialize(mlmodel) == (file.size_bytes, file.digest)


def test_the_written_model_reads_back_the_same(saved):
    mlmodel, path = saved
    again = import_coremltools().models.MLModel(str(path), skip_model_load=True)
    assert again.get_spec() == mlmodel.get_spec()
    assert serialize(again) == serialize(mlmodel)


def test_size_is_that_of_coremltools_save(saved, tmp_path):
    mlmodel, path = saved
    theirs = tmp_path / f"theirs{path.suffix}"
    mlmodel.save(str(theirs))
    assert read_model_file(theirs).size_bytes == serialize(mlmodel)[0]


def test_nothing_else_is_left_beside_the_written_model(saved):
    _, path = saved
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_model_is_not_overwritten_unasked(saved):
    mlmodel, path = saved
    with pytest.raises(ModelFileError, match="exists already; choose another path or pass overwrite=True"):
        save_model(mlmodel, path)


def test_an_existing_model_is_overwritten_when_asked(saved):
    mlmodel, path = saved
    mlmodel.short_description = "changed"
    save_model(mlmodel, path, overwrite=True)
    assert read_model_file(path).digest == serialize(mlmodel)[1]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_no_package_is_never_overwritten(tmp_path):
    precious = tmp_path / "photos.mlpackage" / "photo.png"
    precious.parent.mkdir()
    precious.write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"is no \.mlpackage model, so it is not overwritten"):
        save_model(small_program(), precious.parent, overwrite=True)
    assert precious.read_bytes() == b"x"


@pytest.mark.parametrize("name", ["model.mlpackage", "model", "model.onnx"])
def test_a_suffix_of_another_kind_is_refused(tmp_path, name):
    with pytest.raises(ModelFileError, match=r"must end in \.mlmodel"):
        save_model(small_network(), tmp_path / name)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"missing.*cannot be written"):
        save_model(small_network(), tmp_path / "missing" / "model.mlmodel")


def test_another_process_gives_the_same_digest():
    script = (
        "from model_makers import small_network\nfrom pytest_quantguard.models.artifact import serialize\n"
        "network = small_network()\n"
        "network.user_defined_metadata.update({str(i): 'x' for i in range(20)})\n"
        "print(serialize(network)[1])"
    )
    done = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=Path(__file__).parent)
        for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout


def test_equal_models_give_equal_files_in_every_byte(saved, tmp_path):
    mlmodel, path = saved
    (tmp_path / "again").mkdir()
    assert contents(save_model(mlmodel, tmp_path / "again" / path.name)) == contents(path)


def test_a_note_ends_the_short_description_of_the_file_only(saved):
    mlmodel, path = saved
    mlmodel.short_description = "Names food."
    before = mlmodel.get_spec()
    save_model(mlmodel, path, overwrite=True, note="Quantized.")
    file = read_model_file(path)
    assert file.spec.description.metadata.shortDescription == "Names food. Quantized."
    assert serialize(mlmodel, "Quantized.") == (file.size_bytes, file.digest)
    assert mlmodel.get_spec() == before


def test_a_note_is_the_whole_description_where_there_is_none(saved):
    mlmodel, path = saved
    mlmodel.short_description = ""
    save_model(mlmodel, path, overwrite=True, note="Quantized.")
    assert read_model_file(path).spec.description.metadata.shortDescription == "Quantized."


def contents(path):
    """The bytes of a file, or of every file of a folder by name."""
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    return {str(part.relative_to(path)): part.read_bytes() for part in files}
