"""The list of ML program operations in docs/portable-engine.md."""

import re
from pathlib import Path

from pytest_quantguard.runtime.portable.ml_program.ops import DECODERS, WRITERS

PAGE = Path(__file__).parents[2] / "docs" / "portable-engine.md"


def test_the_documentation_lists_the_operations_that_run():
    found = re.search(r"^(\d+) MIL operations run:\n((?:[a-z0-9_, ]+\n)+)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert found, "the list is missing"
    names = re.split(r",\s+", found[2].strip())
    assert set(names) == {*WRITERS, *DECODERS, "const", "classify"}
    assert names == sorted(names)
    assert len(names) == int(found[1])
