"""Agreement: how often the quantized model answers what the float model answers.

Answers are class numbers (metrics.answers), integers of shape (samples,).
"""

from typing import NamedTuple

import numpy as np

from pytest_quantguard.metrics.answers import Integers
from pytest_quantguard.metrics.share import Share


class FlipCounts(NamedTuple):
    """How changed answers divide; they add up to the total."""

    fixed: int
    """Wrong before, right now."""
    broken: int
    """Right before, wrong now."""
    wrong_to_wrong: int


def top1_agreement(float_answers: Integers, quantized_answers: Integers) -> Share:
    """The share of samples with the same answer (coremltools: `TopKMetrics(topk=1)`)."""
    return Share(int(np.count_nonzero(float_answers == quantized_answers)), len(float_answers))


def top5_agreement(float_answers: Integers, quantized_top5: Integers) -> Share:
    """The share of samples whose float answer is among the quantized model's best five.

    As coremltools' `compare_models` defines it (`TopKMetrics(topk=5)`). It is not symmetric, and with five
    classes or fewer it is always 1.

    Args:
        float_answers: shape (samples,).
        quantized_top5: shape (samples, 5), as classes.
    """
    return among_top(float_answers, quantized_top5)


def among_top(wanted: Integers, top: Integers) -> Share:
    """The share of samples whose wanted class is among their top classes, shape (samples, k)."""
    return Share(int(np.count_nonzero((top == wanted[:, np.newaxis]).any(axis=1))), len(wanted))


def count_flips(float_answers: Integers, quantized_answers: Integers) -> int:
    """The number of samples with another answer."""
    return int(np.count_nonzero(float_answers != quantized_answers))


def divide_flips(float_answers: Integers, quantized_answers: Integers, truth: Integers) -> FlipCounts:
    """Divide the changed answers by what they were and are; `truth` holds the right classes."""
    was_right = float_answers == truth
    is_right = quantized_answers == truth
    changed = float_answers != quantized_answers
    return FlipCounts(
        fixed=int(np.count_nonzero(is_right & ~was_right)),
        broken=int(np.count_nonzero(was_right & ~is_right)),
        wrong_to_wrong=int(np.count_nonzero(changed & ~was_right & ~is_right)),
    )
