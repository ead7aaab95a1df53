"""Support vector machines, as libsvm computes them (specification: `SVM.proto`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.kernels import make_kernel
from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import (
    InputVector,
    Vector,
    classifier,
    logistic,
    regressor,
    required_labels,
)


@feature_model("supportVectorRegressor")
def support_vector_regressor(model: FeatureModel) -> Predict:
    """The sum of coefficient times kernel over the support vectors, minus rho."""
    count, kernel = make_kernel(model, InputVector(model))
    coefficients = np.array(model.params.coefficients.alpha, np.float64)
    if len(coefficients) != count:
        raise model.damaged(f"{len(coefficients)} coefficients do not fit {count} support vectors")
    return regressor(model, 1, lambda values: np.array([coefficients @ kernel(values) - model.params.rho]))


@feature_model("supportVectorClassifier")
def support_vector_classifier(model: FeatureModel) -> Predict:
    """One decision for each pair of classes.

    With `probA` and `probB` the answer is the class of the highest probability, as in libsvm's
    `svm_predict_probability`; without them the one with the most votes, and the scores are shares of the votes.
    """
    count, kernel = make_kernel(model, InputVector(model))
    classes = len(required_labels(model))
    pairs = classes * (classes - 1) // 2
    coefficients, ends = _coefficients(model, count, classes)
    rho = np.array(model.params.rho, np.float64)
    slopes = np.array(model.params.probA, np.float64)
    intercepts = np.array(model.params.probB, np.float64)
    if len(rho) != pairs or len(slopes) != len(intercepts) or len(slopes) not in (0, pairs):
        raise model.damaged(f"rho, probA or probB do not fit {pairs} pairs of classes")
    if model.description.probabilities_name and not len(slopes) and pairs:
        raise model.refuse("an output for probabilities without probA and probB to compute them")
    first, second = np.triu_indices(classes, 1)

    def scores_of(values: Mapping[str, Any]) -> Vector:
        parts = np.split(coefficients * kernel(values), ends, axis=1)
        sums = np.stack([part.sum(axis=1) for part in parts], axis=1)
        # Row j - 1 is against a later class j, row i against an earlier class i.
        decisions = sums[second - 1, first] + sums[first, second] - rho if pairs else rho
        if not len(slopes):
            return votes(decisions, classes)
        return couple(logistic(-(slopes * decisions + intercepts)).clip(1e-7, 1 - 1e-7), classes)

    return classifier(model, scores_of)


def votes(decisions: Vector, classes: int) -> Vector:
    """The share of votes of each class: a positive decision is a vote for the first of a pair.

    Pairs are in the order (0, 1), (0, 2), ..., (1, 2), ...
    """
    first, second = np.triu_indices(classes, 1)
    counts = np.bincount(np.where(decisions > 0, first, second), minlength=classes)
    return counts / len(decisions) if len(decisions) else np.ones(classes)


def couple(probabilities: Vector, classes: int) -> Vector:
    """Class probabilities from those of each pair, given for its first class; pairs in the order of `votes`.

    The second method of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
    coupling" (2004), algorithm 2, with libsvm's stopping rule. Two classes need no coupling.
    """
    if classes == 2:
        return np.array([probabilities[0], 1.0 - probabilities[0]])
    against = np.zeros((classes, classes))
    first, second = np.triu_indices(classes, 1)
    against[first, second], against[second, first] = probabilities, 1.0 - probabilities
    matrix = -against.T * against
    np.fill_diagonal(matrix, (against**2).sum(axis=0))
    shares = np.full(classes, 1.0 / classes)
    for _ in range(max(100, classes)):
        slope = matrix @ shares
        mean = shares @ slope
        if np.abs(slope - mean).max() < 0.005 / classes:
            break
        for one in range(classes):
            step = (mean - slope[one]) / matrix[one, one]
            shares[one] += step
            mean = (mean + step * (step * matrix[one, one] + 2 * slope[one])) / (1 + step) ** 2
            slope = (slope + step * matrix[one]) / (1 + step)
            shares /= 1 + step
    return shares


def _coefficients(model: FeatureModel, count: int, classes: int) -> tuple[Vector, list[int]]:
    """The coefficients, shape (classes - 1, support vectors), and where the vectors of each class end.

    The last class ends where the array does. libsvm stores for each vector one coefficient per other class.
    """
    counts = [int(number) for number in model.params.numberOfSupportVectorsPerClass]
    rows = [list(row.alpha) for row in model.params.coefficients]
    if len(counts) != classes or min(counts, default=0) < 0 or sum(counts) != count:
        raise model.damaged(f"the numbers of support vectors per class do not fit {count} of {classes} classes")
    if len(rows) != classes - 1 or any(len(row) != count for row in rows):
        raise model.damaged(f"the coefficients do not fit {count} support vectors of {classes} classes")
    return np.array(rows, np.float64).reshape(classes - 1, count), np.cumsum(counts)[:-1].tolist()
