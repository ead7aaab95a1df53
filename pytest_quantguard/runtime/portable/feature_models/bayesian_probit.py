"""Bayesian probit regression (specification: `BayesianProbitRegressor.proto`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import normal_cdf


@feature_model("bayesianProbitRegressor")
def bayesian_probit_regressor(model: FeatureModel) -> Predict:
    """The mean and variance of a sum of normal weights, and the probability that follows.

    The probability is the standard normal distribution at mean / sqrt(beta ** 2 + variance). The file does not
    store beta; it is 1 here, as in probit regression. Weights are chosen by feature and value: from a vector with
    one value per feature, or a matrix with rows of (feature, value).
    """
    params = model.params
    for what, name in (
        ("sampled", params.sampledProbabilityOutputFeatureName),
        ("pessimistic", params.pessimisticProbabilityOutputFeatureName),
    ):
        if name and any(output.name == name for output in model.description.outputs):
            raise model.refuse(f"the {what} probability, which the specification leaves open,")
    weights = {
        (feature.featureId, weight.featureValue): weight.featureWeight
        for feature in params.features
        for weight in feature.weights
    }
    if not all(gaussian.precision > 0 for gaussian in [params.bias, *weights.values()]):
        raise model.damaged("a weight has no positive precision")
    taken = model.input_named(params.regressionInputFeatureName, "multiArrayType")
    outputs = model.description.outputs
    predicted = model.predicted()

    def predict(values: Mapping[str, Any]) -> Answer:
        chosen = [params.bias]
        for key in _keys(values[taken.name]):
            if key not in weights:
                raise model.failed(f"feature {key[0]} has no weight for the value {key[1]}")
            chosen.append(weights[key])
        mean = sum(gaussian.mean for gaussian in chosen)
        variance = sum(1.0 / gaussian.precision for gaussian in chosen)
        found = {
            predicted.name: normal_cdf(np.array([mean / np.sqrt(1.0 + variance)])),
            params.meanOutputFeatureName: mean,
            params.varianceOutputFeatureName: variance,
        }
        features = {output.name: found[output.name] for output in outputs if output.name in found}
        return Answer({output.name: model.value(output, features[output.name]) for output in outputs})

    unknown = [
        output.name
        for output in outputs
        if output.name not in (predicted.name, params.meanOutputFeatureName, params.varianceOutputFeatureName)
    ]
    if unknown:
        raise model.damaged(f"nothing computes its output {unknown[0]!r}")
    return predict


def _keys(array: NDArray[Any]) -> list[tuple[int, int]]:
    if array.ndim == 2:
        return [(int(row[0]), int(row[1])) for row in array[:, :2].tolist()]
    return [(feature, int(value)) for feature, value in enumerate(array.reshape(-1).tolist())]
