"""Generalized linear models (specification: `GLMRegressor.proto`, `GLMClassifier.proto`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import (
    InputVector,
    Vector,
    classifier,
    logistic,
    normal_cdf,
    regressor,
    required_labels,
    softmax,
)


@feature_model("glmRegressor")
def glm_regressor(model: FeatureModel) -> Predict:
    """weights * x + offset, then `postEvaluationTransform`: none, logit or probit."""
    linear = _Linear(model)
    transform = model.params.PostEvaluationTransform.Name(model.params.postEvaluationTransform)

    def values_of(values: Mapping[str, Any]) -> Vector:
        margins = linear(values)
        if transform == "NoTransform":
            return margins
        return logistic(margins) if transform == "Logit" else normal_cdf(margins)

    return regressor(model, linear.rows, values_of)


@feature_model("glmClassifier")
def glm_classifier(model: FeatureModel) -> Predict:
    """Two classes: the probability of the second from one row of weights, with logit or probit.

    More classes: `ReferenceClass` is softmax with 0 for the first class; `OneVsRest` the logistic of each row,
    divided by their sum.
    """
    params = model.params
    linear = _Linear(model)
    classes = len(required_labels(model))
    one_vs_rest = params.classEncoding == params.OneVsRest
    rows = classes if one_vs_rest and classes > 2 else classes - 1
    if linear.rows != rows or classes < 2:
        raise model.damaged(f"{linear.rows} rows of weights do not fit {classes} labels")
    link = normal_cdf if params.postEvaluationTransform == params.Probit else logistic
    if classes > 2 and link is normal_cdf:
        raise model.damaged("probit is for two classes only")

    def scores_of(values: Mapping[str, Any]) -> Vector:
        margins = linear(values)
        if classes == 2:
            return np.concatenate([link(-margins), link(margins)])
        if not one_vs_rest:
            return softmax(np.concatenate([[0.0], margins]))
        each = logistic(margins)
        total: float = each.sum()
        return each / total

    return classifier(model, scores_of)


class _Linear:
    """weights * x + offset for the vector of all inputs."""

    def __init__(self, model: FeatureModel) -> None:
        weights = [list(row.value) for row in model.params.weights]
        lengths = {len(row) for row in weights}
        if len(lengths) != 1 or len(weights) != len(model.params.offset):
            raise model.damaged("the rows of weights and the offsets do not fit each other")
        self._weights = np.array(weights, np.float64)
        self._offset = np.array(model.params.offset, np.float64)
        self._inputs = InputVector(model)
        self._inputs.require(self._weights.shape[1], "it has weights")

    @property
    def rows(self) -> int:
        return len(self._weights)

    def __call__(self, values: Mapping[str, Any]) -> Vector:
        margins: Vector = self._weights @ self._inputs.read(values, size=self._weights.shape[1]) + self._offset
        return margins
