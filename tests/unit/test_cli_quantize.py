import json

import pytest
from model_makers import small_network, small_program
from test_artifact import contents

from pytest_quantguard import load_model
from pytest_quantguard.cli.main import main
from pytest_quantguard.models.artifact import save_model

MAKERS = {"small.mlmodel": small_network, "small.mlpackage": small_program}


@pytest.fixture(scope="module", params=MAKERS)
def path(request, tmp_path_factory):
    return save_model(MAKERS[request.param](), tmp_path_factory.mktemp("model") / request.param)


def test_the_file_is_the_gated_model_in_every_byte(path, tmp_path, capsys):
    gated = tmp_path / f"gated{path.suffix}"
    load_model(path).quantize("kmeans_lut:4").save(gated)
    for name in ("first", "second"):
        target = tmp_path / f"{name}{path.suffix}"
        assert main(["quantize", str(path), "kmeans_lut:4", "-o", str(target)]) == 0
        assert contents(target) == contents(gated)


def test_what_was_written_is_said_in_a_few_lines(path, tmp_path, capsys):
    target = tmp_path / f"small{path.suffix}"
    assert main(["quantize", str(path), "linear_lut:4", "-o", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{target}: 4-bit linear_lut, ")
    assert lines[0].endswith(f" of {path.name}")
    assert " weights are compressed, to 4." in lines[1]
    if path.suffix == ".mlpackage":
        assert lines[2] == "note: 1 tensor is not compressed: 2048 weights or fewer"


def test_json_proves_what_was_done(path, tmp_path, capsys):
    target = tmp_path / f"small{path.suffix}"
    assert main(["quantize", str(path), "linear_lut:4", "-o", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    written = load_model(target)
    assert (found["schema"], found["scheme"]) == (1, "linear_lut:4")
    assert found["quantized_model"] == {
        "path": str(target),
        "digest": written.digest,
        "size_bytes": written.size_bytes,
    }
    assert found["float_model"]["digest"] == load_model(path).digest
    assert found["compressed"] + sum(entry["weights"] for entry in found["skipped"]) == found["weights"]


def test_a_text_that_is_no_scheme_is_wrong_usage(path, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["quantize", str(path), "kmeans_lut", "-o", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "'kmeans_lut' is no scheme; write mode and bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scheme", "name", "code", "message"),
    [
        ("linear:8,skip_layers=missing", "out", 1, "missing"),
        ("linear_lut:4", "out.txt", 1, "must end in .ml"),
        ("linear_lut:4", "missing/out", 2, "to write out"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(path, scheme, name, code, message, tmp_path, capsys):
    target = tmp_path / (name if "." in name else name + path.suffix)
    assert main(["quantize", str(path), scheme, "-o", str(target)]) == code
    error = capsys.readouterr().err
    assert error.startswith("quantguard: error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_overwritten_only_when_asked(path, tmp_path, capsys):
    target = save_model(MAKERS[path.name](), tmp_path / path.name)
    before = contents(target)
    arguments = ["quantize", str(path), "linear_lut:4", "-o", str(target)]
    assert main(arguments) == 2
    assert "exists already; choose another name or give --force." in capsys.readouterr().err
    assert contents(target) == before
    assert main([*arguments, "--force"]) == 0
    assert contents(target) != before
