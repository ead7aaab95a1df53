import json

import pytest
from model_makers import LABELS, small_network, small_program

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import ArrayFeature, ImageFeature
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools


@pytest.fixture(scope="module")
def network_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "net.mlmodel"
    small_network().save(str(path))
    return path


@pytest.fixture
def package_path(tmp_path):
    path = tmp_path / "net.mlpackage"
    small_program().save(str(path))
    return path


def test_a_network_is_read_with_size_and_digest(network_path):
    file = read_model_file(network_path)
    assert file.size_bytes == network_path.stat().st_size
    assert len(file.digest) == 64
    assert file.weights_dir is None


def test_a_package_counts_specification_and_weights(package_path):
    file = read_model_file(package_path)
    data = package_path / "Data" / "com.apple.CoreML"
    sizes = [(data / "model.mlmodel").stat().st_size, (data / "weights" / "weight.bin").stat().st_size]
    assert file.size_bytes == sum(sizes)


def test_the_digest_of_a_package_ignores_the_random_identifiers_of_its_manifest(package_path):
    before = read_model_file(package_path).digest
    manifest = package_path / "Manifest.json"
    content = json.loads(manifest.read_text())
    content["itemInfoEntries"] = dict(reversed(content["itemInfoEntries"].items()))
    manifest.write_text(json.dumps(content))
    assert read_model_file(package_path).digest == before
    weights = package_path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert read_model_file(package_path).digest != before


def test_descriptions_name_inputs_and_labels(network_path, package_path):
    for path in (network_path, package_path):
        description = describe(read_model_file(path).spec)
        assert description.inputs == (ImageFeature("image", 8, 8, "RGB"),)
        assert description.labels == LABELS
        assert description.probabilities_name is not None


def test_integer_labels_of_an_ml_program_are_integers(tmp_path):
    small_program(labels=(3, 1, 4, 1 << 40)).save(str(tmp_path / "net.mlpackage"))
    assert describe(read_model_file(tmp_path / "net.mlpackage").spec).labels == (3, 1, 4, 1 << 40)


def test_multi_arrays_keep_shape_and_type():
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", ct.models.datatypes.Array(3))], [("y", None)])
    builder.add_activation("relu", "RELU", "x", "y")
    description = describe(builder.spec)
    assert description.inputs == (ArrayFeature("x", (3,), "float64"),)
    assert description.labels is None


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"There is no model at .*absent\.mlmodel"):
        read_model_file(tmp_path / "absent.mlmodel")


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_model_is_refused(network_path, tmp_path, part):
    data = network_path.read_bytes()
    (tmp_path / "cut.mlmodel").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ModelFileError, match=r"cut\.mlmodel is no complete Core ML model"):
        read_model_file(tmp_path / "cut.mlmodel")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", b"\x89PNG\r\n\x1a\n", b"{}"])
def test_a_file_of_another_format_is_refused(tmp_path, data):
    (tmp_path / "photo.mlmodel").write_bytes(data)
    with pytest.raises(ModelFileError, match=r"photo\.mlmodel is no"):
        read_model_file(tmp_path / "photo.mlmodel")


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"without a Manifest\.json"):
        read_model_file(tmp_path)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"itemInfoEntries": [], "rootModelIdentifier": "x"}', "\xff", "[" * 100_000]
)
def test_a_broken_manifest_is_refused(package_path, manifest):
    (package_path / "Manifest.json").write_bytes(manifest.encode("latin-1"))
    with pytest.raises(ModelFileError, match="no readable package manifest"):
        read_model_file(package_path)


@pytest.mark.parametrize("target", ["../../../outside", "/etc/hostname"])
def test_a_package_that_leaves_its_folder_is_refused(package_path, target):
    content = json.loads((package_path / "Manifest.json").read_text())
    content["itemInfoEntries"][content["rootModelIdentifier"]]["path"] = target
    (package_path / "Manifest.json").write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="names a part outside itself"):
        read_model_file(package_path)


@pytest.mark.parametrize(
    "part", ["Manifest.json", "Data", "Data/com.apple.CoreML", "Data/com.apple.CoreML/weights/weight.bin"]
)
def test_a_package_with_a_link_out_of_itself_is_refused(package_path, tmp_path, part):
    (package_path / part).rename(tmp_path / "outside")
    (package_path / part).symlink_to(tmp_path / "outside")
    with pytest.raises(ModelFileError, match=r"outside itself|link out of its package"):
        read_model_file(package_path)


def test_a_file_outside_of_a_package_is_not_even_measured(package_path, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (package_path / "Data/com.apple.CoreML/weights/more.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError, match=r"more\.bin is a link out of its package"):
        read_model_file(package_path)


def test_a_package_may_be_a_link_itself_and_have_links_within(package_path, tmp_path):
    digest = read_model_file(package_path).digest
    (package_path / "Data").rename(package_path / "Parts")
    (package_path / "Data").symlink_to("Parts")
    (tmp_path / "link.mlpackage").symlink_to(package_path)
    assert read_model_file(tmp_path / "link.mlpackage").digest == digest


def test_a_file_that_cannot_be_read_is_named(network_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(ModelFileError, match=r"net.mlmodel cannot be read \(Permission denied\)"):
        read_model_file(network_path)


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_model_file("x" * 300)


def test_a_package_without_its_specification_is_refused(package_path):
    (package_path / "Data" / "com.apple.CoreML" / "model.mlmodel").unlink()
    with pytest.raises(ModelFileError, match="misses its specification"):
        read_model_file(package_path)
