"""What regressors and classifiers have in common: one vector in, one prediction out."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.description import ArrayFeature, Label, OtherFeature
from pytest_quantguard.runtime.portable.answers import by_label
from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict
from pytest_quantguard.runtime.portable.shapes import allowed_shapes

Vector = NDArray[np.float64]

MAX_DIMENSIONS = 1 << 24
"""Entries that all inputs of a model may have together; more than any model takes, and 128 megabytes."""


class InputVector:
    """All inputs of a model, one after the other in the order of its description, as one vector.

    Numbers take one place, arrays as many as they have entries. What is missing is NaN.

    Raises:
        ModelFileError: an input is neither a number nor an array.
    """

    def __init__(self, model: FeatureModel) -> None:
        self._model = model
        self._sizes: dict[str, int | None] = {}
        for described in model.spec.description.input:
            feature = model.input_named(described.name)
            if isinstance(feature, ArrayFeature):
                allowed = allowed_shapes(described)
                varies = not allowed.default or allowed.listed or allowed.ranges
                self._sizes[feature.name] = None if varies else prod(allowed.default)
            elif isinstance(feature, OtherFeature) and feature.type_name in ("int64Type", "doubleType"):
                self._sizes[feature.name] = 1
            else:
                raise model.damaged(f"input {feature.name!r} is neither a number nor an array")
        if sum(size or 0 for size in self._sizes.values()) > MAX_DIMENSIONS:
            raise model.damaged(f"its inputs have more than {MAX_DIMENSIONS} entries")

    @property
    def size(self) -> int | None:
        """The number of entries; None if the file does not state it."""
        sizes = list(self._sizes.values())
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def require(self, size: int, what: str) -> None:
        """Refuse a file whose parameters are made for another number of entries."""
        if self.size is not None and self.size != size:
            raise self._model.damaged(f"{what} for {size} features, but the inputs have {self.size}")

    def read(self, values: Mapping[str, Any], *, size: int | None = None) -> Vector:
        """The vector of one sample, double precision.

        Raises:
            PredictionError: the sample has another number of entries than `size`.
        """
        parts = [self._part(name, values[name]) for name in self._sizes]
        vector = np.concatenate(parts) if parts else np.empty(0)
        if size is not None and len(vector) != size:
            raise self._model.failed(f"it takes {size} features, not {len(vector)}")
        return vector

    def _part(self, name: str, value: Any) -> Vector:
        if value is not None:
            return np.asarray(value, np.float64).reshape(-1)
        size = self._sizes[name]
        if size is None:
            raise self._model.failed(f"the input {name!r} is missing, and its size is not described")
        return np.full(size, np.nan)


def required_labels(model: FeatureModel) -> tuple[Label, ...]:
    """The labels of a classifier."""
    if not model.description.labels:
        raise model.damaged("it has no class labels")
    return model.description.labels


def classifier(model: FeatureModel, scores_of: Callable[[Mapping[str, Any]], Vector]) -> Predict:
    """A classifier from its scores, one per label; the label of the highest score is the answer.

    Of equal scores the first label in order wins.
    """
    labels = required_labels(model)
    label_output = model.output_named(model.spec.description.predictedFeatureName)
    probabilities_name = model.description.probabilities_name

    def predict(values: Mapping[str, Any]) -> Answer:
        scores = scores_of(values)
        features = {label_output.name: model.value(label_output, labels[int(scores.argmax())])}
        if probabilities_name:
            features[probabilities_name] = by_label(labels, scores)
        return Answer(features, scores.astype(np.float32))

    return predict


def regressor(model: FeatureModel, count: int, values_of: Callable[[Mapping[str, Any]], Vector]) -> Predict:
    """A regressor from the `count` values that it computes."""
    output = model.predicted()
    if count != 1 and not isinstance(output, ArrayFeature):
        raise model.damaged(f"it computes {count} values, but its output {output.name!r} is one number")

    def predict(values: Mapping[str, Any]) -> Answer:
        return Answer({output.name: model.value(output, values_of(values))})

    return predict


def logistic(values: Vector) -> Vector:
    """1 / (1 + exp(-x)), without overflow."""
    result: Vector = np.exp(-np.logaddexp(0.0, -values))
    return result


def softmax(values: Vector) -> Vector:
    """exp(x) / sum(exp(x)), without overflow."""
    powers: Vector = np.exp(values - values.max())
    total: float = powers.sum()
    return powers / total


def normal_cdf(values: Vector) -> Vector:
    """The standard normal distribution function, the inverse of probit."""
    from math import erfc, sqrt

    return np.array([0.5 * erfc(-value / sqrt(2)) for value in values.tolist()])
