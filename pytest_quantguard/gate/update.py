"""Updating a baseline: thresholds that a person edited survive, and so do pinned ones."""

from dataclasses import asdict, dataclass
from typing import Any

from pytest_quantguard.gate.record import Record
from pytest_quantguard.gate.rules import Entry, in_order, metric_of, value_of
from pytest_quantguard.gate.verdict import (
    Row,
    circumstances_changed,
    edited_thresholds,
    libraries_changed,
    row_sentence,
    samples_differ,
    update_rows,
)
from pytest_quantguard.gate.wording import scheme_title


@dataclass(frozen=True)
class Change:
    """What an update changes in one metric; what was or is missing is None."""

    metric: str
    old: Entry | None
    new: Entry | None
    direction: str
    """`better`, `worse`, `same`, `new`, `gone`, or `incomparable`: measured on other samples."""
    old_threshold: float | None
    new_threshold: float | None
    kept: bool
    """The threshold was edited by a person and survives."""


@dataclass(frozen=True)
class Acceptance:
    """What an update would store."""

    record: Record
    changes: tuple[Change, ...]
    """Metrics that move, and those whose edited threshold is kept."""
    circumstances: tuple[tuple[str, str, str], ...]
    """(what, before, now) of scheme, samples, float model, engine, library versions that differ."""
    rows: tuple[Row, ...]
    """The new record against the thresholds that hold while updating."""
    refusal: str
    """Why the update must not happen, in one sentence; empty if it may."""

    def change_dicts(self) -> list[dict[str, Any]]:
        """The changes as JSON values."""
        return [asdict(change) for change in self.changes]


def accept(record: Record, baseline: Record | None) -> Acceptance:
    """The record that an update stores, with the thresholds of the baseline that a person edited.

    The update is refused where the record misses an edited or a pinned threshold: whoever set it must change it.
    """
    kept = edited_thresholds(record, baseline)
    merged = {**record, "thresholds": {**record["thresholds"], **kept}}
    rows = update_rows(record, baseline)
    violated = [row for row in rows if not row.ok]
    return Acceptance(
        record=merged,
        changes=_changes(merged, baseline, kept) if baseline is not None else (),
        circumstances=tuple(_circumstances(record, baseline)) if baseline is not None else (),
        rows=rows,
        refusal=_refusal(record, violated),
    )


def _refusal(record: Record, violated: list[Row]) -> str:
    if not violated:
        return ""
    first = violated[0]
    what = "threshold in the marker" if first.pinned else "hand-edited threshold in the baseline"
    return (
        f"{scheme_title(record['comparison']['scheme'])}: {row_sentence(first)}, so the baseline is not updated; "
        f"change the {what} first."
    )


def _changes(merged: Record, baseline: Record, kept: dict[str, float | None]) -> tuple[Change, ...]:
    changes = []
    incomparable = samples_differ(merged, baseline)
    for name in in_order([*merged["metrics"], *baseline["metrics"], *baseline["thresholds"]]):
        old, new = baseline["metrics"].get(name), merged["metrics"].get(name)
        before, after = baseline["thresholds"].get(name), merged["thresholds"].get(name)
        direction = _direction(name, old, new, incomparable)
        change = Change(name, old, new, direction, before, after, name in kept)
        if old != new or before != after or change.kept:
            changes.append(change)
    return tuple(changes)


def _direction(name: str, old: Entry | None, new: Entry | None, incomparable: bool) -> str:
    if new is None:
        return "gone"
    if old is None:
        return "new"
    if incomparable and metric_of(name).kind != "bytes":
        return "incomparable"
    difference = value_of(new) - value_of(old)
    if not difference:
        return "same"
    return "better" if (difference > 0) == metric_of(name).larger_is_better else "worse"


def _circumstances(record: Record, baseline: Record) -> list[tuple[str, str, str]]:
    changes = circumstances_changed(record, baseline) + libraries_changed(record, baseline)
    before, now = baseline["comparison"]["samples"], record["comparison"]["samples"]
    for key in ("count", "digest", "preprocessing"):
        if before[key] != now[key]:
            changes.append((f"sample {key}", str(before[key])[:24], str(now[key])[:24]))
    return changes
