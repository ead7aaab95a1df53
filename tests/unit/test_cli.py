"""The frame of the command line: help, exit codes, and one line per error."""

import errno
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from model_makers import small_network

from pytest_quantguard import __version__
from pytest_quantguard.cli import inspect
from pytest_quantguard.cli.main import COMMANDS, main
from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.artifact import save_model


def exit_code(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert exit_code([command, "--help"]) == 0
    assert f"usage: quantguard {command}" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"quantguard {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["inspect"], ["predict", "m", "--top", "0"]])
def test_wrong_usage_exits_with_two(arguments, capsys):
    assert exit_code(arguments) == 2
    assert ": error: " in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_model_is_one_line(capsys):
    assert main(["inspect", "missing.mlmodel"]) == 1
    assert capsys.readouterr().err == (
        "quantguard: error: There is no model at missing.mlmodel; give the path of a .mlmodel file or a "
        ".mlpackage folder.\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelFileError("bad model"), 1, "bad model"),
        (PermissionError(errno.EACCES, "Permission denied", "food.mlmodel"), 1, "food.mlmodel: Permission denied"),
        (OSError("no\nspace"), 1, "no space"),
        (MemoryError(), 1, "this needs more memory than there is; use a smaller model."),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_has_its_exit_code_and_one_line(error, code, message, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr(inspect, "run", fail)
    assert main(["inspect", "m"]) == code
    assert capsys.readouterr().err == f"quantguard: error: {message}\n"


def test_a_mistake_in_the_program_itself_is_not_hidden(monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(inspect, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "m"])


def test_help_imports_nothing_heavy():
    script = "import sys\nfrom pytest_quantguard.cli.main import main\ntry:\n    main(['--help'])\n"
    script += "except SystemExit:\n    print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "'pytest_quantguard'" in modules
    for heavy in ("numpy", "PIL", "coremltools", "onnx", "onnxruntime", "pytest"):
        assert f"'{heavy}'" not in modules


def test_the_installed_script_and_the_module_are_the_same_program(tmp_path):
    path = save_model(small_network(), tmp_path / "small.mlmodel")
    script = Path(sysconfig.get_path("scripts")) / "quantguard"
    found = [
        subprocess.run([*program, "inspect", path, "--json"], capture_output=True, text=True, check=True).stdout
        for program in ([script], [sys.executable, "-m", "pytest_quantguard"])
    ]
    assert found[0] == found[1]
    assert json.loads(found[0])["name"] == "small.mlmodel"


def test_output_that_nobody_reads_is_no_error(tmp_path):
    path = save_model(small_network(), tmp_path / "small.mlmodel")
    command = f"'{sys.executable}' -m pytest_quantguard inspect '{path}' | true"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) in [(141, ""), (0, "")]
