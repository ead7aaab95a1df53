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
from pytest_quantguard.gate.wording import clean

HASH = re.compile(r"-[0-9a-f]{8}$")


def find_orphans(folders: Iterable[Path], collected: Mapping[Path, Collection[str]]) -> list[Path]:
    """The files under the `__quantguard__` folders that no test uses, sorted: baselines and lists of samples.

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


def orphan_lines(orphans: Collection[Path], root: Path) -> list[str]:
    """The lines that list orphans, baselines apart from lists of samples; paths are shown from `root`."""
    lists = [path for path in orphans if path.parent.name == FOLDER]
    lines = []
    for head, paths in (
        ("Baselines without a test", [path for path in orphans if path not in lists]),
        ("Lists of samples that no baseline names", lists),
    ):
        if paths:
            lines.append(f"{head}; delete them if that is meant, nothing else does:")
            shown = [path.relative_to(root) if path.is_relative_to(root) else path for path in paths]
            lines += [f"  {clean(str(path))}" for path in shown]
    return lines


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
