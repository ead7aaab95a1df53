"""Tree ensembles for regression and classification (specification: `TreeEnsemble.proto`)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.trees import Forest, read_forest
from pytest_quantguard.runtime.portable.feature_models.vectors import (
    InputVector,
    Vector,
    classifier,
    logistic,
    regressor,
    required_labels,
    softmax,
)

_TRANSFORMS = (
    "NoTransform",
    "Classification_SoftMax",
    "Regression_Logistic",
    "Classification_SoftMaxWithZeroClassReference",
)


@feature_model("treeEnsembleRegressor", takes_optional=True)
def tree_ensemble_regressor(model: FeatureModel) -> Predict:
    """The sums over all trees, then the post-evaluation transform."""
    forest = read_forest(model)
    total = _total(model, forest)
    transform = _transform(model)
    if transform == _TRANSFORMS[3]:
        raise model.refuse("softmax with a reference class, which a regressor does not have,")
    apply: dict[str, Callable[[Vector], Vector]] = {
        "NoTransform": lambda sums: sums,
        "Classification_SoftMax": softmax,
        "Regression_Logistic": logistic,
    }
    return regressor(model, len(forest.base), lambda values: apply[transform](total(values)))


@feature_model("treeEnsembleClassifier", takes_optional=True)
def tree_ensemble_classifier(model: FeatureModel) -> Predict:
    """One sum per class, or one for two classes: that of the second class.

    The transform gives the probabilities. One sum without transform is the probability of the second class itself.
    """
    forest = read_forest(model)
    total = _total(model, forest)
    classes, dimensions = len(required_labels(model)), len(forest.base)
    if dimensions != classes and (dimensions, classes) != (1, 2):
        raise model.damaged(f"{dimensions} dimensions do not fit {classes} labels")
    finish = _pair(model) if (dimensions, classes) == (1, 2) else _each(model, forest)
    return classifier(model, lambda values: finish(total(values)))


def _pair(model: FeatureModel) -> Callable[[Vector], Vector]:
    """Two probabilities from one sum."""
    transform = _transform(model)
    if transform == "NoTransform":
        return lambda sums: np.array([1.0 - sums[0], sums[0]])
    if transform == "Classification_SoftMax":
        raise model.refuse("softmax of a single sum")
    # Softmax of (0, sum) is the logistic function.
    return lambda sums: np.concatenate([logistic(-sums), logistic(sums)])


def _each(model: FeatureModel, forest: Forest) -> Callable[[Vector], Vector]:
    """One probability per sum."""
    transform = _transform(model)
    if transform == "NoTransform":
        return lambda sums: sums
    if transform == "Regression_Logistic":
        return logistic
    if transform == _TRANSFORMS[3] and (forest.base[0] or forest.addend[forest.dimension == 0].any()):
        # Nothing says whether the sum of the first class is then ignored or counted beside the reference.
        raise model.refuse("softmax with zero for the first class, where that class has values of its own,")
    return softmax


def _transform(model: FeatureModel) -> str:
    number = model.params.postEvaluationTransform
    if not 0 <= number < len(_TRANSFORMS):
        raise model.damaged(f"there is no post-evaluation transform {number}")
    return _TRANSFORMS[number]


def _total(model: FeatureModel, forest: Forest) -> Callable[[Mapping[str, Any]], Vector]:
    inputs = InputVector(model)
    if inputs.size is not None and forest.features > inputs.size:
        raise model.damaged(f"a branch looks at feature {forest.features - 1} of {inputs.size}")

    def total(values: Mapping[str, Any]) -> Vector:
        x = inputs.read(values)
        if x.size < forest.features:
            raise model.failed(f"a branch looks at feature {forest.features - 1} of {x.size}")
        return forest.evaluate(x)

    return total
