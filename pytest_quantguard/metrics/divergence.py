"""Divergence: how far the quantized model's probabilities moved, even where its answer did not.

Everything is computed in float64. Sums over samples are exact (`math.fsum`), so that no result depends on the
order of the samples.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.metrics.answers import Integers, Scores, picked, row_blocks

FLOOR = 2.0**-24
"""The smallest positive float16. Below it, an engine that computes in half precision answers 0 where another
answers a tiny number; lifting both to the floor makes them comparable and keeps the logarithm finite."""


def are_probabilities(scores: Scores) -> bool:
    """Whether scores can be read as probabilities: none is negative. Networks without a softmax fail this."""
    return bool(scores.min(initial=0.0) >= 0.0)


def kullback_leibler(float_scores: Scores, quantized_scores: Scores) -> NDArray[np.float64]:
    """The Kullback-Leibler divergence of the quantized from the float probabilities, per sample.

    The sum over the classes of p * log(p / q), with p from the float and q from the quantized model. Before, each
    vector is scaled to the sum 1 (float16 probabilities miss it slightly), lifted to `FLOOR`, and scaled again.
    If either model has negative scores, both are put through a softmax first.

    Source: S. Kullback and R. A. Leibler, "On information and sufficiency", 1951.

    Args:
        float_scores: finite, shape (samples, classes).
        quantized_scores: the same shape.

    Returns:
        Shape (samples,), in nats, never negative; exactly 0 for equal scores, and at most about 17.
    """
    softmax = not (are_probabilities(float_scores) and are_probabilities(quantized_scores))
    divergence = np.empty(float_scores.shape[0], dtype=np.float64)
    for rows in row_blocks(float_scores):
        float_part = _distribution(float_scores[rows], softmax)
        ratio = float_part / _distribution(quantized_scores[rows], softmax)
        divergence[rows] = (float_part * np.log(ratio, out=ratio)).sum(axis=1)
    return np.maximum(divergence, 0.0)


def confidence_lost(float_scores: Scores, quantized_scores: Scores, float_best: Integers) -> float:
    """The mean drop of the score that the float model's own answer gets; negative where confidence rose.

    Args:
        float_scores: shape (samples, places).
        quantized_scores: the same shape.
        float_best: the float model's leading place, shape (samples,).
    """
    return mean(picked(float_scores, float_best) - picked(quantized_scores, float_best))


def mean(values: NDArray[np.float64]) -> float:
    """The mean, rounded once: the same for any order of the values."""
    return math.fsum(values.tolist()) / len(values)


def _distribution(scores: Scores, softmax: bool) -> NDArray[np.float64]:
    """Scores as float64 distributions without zeros, each row with the sum 1."""
    values = scores.astype(np.float64)
    if softmax:
        values -= values.max(axis=1, keepdims=True)
        np.exp(values, out=values)
    # A row of zeros (a tie of two classes at 0) stays zero here, and is even after the floor.
    values /= np.maximum(values.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    np.maximum(values, FLOOR, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values
