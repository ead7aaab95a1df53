"""A few of the mutations of `make fuzz`, and proof that the hunt sees what it looks for."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

HUNT = Path(__file__).parents[1] / "fuzz" / "hunt.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")


def hunt(*arguments):
    command = [sys.executable, str(HUNT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_damaged_models_give_answers_or_clear_errors():
    result = hunt("--count", "130", "--seed", "7000")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "130 mutations, 0 bugs" in result.stdout


def test_the_hunt_notices_memory():
    result = hunt("--count", "1", "--memory=-1")
    assert result.returncode == 1
    assert "took 0.0 GB" in result.stdout


@pytest.mark.parametrize(
    ("last_words", "message"),
    [("import time; time.sleep(60)", "took longer than 0.5 s"), ("import os; os.abort()", "died with -6")],
)
def test_the_hunt_notices_hangs_and_crashes(tmp_path, monkeypatch, last_words, message):
    script = tmp_path / "victim.py"
    script.write_text(f"input()\nprint('{{}}', flush=True)\ninput()\n{last_words}\n")
    monkeypatch.syspath_prepend(HUNT.parent)
    victim = importlib.import_module("hunt").Victim(script)
    assert victim.open(tmp_path, 0.5 if "sleep" in last_words else 60) == {"kind": "bug", "message": message}
    victim.stop()
