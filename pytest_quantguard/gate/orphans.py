"""Orphans: baselines whose test is gone. They are listed, never deleted."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest
from syrupy.location import PyTestLocation

from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.baseline import read_baseline
from pytest_quantguard.gate.extension import FOLDER, LONGEST_NAME, UNSAFE
from pytest_quantguard.gate.manifest import manifest_path

HASH = re.compile(r"-[0-9a-f]{8}$")


def find_orphans(folders: Iterable[Path], collected: Mapping[Path, Collection[str]]) -> list[Path]:
    """The files under the `__quantguard__` folders that no test uses, sorted.

    A baseline is an orphan if its test file is gone, or was collected and holds no such test. A baseline of a
    test file that was not collected is left alone: the run may have been given one file of many. So is a sample
    manifest that any baseline beside it names.

    Args:
        folders: folders with test files.
        collected: the snapshot names of all tests in each test file that was collected whole (not by `::`),
            deselected tests too. See `snapshot_names`.
    """
    names = {path.absolute(): tests for path, tests in collected.items()}
    orphans: set[Path] = set()
    for folder in {folder.absolute() for folder in folders}:
        baselines = sorted((folder / FOLDER).glob("*/*.json"))
        for path in baselines:
            test_file = folder / f"{path.parent.name}.py"
            gone = not test_file.exists()
            if gone or (test_file in names and not any(_belongs(path.stem, name) for name in names[test_file])):
                orphans.add(path)
        orphans.update(_orphaned_manifests(folder / FOLDER, baselines))
    return sorted(orphans)


def snapshot_names(items: Iterable[pytest.Item]) -> dict[Path, set[str]]:
    """The snapshot names of collected tests by test file."""
    names: dict[Path, set[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            names.setdefault(item.path, set()).add(PyTestLocation(item).snapshot_name)
    return names


def _belongs(stem: str, name: str) -> bool:
    """Whether a file may hold a baseline of a test: its only one, its second (`.1`) or a named one (`[name]`).

    Where a digest is appended, the readable part before it decides: rather an orphan too few than one too many.
    """
    readable = UNSAFE.sub("_", name)[:LONGEST_NAME]
    if len(readable) == LONGEST_NAME:
        return stem.startswith(readable)
    return HASH.sub("", stem) == readable or stem == readable or stem.startswith((f"{readable}.", f"{readable}["))


def _orphaned_manifests(folder: Path, baselines: Collection[Path]) -> set[Path]:
    used = set()
    for path in baselines:
        try:
            record = read_baseline(path)
        except BaselineError:
            return set()
        if record is not None:
            used.add(manifest_path(folder, record["comparison"]["samples"]["digest"]))
    return set(folder.glob("samples-*.json")) - used
