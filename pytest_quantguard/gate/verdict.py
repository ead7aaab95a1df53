"""The verdict: whether a record passes its baseline, and the reason in one sentence.

| case                                         | verdict                                                      |
| -------------------------------------------- | ------------------------------------------------------------ |
| no baseline                                  | fails, and says how to create it                             |
| other samples, other preprocessing           | fails, and says what changed; the numbers are not compared   |
| a metric on the wrong side of its threshold  | fails                                                        |
| a metric vanished (in the baseline, not now) | fails                                                        |
| a new metric (now, not in the baseline)      | passes, with a notice that it is not gated before an update  |
| other float model, scheme, engine or library | gated by the same thresholds, with a notice                  |
| a threshold of null in the baseline          | that metric is not gated, with a notice                      |
| a threshold pinned by the marker             | wins over the stored one                                     |
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pytest_quantguard.gate.manifest import SampleChanges
from pytest_quantguard.gate.record import Record
from pytest_quantguard.gate.rules import Entry, automatic_threshold, exact, in_order, meets, metric_of
from pytest_quantguard.gate.wording import (
    clean,
    entry_text,
    quoted,
    scheme_title,
    update_command,
    versus_text,
)


@dataclass(frozen=True)
class Row:
    """One metric of a verdict; what is missing is None."""

    metric: str
    baseline: Entry | None
    threshold: float | None
    now: Entry | None
    ok: bool
    pinned: bool = False


@dataclass(frozen=True)
class Verdict:
    """Pass or fail of a record against its baseline."""

    kind: str
    """`passed`, `failed`, `missing` (no baseline), `incomparable` (other samples), `refused` (an update)."""
    sentence: str
    rows: tuple[Row, ...]
    notices: tuple[str, ...] = ()
    blocking: tuple[Row, ...] = ()
    """What an update would be refused for: it keeps pinned and edited thresholds."""

    @property
    def passed(self) -> bool:
        """Whether the test passes."""
        return self.kind == "passed"

    def row_dicts(self) -> list[dict[str, Any]]:
        """The rows as JSON values."""
        return [asdict(row) for row in self.rows]


def judge(
    record: Record,
    baseline: Record | None,
    *,
    command: str = "",
    sample_changes: SampleChanges | None = None,
    accepted: bool = False,
) -> Verdict:
    """Judge a record by its baseline.

    Args:
        record: what was measured now, from `make_record`.
        baseline: what `read_baseline` gave.
        command: what creates a missing baseline.
        sample_changes: how the samples differ from the baseline's; None if that is not known.
        accepted: the baseline has just been made from the record.
    """
    title = scheme_title(record["comparison"]["scheme"])
    blocking = tuple(row for row in update_rows(record, baseline) if not row.ok)
    if baseline is None:
        rows = compare_rows(record, {}, _pinned_thresholds(record))
        sentence = f"there is no baseline yet; create it with: {command or update_command()}"
        if blocking:
            sentence = f"there is no baseline yet, and none can be created: {row_sentence(blocking[0])}."
        return Verdict("missing", f"{title}: {sentence}", rows, blocking=blocking)
    incomparable = _samples_sentence(record, baseline, sample_changes)
    if incomparable:
        return Verdict("incomparable", f"{title}: {incomparable}", (), blocking=blocking)
    rows = compare_rows(record, baseline["metrics"], _thresholds(record, baseline))
    failing = [row for row in rows if not row.ok]
    notices = (*_notices(record, baseline, rows), *_collapse_notice(record, baseline, accepted))
    if failing:
        return Verdict("failed", f"{title}: {failure_sentence(record, failing)}", rows, notices, blocking)
    gated = sum(row.threshold is not None for row in rows)
    return Verdict("passed", f"{title}: all {gated} gated metrics are within their thresholds.", rows, notices)


def compare_rows(
    record: Record, before: Mapping[str, Entry], thresholds: Mapping[str, float | None]
) -> tuple[Row, ...]:
    """One row per metric that is measured, was measured before, or has a threshold.

    Args:
        record: what was measured now.
        before: the metrics of the baseline.
        thresholds: what holds, by metric; None, like a missing name, gates nothing.
    """
    rows = []
    for name in in_order([*record["metrics"], *before, *thresholds]):
        now, threshold = record["metrics"].get(name), thresholds.get(name)
        if now is None:
            ok = name not in before and threshold is None
        else:
            ok = threshold is None or meets(metric_of(name), now, threshold)
        rows.append(Row(name, before.get(name), threshold, now, ok, name in record.get("pinned", [])))
    return tuple(rows)


def is_automatic(name: str, baseline: Record) -> bool:
    """Whether a stored threshold is what creation gives, so that nobody has chosen it."""
    threshold = baseline["thresholds"][name]
    if threshold is None or name not in baseline["metrics"]:
        return False
    automatic = automatic_threshold(metric_of(name), baseline["metrics"][name], baseline["max_drop"])
    return exact(threshold) == exact(automatic)


def edited_thresholds(record: Record, baseline: Record | None) -> dict[str, float | None]:
    """The stored thresholds that a person edited, of metrics that are still measured and not pinned.

    A stored threshold was edited if it is not what creation would have given for the baseline's own metrics and
    `max_drop`.
    """
    if baseline is None:
        return {}
    pinned = {*record.get("pinned", []), *baseline.get("pinned", [])}
    return {
        name: threshold
        for name, threshold in baseline["thresholds"].items()
        if name in record["metrics"] and name not in pinned and not is_automatic(name, baseline)
    }


def update_rows(record: Record, baseline: Record | None) -> tuple[Row, ...]:
    """The record against the thresholds that an update keeps: the edited and the pinned ones."""
    old_metrics = baseline["metrics"] if baseline is not None else {}
    before = {name: entry for name, entry in old_metrics.items() if name in record["metrics"]}
    return compare_rows(record, before, edited_thresholds(record, baseline) | _pinned_thresholds(record))


def samples_differ(record: Record, baseline: Record) -> bool:
    """Whether record and baseline were measured on different samples, so that their numbers do not compare."""
    return bool(record["comparison"]["samples"] != baseline["comparison"]["samples"])


def _pinned_thresholds(record: Record) -> dict[str, float | None]:
    return {name: record["thresholds"][name] for name in record.get("pinned", [])}


def _thresholds(record: Record, baseline: Record) -> dict[str, float | None]:
    """The thresholds that hold: the stored ones, overruled by the pinned ones.

    One sample lost from a class of 43 (2.33 points) must not fail because the worst class of the baseline had 44
    (2.27 points), so an automatic threshold of the worst class leaves room for one sample of the class that is
    worst now.
    """
    thresholds: dict[str, float | None] = dict(baseline["thresholds"])
    name = "worst_class_delta"
    worst = record["metrics"].get(name)
    if worst is not None and name in thresholds and is_automatic(name, baseline):
        thresholds[name] = automatic_threshold(
            metric_of(name), baseline["metrics"][name], baseline["max_drop"], smallest_total=worst["total"]
        )
    return thresholds | _pinned_thresholds(record)


def failure_sentence(record: Record, failing: list[Row]) -> str:
    """What failed, the first metric in full."""
    others = len(failing) - 1
    collapsed = record.get("collapsed_onto")
    if collapsed is not None:
        share = record["metrics"]["most_predicted_share"]
        first = (
            f"collapsed, the model answers {quoted(collapsed)} for {share['count']} of {share['total']} samples"
        )
        others += 1
        return f"{first}; {others} {'metric fails' if others == 1 else 'metrics fail'}."
    more = f"; {others} more {'metric fails' if others == 1 else 'metrics fail'}" if others else ""
    return f"{row_sentence(failing[0])}{more}."


def row_sentence(row: Row) -> str:
    """Why one row fails."""
    metric = metric_of(row.metric)
    title = clean(metric.title)
    if row.now is None:
        wanted = "has a pinned threshold" if row.pinned else "is in the baseline"
        return f"{title} {wanted} but was not measured"
    assert row.threshold is not None
    measured, threshold = versus_text(metric, row.now, row.threshold)
    side = "below" if metric.larger_is_better else "above"
    return f"{title} is {measured}, {side} the {'pinned ' if row.pinned else ''}threshold of {threshold}"


def circumstances_changed(record: Record, baseline: Record) -> list[tuple[str, str, str]]:
    """(what, before, now) of scheme, engine and float model, where they differ."""
    before, now = baseline["comparison"], record["comparison"]
    pairs = [(key, before[key] or "none", now[key] or "none") for key in ("scheme", "engine")]
    pairs.append(("float model", _model_text(before["float_model"]), _model_text(now["float_model"])))
    return [(what, clean(old), clean(new)) for what, old, new in pairs if old != new]


def libraries_changed(record: Record, baseline: Record) -> list[tuple[str, str, str]]:
    """(library, version before, version now) where they differ."""
    before, now = baseline["comparison"]["versions"], record["comparison"]["versions"]
    pairs = [(name, before.get(name, "none"), now.get(name, "none")) for name in sorted({*before, *now})]
    return [(clean(name), clean(old), clean(new)) for name, old, new in pairs if old != new]


def _model_text(model: dict[str, str]) -> str:
    return f"{model['name']} ({model['digest'][:8]})"


def _samples_sentence(record: Record, baseline: Record, changes: SampleChanges | None) -> str:
    if not samples_differ(record, baseline):
        return ""
    before, now = baseline["comparison"]["samples"], record["comparison"]["samples"]
    if (before["digest"], before["count"]) == (now["digest"], now["count"]):
        return (
            f"the samples were prepared with {clean(before['preprocessing']) or 'nothing'} for the baseline and "
            f"with {now['preprocessing'] or 'nothing'} now, so the numbers are not comparable."
        )
    counts = f"{before['count']} samples in the baseline, {now['count']} now"
    if changes is None:
        detail = f"{counts}; which ones is not known, because the baseline's list of samples is missing"
    else:
        detail = f"{counts}: {changes}" if str(changes) else counts
    return f"the sample set has changed ({detail}), so the numbers are not comparable."


def _notices(record: Record, baseline: Record, rows: Iterable[Row]) -> list[str]:
    notices = [
        f"The baseline was measured with {what} {old}, now {new}."
        for what, old, new in circumstances_changed(record, baseline)
    ]
    libraries = [f"{name} {old}, now {new}" for name, old, new in libraries_changed(record, baseline)]
    if libraries:
        notices.append(f"The baseline was measured with other libraries: {', '.join(libraries)}.")
    if record["max_drop"] != baseline["max_drop"]:
        notices.append(
            f"max_drop is {record['max_drop']:g}, but the baseline's thresholds come from "
            f"{baseline['max_drop']:g} until it is updated."
        )
    for row in rows:
        notices += _row_notice(row, record, baseline)
    return notices


def _collapse_notice(record: Record, baseline: Record, accepted: bool) -> list[str]:
    if record.get("collapsed_onto") is None or "collapsed_onto" not in baseline:
        return []
    end = "and this baseline accepts it" if accepted else "as in the baseline"
    return [f"The model answers {quoted(record['collapsed_onto'])} nearly always, {end}."]


def _row_notice(row: Row, record: Record, baseline: Record) -> list[str]:
    title = clean(metric_of(row.metric).title)
    if row.now is not None and row.threshold is None:
        reason = (
            "its threshold is null" if row.metric in baseline["thresholds"] else "the baseline does not have it"
        )
        measured = entry_text(metric_of(row.metric), row.now)
        return [f"{title} ({measured}) is not gated: {reason}."]
    if not row.pinned and row.metric in baseline.get("pinned", []):
        return [f"The threshold of {title} was pinned and is no more; it holds until the baseline is updated."]
    return []
