"""The list of tests that are known to fail: `expected_failures.txt`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("expected_failures.txt")


@dataclass(frozen=True)
class Expected:
    """Tests that are known to fail.

    Args:
        pattern: a test's id, in which `*` stands for anything. Brackets stand for themselves.
        reason: why they fail.
    """

    pattern: str
    reason: str

    def matches(self, test: str) -> bool:
        return re.fullmatch(".*".join(map(re.escape, self.pattern.split("*"))), test) is not None


def read(path: Path = FILE) -> list[Expected]:
    """The entries of a file.

    Raises:
        ValueError: a line has no reason.
    """
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition("  #")
        if not reason.strip():
            raise ValueError(f"{path.name}, line {number}: give the reason after two spaces and a #.")
        entries.append(Expected(pattern.strip(), reason.strip()))
    return entries


def find(entries: Iterable[Expected], test: str) -> Expected | None:
    """The first entry that a test matches."""
    return next((entry for entry in entries if entry.matches(test)), None)
