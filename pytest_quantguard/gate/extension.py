"""The syrupy extension: where baselines lie, what they are called, when they match.

syrupy deletes snapshots that a run with `--snapshot-update` did not reach (after `-x`, `--collect-only`, an
early error). A baseline is a measurement that may have cost an hour, so ours lie in a folder that syrupy's own
extensions do not search, and this one finds nothing to delete. `orphans.py` lists what no test uses.
"""

import difflib
import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.base import AbstractSyrupyExtension
from syrupy.extensions.json import JSONSnapshotExtension
from syrupy.location import PyTestLocation

from pytest_quantguard.gate.baseline import dumps, parse_baseline
from pytest_quantguard.gate.files import unwritable, write_text
from pytest_quantguard.gate.verdict import judge

FOLDER = "__quantguard__"
LONGEST_NAME = 100
SAFE_NAME = re.compile(r"[a-z0-9_.=\-\[\]]+")
UNSAFE = re.compile(r"[^A-Za-z0-9_.=\-\[\]]")


def file_name(name: str) -> str:
    """A snapshot's name as a file name, different for different names on every platform.

    Short names of lower-case letters, digits and `_.=-[]` stay as they are. In others `_` takes the place of what
    is not safe, and the first eight digits of the name's SHA-256 are appended: `a/b`, `a:b` and `A_b` stay apart
    even where file names ignore case.
    """
    if len(name) <= LONGEST_NAME and SAFE_NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{UNSAFE.sub('_', name)[:LONGEST_NAME]}-{digest}"


class QuantguardExtension(JSONSnapshotExtension):
    """One JSON file per assertion in `__quantguard__/<test file>/`, matched by the gate."""

    exact = False
    """While updating: match only what is the same, or values inside the tolerance would never move."""

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """The folder of a test file's baselines."""
        return str(Path(test_location.filepath).parent / FOLDER / test_location.basename)

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: str | int = 0) -> str:
        """An assertion's full name: `test_food[8-linear]`, with `.1` for the second, `[name]` for a named one."""
        return AbstractSyrupyExtension.get_snapshot_name(test_location=test_location, index=index)

    @classmethod
    def get_file_basename(cls, *, test_location: PyTestLocation, index: str | int) -> str:
        """The file's name without its suffix."""
        return file_name(cls.get_snapshot_name(test_location=test_location, index=index))

    def discover_snapshots(
        self, *, test_location: PyTestLocation, ignore_extensions: list[str] | None = None
    ) -> SnapshotCollections:
        """Nothing: what syrupy does not find it does not delete."""
        return SnapshotCollections()

    def delete_snapshots(self, *, snapshot_location: str, snapshot_names: set[str]) -> None:
        """Delete nothing; syrupy has no reason to ask."""

    def serialize(self, data: Any, *, exclude: Any = None, include: Any = None, matcher: Any = None) -> str:
        """A record as the text of its baseline; filters and matchers do not apply to measurements."""
        return dumps(data)

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        """Whether a record passes its baseline; while updating, whether it is the same."""
        if self.exact:
            return bool(serialized_data == snapshot_data)
        return judge(parse_baseline(serialized_data), parse_baseline(snapshot_data)).passed

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """A plain unified diff of the stored text against the new one."""
        yield from difflib.unified_diff(
            str(snapshot_data).splitlines(), str(serialized_data).splitlines(), "baseline", "now", lineterm=""
        )

    @classmethod
    def write_snapshot(cls, *, snapshot_location: str, snapshots: Any, **options: Any) -> None:
        """Write a baseline, without syrupy's warning that a file's name does not hold the test's id.

        syrupy before 7.0.1 decides that by the file's name alone, which holds a digest where the id has characters
        that are not safe in file names.
        """
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"\s*Can not relate snapshot location")
                super().write_snapshot(snapshot_location=snapshot_location, snapshots=snapshots, **options)
        except OSError as error:
            raise unwritable(Path(snapshot_location).parent, error) from error

    @classmethod
    def write_snapshot_collection(
        cls, *, snapshot_collection: SnapshotCollection, name_order: dict[str, int] | None = None
    ) -> None:
        """Write the text of one baseline."""
        for snapshot in snapshot_collection:
            write_text(Path(snapshot_collection.location), str(snapshot.data))

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        """Whether a file is one of this test file's baselines."""
        return Path(snapshot_location).parent == Path(cls.dirname(test_location=test_location))
