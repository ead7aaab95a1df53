"""The sample manifest: which samples a baseline was measured on.

One file per sample set, `__quantguard__/samples-<first 12 digits of its digest>.json`, shared by the tests beside
it, so that a changed set can be described without a line per sample in every baseline.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_quantguard.comparison import SampleSet
from pytest_quantguard.gate.files import read_json, write_text
from pytest_quantguard.gate.wording import clean, shorten

MAX_BYTES = 64_000_000
DIGITS = 16
SHOWN = 3


@dataclass(frozen=True)
class SampleChanges:
    """How one sample set differs from another; names of samples, sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    altered: tuple[str, ...]

    def __str__(self) -> str:
        """For instance `2 added (a.png, b.png), 1 removed (c.png)`."""
        parts = []
        for names, verb in ((self.added, "added"), (self.removed, "removed"), (self.altered, "altered")):
            if names:
                shown = [shorten(clean(name), 60) for name in names[:SHOWN]]
                more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
                parts.append(f"{len(names)} {verb} ({', '.join([*shown, *more])})")
        return ", ".join(parts)


def manifest_path(folder: Path, digest: str) -> Path:
    """Where the manifest of a sample set lies in a `__quantguard__` folder."""
    return folder / f"samples-{digest[:12]}.json"


def write_manifest(folder: Path, samples: SampleSet) -> None:
    """Write the manifest of a sample set into a `__quantguard__` folder, unless it is there and whole.

    Raises:
        BaselineError: the folder cannot be written.
    """
    if read_manifest(folder, samples.digest) is None:
        names = {name: digest[:DIGITS] for name, digest in samples.entries}
        text = json.dumps({"digest": samples.digest, "samples": names}, sort_keys=True, indent=0)
        write_text(manifest_path(folder, samples.digest), text + "\n")


def read_manifest(folder: Path, digest: str) -> dict[str, str] | None:
    """Sample names with the first digits of their digests; None if the manifest is missing or damaged.

    A damaged manifest is no error: it only explains a failure, and the next update writes it anew.
    """
    try:
        value = read_json(manifest_path(folder, digest), MAX_BYTES)
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict) or value.get("digest") != digest:
        return None
    samples = value.get("samples")
    if not isinstance(samples, dict) or not all(isinstance(text, str) for text in samples.values()):
        return None
    return samples


def sample_changes(stored: Mapping[str, str], samples: SampleSet) -> SampleChanges:
    """Compare a stored manifest with the samples of today."""
    now = {name: digest[:DIGITS] for name, digest in samples.entries}
    return SampleChanges(
        added=tuple(sorted(now.keys() - stored.keys())),
        removed=tuple(sorted(stored.keys() - now.keys())),
        altered=tuple(sorted(name for name in now.keys() & stored.keys() if now[name] != stored[name])),
    )
