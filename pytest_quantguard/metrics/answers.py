"""A classifier's answers: which class leads, by how much, and which follow.

Scores are float32 of shape (samples, places), one place per entry of the model's label list, in its order. Ties
are broken by that order: the first place wins. A label that stands more than once in the list (SqueezeNet for
ImageNet: 1000 entries, 997 distinct) keeps all its places; answers are compared as classes, and the number of a
class is its label's first place.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Integers = NDArray[np.int64]

NEAR_TIE = 1e-4
"""Below this margin, rounding on another machine may flip an answer."""

BLOCK_ENTRIES = 1 << 21
"""Entries worked on at once, so that temporary arrays stay small beside the scores."""


def class_of_place(labels: Sequence[str]) -> Integers:
    """The class of each place of a label list: the first place that holds the same label."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(label, place) for place, label in enumerate(labels)], dtype=np.int64)


def row_blocks(scores: Scores) -> Iterator[slice]:
    """Slices of rows that together cover the scores, about `BLOCK_ENTRIES` entries each."""
    rows = max(1, BLOCK_ENTRIES // max(1, scores.shape[1]))
    return (slice(start, start + rows) for start in range(0, scores.shape[0], rows))


def top_places(scores: Scores, count: int) -> Integers:
    """The places with the highest scores, best first; shape (samples, min(count, places)).

    Equal scores are ordered by place, as coremltools' `TopKMetrics` orders a dictionary of probabilities.
    """
    count = min(count, scores.shape[1])
    places = np.empty((scores.shape[0], count), dtype=np.int64)
    for rows in row_blocks(scores):
        left = scores[rows].copy()
        index = np.arange(left.shape[0])
        for rank in range(count):
            best = left.argmax(axis=1)
            places[rows, rank] = best
            left[index, best] = -np.inf
    return places


def picked(scores: Scores, places: Integers) -> NDArray[np.float64]:
    """The score that each sample has at its place; shape (samples,)."""
    return scores[np.arange(scores.shape[0]), places].astype(np.float64)


def margins(scores: Scores, best: Integers, classes: Integers) -> NDArray[np.float64]:
    """By how much each answer leads over the best place of any other class; shape (samples,).

    Args:
        scores: shape (samples, places).
        best: the leading place of each sample.
        classes: the class of each place.

    Returns:
        Never negative. With one class there is no runner-up, and the margin is the score itself.
    """
    runner_up = np.empty(scores.shape[0], dtype=np.float64)
    for rows in row_blocks(scores):
        same_class = classes[np.newaxis, :] == classes[best[rows], np.newaxis]
        runner_up[rows] = np.where(same_class, np.float32(-np.inf), scores[rows]).max(axis=1)
    runner_up[np.isneginf(runner_up)] = 0.0
    return picked(scores, best) - runner_up
