"""A few of the mutations of `make fuzz`, and proof that the hunt sees what it looks for."""

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


@pytest.mark.parametrize(
    ("option", "message"), [("--memory=-1", "took 0.0 GB"), ("--seconds=0", "took longer than 0.0 s")]
)
def test_the_hunt_notices_memory_and_time(option, message):
    result = hunt("--count", "1", option)
    assert result.returncode == 1
    assert message in result.stdout
