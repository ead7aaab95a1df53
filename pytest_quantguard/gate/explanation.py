"""The text of a failing gate: the sentence, the numbers, what lost most, and the command that accepts it."""

from collections.abc import Sequence

from pytest_quantguard.comparison import ClassifierMetrics, Comparison, SampleRow
from pytest_quantguard.gate.rules import metric_of
from pytest_quantguard.gate.table import align
from pytest_quantguard.gate.verdict import Row, Verdict
from pytest_quantguard.gate.wording import (
    change_text,
    clean,
    entry_text,
    number_text,
    percent,
    shorten,
    update_command,
)

CLASSES = (5, 20)
FLIPS = (10, 50)
"""How many rows are shown at verbosity 0 and 1; all above."""
COLUMNS = ("metric", "baseline", "threshold", "now", "change", "")
UNKNOWN = "-"
INDENT = "  "


def explain(
    verdict: Verdict, comparison: Comparison, command: str = "", baseline: str = "", verbosity: int = 0
) -> str:
    """The text of a verdict that did not pass.

    Args:
        verdict: what `judge` or an update said.
        comparison: the measurement behind it.
        command: what accepts the change; offered where the update would not be refused.
        baseline: the baseline's file, for thresholds that were edited there.
        verbosity: pytest's `-v` count; shows more classes and samples.
    """
    blocks = [[verdict.sentence], _metric_table(verdict.rows)]
    if verdict.kind in ("failed", "refused") and comparison.classifier is not None:
        classifier = comparison.classifier
        blocks += [_flip_counts(classifier, verbosity), _worst_classes(classifier, verbosity)]
        blocks.append(_flipped_samples(classifier.rows, verbosity))
    blocks.append([f"{INDENT}note: {clean(text)}" for text in (*verdict.notices, *comparison.notes)])
    if verdict.blocking:
        blocks.append(_kept_thresholds(verdict.blocking, baseline))
    elif verdict.kind in ("failed", "incomparable"):
        blocks.append([f"To accept the change: {command or update_command()}"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _kept_thresholds(rows: Sequence[Row], baseline: str) -> list[str]:
    """What to change before an update, which keeps these thresholds, can accept the change."""
    lines = ["An update keeps these thresholds. To accept the change, change them first:"]
    for row in rows:
        assert row.threshold is not None
        metric = metric_of(row.metric)
        where = "pinned in the marker" if row.pinned else f"edited by hand in {clean(baseline) or 'the baseline'}"
        lines.append(f"{INDENT}{clean(metric.title)}: {number_text(metric, row.threshold, 2)}, {where}")
    return lines


def _metric_table(rows: Sequence[Row]) -> list[str]:
    """Metric, baseline, threshold, now, change; columns in which nothing is known are left out."""
    if not rows:
        return []
    cells = [_metric_cells(row) for row in rows]
    known = [index for index in range(len(COLUMNS)) if any(row[index] != UNKNOWN for row in cells)]
    return align([[row[index] for index in known] for row in (COLUMNS, *cells)], indent=INDENT)


def _metric_cells(row: Row) -> tuple[str, ...]:
    metric = metric_of(row.metric)
    change = UNKNOWN
    if row.baseline is not None and row.now is not None:
        change = change_text(metric, row.baseline, row.now, 2)
    return (
        shorten(clean(metric.title), 30),
        UNKNOWN if row.baseline is None else entry_text(metric, row.baseline, 2, label_width=0),
        UNKNOWN if row.threshold is None else _threshold(row),
        UNKNOWN if row.now is None else entry_text(metric, row.now, 2, label_width=12),
        change,
        "" if row.ok else "<",
    )


def _threshold(row: Row) -> str:
    assert row.threshold is not None
    return number_text(metric_of(row.metric), row.threshold, 2) + (" pinned" if row.pinned else "")


def _flip_counts(classifier: ClassifierMetrics, verbosity: int) -> list[str]:
    flips = classifier.flips
    if not flips.total:
        return []
    text = f"{flips.total} of {classifier.top1_agreement.total} answers flipped"
    if flips.broken is not None:
        text += f": {flips.broken} broken, {flips.fixed} fixed, {flips.wrong_to_wrong} from wrong to another wrong"
    if classifier.labelled is not None:
        text += f" (McNemar test: p = {classifier.labelled.mcnemar_p:.2g})"
    lines = [text]
    if verbosity > 0:
        low, high = classifier.top1_agreement.interval
        lines.append(f"95 % interval of the top-1 agreement: {percent(low)} to {percent(high)}")
    return lines


def _worst_classes(classifier: ClassifierMetrics, verbosity: int) -> list[str]:
    if classifier.labelled is None:
        return []
    classes = classifier.labelled.classes
    lost = sorted((row for row in classes if row.delta < 0), key=lambda row: row.delta)
    shown = lost[: _limit(CLASSES, verbosity)]
    if not shown:
        return []
    rows = [("class", "samples", "float", "quantized", "change")]
    rows += [
        (
            shorten(clean(row.label), 40),
            str(row.float_accuracy.total),
            percent(row.float_accuracy),
            percent(row.quantized_accuracy),
            f"{row.delta * 100:+.1f} points",
        )
        for row in shown
    ]
    head = f"Classes that lost most ({len(shown)} of the {len(lost)} that lost accuracy):"
    if len(shown) == len(lost):
        head = f"Classes that lost accuracy ({len(lost)} of {len(classes)}):"
    return [head, *align(rows, right=(1, 2, 3, 4), indent=INDENT)]


def _flipped_samples(samples: Sequence[SampleRow], verbosity: int) -> list[str]:
    flipped = [row for row in samples if row.flipped]
    shown = flipped[: _limit(FLIPS, verbosity)]
    if not shown:
        return []
    rows: list[tuple[str, ...]] = [("sample", "label", "float answer", "quantized answer", "")]
    rows += [
        (
            shorten(clean(row.name), 34),
            "-" if row.label is None else shorten(clean(row.label), 16),
            _answer(row.float_answer, row.float_confidence),
            _answer(row.quantized_answer, row.quantized_confidence),
            "near-tie" if row.near_tie else "",
        )
        for row in shown
    ]
    if all(row.label is None for row in shown):
        rows = [(first, *others) for first, _, *others in rows]
    return [f"Flipped samples ({_of(len(shown), len(flipped))}):", *align(rows, indent=INDENT)]


def _answer(label: str, confidence: float) -> str:
    return f"{shorten(clean(label), 16)} ({float(confidence) * 100:.1f} %)"


def _of(shown: int, total: int) -> str:
    return f"{total}" if shown == total else f"{shown} of {total}"


def _limit(limits: tuple[int, int], verbosity: int) -> int | None:
    return limits[max(verbosity, 0)] if verbosity < len(limits) else None
