"""From the scores of two classifiers to every metric of a classifier."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.metrics import accuracy, agreement, concentration, divergence
from pytest_quantguard.metrics.answers import (
    NEAR_TIE,
    Integers,
    Scores,
    class_of_place,
    margins,
    picked,
    top_places,
)
from pytest_quantguard.metrics.results import (
    ClassifierMetrics,
    ClassRow,
    Concentration,
    Flips,
    LabelledMetrics,
    SampleRow,
)
from pytest_quantguard.metrics.statistics import mcnemar_p

TOP = 5


class _Answers(NamedTuple):
    """What one model answered: best place, margin and classes of the best five per sample."""

    best: Integers
    confidence: NDArray[np.float64]
    margin: NDArray[np.float64]
    top5: Integers

    @property
    def classes(self) -> Integers:
        return self.top5[:, 0]


def classifier_metrics(
    float_scores: Scores,
    quantized_scores: Scores,
    labels: Sequence[str],
    sample_names: Sequence[str],
    sample_labels: Sequence[str | None],
) -> ClassifierMetrics:
    """Every metric of a classifier.

    Args:
        float_scores: finite, shape (samples, places), at least one sample.
        quantized_scores: the same shape.
        labels: the model's labels as text, one per place; a label may stand there more than once.
        sample_names: one per sample.
        sample_labels: one per sample, each one of `labels`; accuracy is measured if none is None.
    """
    classes = class_of_place(labels)
    before = _answers(float_scores, classes)
    after = _answers(quantized_scores, classes)
    truth = _truth(labels, sample_labels)
    class_count = len(set(labels))
    diverged = divergence.kullback_leibler(float_scores, quantized_scores)
    worst = min(range(len(sample_names)), key=lambda row: (-diverged[row], sample_names[row]))
    expected = [before.classes] if truth is None else [before.classes, truth]
    collapsed = concentration.collapsed_onto(after.classes, expected)
    return ClassifierMetrics(
        top1_agreement=agreement.top1_agreement(before.classes, after.classes),
        top5_agreement=agreement.top5_agreement(before.classes, after.top5) if class_count > TOP else None,
        flips=_flips(before, after, truth),
        float_concentration=_concentration(before, labels),
        quantized_concentration=_concentration(after, labels),
        collapsed_onto=None if collapsed is None else labels[collapsed],
        mean_divergence=divergence.mean(diverged),
        worst_divergence=float(diverged[worst]),
        worst_divergence_sample=sample_names[worst],
        confidence_lost=divergence.confidence_lost(float_scores, quantized_scores, before.best),
        near_ties=int(np.count_nonzero(before.margin < NEAR_TIE)),
        labelled=None if truth is None else _labelled(before, after, truth, labels, class_count),
        rows=_rows(before, after, labels, sample_names, sample_labels),
        class_count=class_count,
    )


def _answers(scores: Scores, classes: Integers) -> _Answers:
    top = top_places(scores, TOP)
    best = top[:, 0]
    return _Answers(best, picked(scores, best), margins(scores, best, classes), classes[top])


def _truth(labels: Sequence[str], sample_labels: Sequence[str | None]) -> Integers | None:
    """The right class of each sample; None if a sample has no label."""
    number: dict[str, int] = {}
    for place, label in enumerate(labels):
        number.setdefault(label, place)
    known = [number[label] for label in sample_labels if label is not None]
    return np.array(known, dtype=np.int64) if len(known) == len(sample_labels) else None


def _flips(before: _Answers, after: _Answers, truth: Integers | None) -> Flips:
    total = agreement.count_flips(before.classes, after.classes)
    if truth is None:
        return Flips(total)
    return Flips(total, *agreement.divide_flips(before.classes, after.classes, truth))


def _concentration(answers: _Answers, labels: Sequence[str]) -> Concentration:
    most, share, distinct = concentration.spread(answers.classes)
    return Concentration(labels[most], share, distinct)


def _labelled(
    before: _Answers, after: _Answers, truth: Integers, labels: Sequence[str], class_count: int
) -> LabelledMetrics:
    flips = agreement.divide_flips(before.classes, after.classes, truth)
    by_class = accuracy.accuracy_by_class(before.classes, truth)
    by_class_now = accuracy.accuracy_by_class(after.classes, truth)
    has_top5 = class_count > TOP
    return LabelledMetrics(
        float_top1=accuracy.top1_accuracy(before.classes, truth),
        quantized_top1=accuracy.top1_accuracy(after.classes, truth),
        float_top5=accuracy.top5_accuracy(before.top5, truth) if has_top5 else None,
        quantized_top5=accuracy.top5_accuracy(after.top5, truth) if has_top5 else None,
        classes=tuple(ClassRow(labels[number], share, by_class_now[number]) for number, share in by_class.items()),
        mcnemar_p=mcnemar_p(flips.broken, flips.fixed),
    )


def _rows(
    before: _Answers,
    after: _Answers,
    labels: Sequence[str],
    sample_names: Sequence[str],
    sample_labels: Sequence[str | None],
) -> tuple[SampleRow, ...]:
    columns = zip(
        sample_names,
        sample_labels,
        (labels[number] for number in before.classes.tolist()),
        before.confidence.tolist(),
        before.margin.tolist(),
        (labels[number] for number in after.classes.tolist()),
        after.confidence.tolist(),
        after.margin.tolist(),
        (before.margin < NEAR_TIE).tolist(),
        strict=True,
    )
    return tuple(SampleRow(*column) for column in columns)
