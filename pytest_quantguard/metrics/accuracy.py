"""Accuracy: how often a model answers the label, over all samples and per class.

Answers and labels are class numbers (metrics.answers), integers of shape (samples,).
"""

import numpy as np

from pytest_quantguard.metrics.agreement import among_top
from pytest_quantguard.metrics.answers import Integers
from pytest_quantguard.metrics.share import Share


def top1_accuracy(answers: Integers, truth: Integers) -> Share:
    """The share of samples whose answer is the label."""
    return Share(int(np.count_nonzero(answers == truth)), len(truth))


def top5_accuracy(top5: Integers, truth: Integers) -> Share:
    """The share of samples whose label is among the model's best five, shape (samples, 5), as classes."""
    return among_top(truth, top5)


def accuracy_by_class(answers: Integers, truth: Integers) -> dict[int, Share]:
    """The accuracy on the samples of each class, in the order of the labels; only classes with samples."""
    places = int(max(answers.max(), truth.max())) + 1
    totals = np.bincount(truth, minlength=places)
    rights = np.bincount(truth[answers == truth], minlength=places)
    return {int(number): Share(int(rights[number]), int(totals[number])) for number in np.flatnonzero(totals)}
