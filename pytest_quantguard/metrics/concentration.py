"""Concentration: how answers spread over the classes, and whether a model has collapsed onto one.

Answers are class numbers (metrics.answers), integers of shape (samples,).
"""

from typing import NamedTuple

import numpy as np

from pytest_quantguard.metrics.answers import Integers
from pytest_quantguard.metrics.share import Share

COLLAPSED_SHARE = 0.9
"""A collapsed model gives one answer to at least this share of the samples ..."""
EXPECTED_SHARE = 0.75
"""... of which at most this share may be expected to have it ..."""
MOVED_SAMPLES = 5
"""... and at least so many samples more have the answer than expected."""


class Spread(NamedTuple):
    """How one model's answers spread over the classes."""

    most_predicted: int
    """A class number; ties go to the first in label order."""
    share: Share
    distinct: int


def spread(answers: Integers) -> Spread:
    """The most predicted class, its share, and the number of distinct classes."""
    counts = np.bincount(answers)
    most = int(counts.argmax())
    return Spread(most, Share(int(counts[most]), len(answers)), int(np.count_nonzero(counts)))


def is_collapsed(most_predicted: Share, expected_count: int) -> bool:
    """Whether so many equal answers are a collapse.

    Conservative on purpose, because the verdict is blunt ("a model that thinks everything is a hot dog"). One
    answer for nearly everything is no collapse where it is expected, as in a folder that holds one class. So
    three things must hold: one class takes at least 90 % of the answers, at most 75 % are expected to have it,
    and at least five more samples have it than are expected to.

    Args:
        most_predicted: the share of the most predicted class.
        expected_count: the number of samples that are expected to have this class.
    """
    return (
        most_predicted >= COLLAPSED_SHARE
        and expected_count / most_predicted.total <= EXPECTED_SHARE
        and most_predicted.count - expected_count >= MOVED_SAMPLES
    )


def collapsed_onto(answers: Integers, expected: list[Integers]) -> int | None:
    """The class that a collapsed model nearly always answers; None if it has not collapsed.

    Args:
        answers: the suspected model's answers.
        expected: what the samples may be expected to be: the float model's answers, and the labels where there
            are any. The one that expects the class most often counts.
    """
    most, share, _ = spread(answers)
    expected_count = max(int(np.count_nonzero(known == most)) for known in expected)
    return most if is_collapsed(share, expected_count) else None
