"""Sentences that a reader of a comparison should know: what was left out and why, and what it cannot tell."""

import math
from collections import Counter
from collections.abc import Sequence

from pytest_quantguard.metrics.concentration import is_collapsed
from pytest_quantguard.metrics.results import ClassifierMetrics, LabelledMetrics
from pytest_quantguard.metrics.statistics import smallest_resolvable_drop


def classifier_notes(metrics: ClassifierMetrics, labels: Sequence[str], max_drop: float) -> list[str]:
    """What a reader should know of a classifier's metrics.

    Args:
        metrics: what was measured.
        labels: the model's labels as text.
        max_drop: the allowed drop, as a share.
    """
    total = metrics.top1_agreement.total
    notes = []
    if metrics.top5_agreement is None:
        notes.append(
            f"Top-5 is left out: the model has only {metrics.class_count} classes, so it would always be 100 %."
        )
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        verb = "label stands" if len(repeated) == 1 else "labels stand"
        notes.append(
            f"{len(repeated)} {verb} more than once in the model's list, for instance {repeated[0]!r}; "
            "equal labels count as one class."
        )
    if metrics.labelled is None:
        notes.append("Accuracy is left out: not every sample has a label.")
        notes += _step_note(total, max_drop)
    else:
        notes += _resolution_note(total, max_drop)
        notes += _float_collapse_note(metrics, metrics.labelled)
    return notes


def points(share: float) -> str:
    """A share in points, for a sentence: `1 point`, `0.86 points`."""
    value = share * 100
    text = f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{text} point" if text == "1" else f"{text} points"


def _resolution_note(total: int, max_drop: float) -> list[str]:
    smallest = smallest_resolvable_drop(total)
    if max_drop <= 0 or smallest <= max_drop:
        return []
    limit = "they cannot tell any" if smallest > 1 else f"the smallest they can tell is {points(smallest)}"
    enough = math.ceil(smallest * total / max_drop - 1e-9)
    drop = points(max_drop)
    return [f"{_samples(total)} cannot tell a drop of {drop} from none: {limit}; use {enough} samples or more."]


def _step_note(total: int, max_drop: float) -> list[str]:
    if max_drop <= 0 or 1 / total <= max_drop:
        return []
    return [f"{_samples(total)} cannot show a drop of {points(max_drop)}: one sample is {points(1 / total)}."]


def _float_collapse_note(metrics: ClassifierMetrics, labelled: LabelledMetrics) -> list[str]:
    """A float model that is wrong in itself makes agreement meaningless."""
    label = metrics.float_concentration.most_predicted
    share = metrics.float_concentration.most_predicted_share
    expected = sum(row.float_accuracy.total for row in labelled.classes if row.label == label)
    if not is_collapsed(share, expected):
        return []
    return [
        f"The float model itself answers {label!r} for {share.count} of {share.total} samples; "
        "check the model and how the samples are prepared."
    ]


def _samples(total: int) -> str:
    return "1 sample" if total == 1 else f"{total} samples"
