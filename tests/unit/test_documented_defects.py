"""The programs in docs/coremltools.md show what the document says of neural networks."""

import contextlib
import re
from pathlib import Path

import coremltools
import pytest

from pytest_quantguard.quiet import quiet

DOCUMENT = Path(__file__).parents[2] / "docs" / "coremltools.md"
NETWORKS = DOCUMENT.read_text(encoding="utf-8").partition("\n## ML programs")[0]
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", NETWORKS, re.MULTILINE | re.DOTALL))
ERRORS = {error.__name__: error for error in (AttributeError, TypeError, ValueError)}


def programs(text):
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.skipif(coremltools.__version__ < "9", reason="the document is about coremltools 9.0")
@pytest.mark.parametrize("title", SECTIONS)
def test_a_program_shows_the_defect(title):
    start, program = programs(NETWORKS.partition("\n## ")[0]), programs(SECTIONS[title])
    assert program
    named = re.search(r"# (\w+Error)", program)
    expected = pytest.raises(ERRORS[named[1]]) if named else contextlib.nullcontext()
    with quiet(), expected:
        exec(start + program, {})  # noqa: S102
