"""Updating a baseline: thresholds that a person edited survive, and so do pinned ones."""

from dataclasses import asdict, dataclass
from typing import Any

from pytest_quantguard.gate.record import Record
from pytest_quantguard.gate.rules import Entry, in_order, metric_of, value_of
from pytest_quantguard.gate.verdict import (
    Row,
    circumstances_changed,
    compare_rows,
    is_automatic,
    libraries_changed,
    row_sentence,
)
from pytest_quantguard.gate.wording import scheme_title


@dataclass(frozen=True)
class Change:
    """What an update changes in one metric; what was or is missing is None."""

    metric: str
    old: Entry | None
    new: Entry | None
    direction: str
    """`better`, `worse`, `same`, `new` or `gone`."""
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

    A stored threshold was edited if it is not what creation would have given for the baseline's own metrics and
    `max_drop`. The update is refused where the record misses an edited or a pinned threshold: whoever set it must
    change it.
    """
    kept = _kept_thresholds(record, baseline)
    merged = {**record, "thresholds": {**record["thresholds"], **kept}}
    holding = {**kept, **{name: record["thresholds"][name] for name in record.get("pinned", [])}}
    old_metrics = baseline["metrics"] if baseline is not None else {}
    before = {name: entry for name, entry in old_metrics.items() if name in record["metrics"]}
    rows = compare_rows(merged, before, holding)
    violated = [row for row in rows if not row.ok]
    return Acceptance(
        record=merged,
        changes=_changes(merged, baseline, kept) if baseline is not None else (),
        circumstances=tuple(_circumstances(record, baseline)) if baseline is not None else (),
        rows=rows,
        refusal=_refusal(record, violated),
    )


def _kept_thresholds(record: Record, baseline: Record | None) -> dict[str, float | None]:
    if baseline is None:
        return {}
    pinned = record.get("pinned", [])
    return {
        name: threshold
        for name, threshold in baseline["thresholds"].items()
        if name in record["metrics"]
        and name not in pinned
        and name not in baseline.get("pinned", [])
        and not is_automatic(name, baseline)
    }


def _refusal(record: Record, violated: list[Row]) -> str:
    if not violated:
        return ""
    first = violated[0]
    where = "in the marker" if first.pinned else "in the baseline, where a person has edited it,"
    return (
        f"{scheme_title(record['comparison']['scheme'])}: {row_sentence(first)}, so the baseline is not updated; "
        f"change the threshold {where} first."
    )


def _changes(merged: Record, baseline: Record, kept: dict[str, float | None]) -> tuple[Change, ...]:
    changes = []
    for name in in_order([*merged["metrics"], *baseline["metrics"], *baseline["thresholds"]]):
        old, new = baseline["metrics"].get(name), merged["metrics"].get(name)
        before, after = baseline["thresholds"].get(name), merged["thresholds"].get(name)
        change = Change(name, old, new, _direction(name, old, new), before, after, name in kept)
        if old != new or before != after or change.kept:
            changes.append(change)
    return tuple(changes)


def _direction(name: str, old: Entry | None, new: Entry | None) -> str:
    if new is None:
        return "gone"
    if old is None:
        return "new"
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
