"""Nearest neighbours (specification: `NearestNeighbors.proto`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import (
    InputVector,
    Vector,
    classifier,
    required_labels,
)


@feature_model("kNearestNeighborsClassifier")
def k_nearest_neighbors_classifier(model: FeatureModel) -> Predict:
    """The share of each label among the nearest points, counted or weighted by 1 / distance.

    The distance is the only one of the format, the squared Euclidean. Points at distance zero have all the weight.
    A k-d tree finds the same points as the linear index, so both are searched alike. Without points the default
    label is the answer.
    """
    params = model.params
    labels = required_labels(model)
    points, owners = _points(model)
    inputs = InputVector(model)
    inputs.require(points.shape[1], "it has points")
    kind = params.WhichOneof("ClassLabels")
    order = {label: place for place, label in enumerate(labels)}
    classes = np.array([order[label] for label in owners], np.int64)
    neighbors = min(int(params.numberOfNeighbors.defaultValue), len(points))
    weighting = params.WhichOneof("WeightingScheme")
    if params.numberOfNeighbors.defaultValue < 1 or weighting is None or (kind is None and len(points)):
        raise model.damaged("it has no number of neighbours, no weighting or no labels")

    def scores_of(values: Mapping[str, Any]) -> Vector:
        x = inputs.read(values, size=points.shape[1])
        if not len(points):
            return np.ones(1)
        distances = ((points - x) ** 2).sum(axis=1)
        # Of points that are equally far, those that come first in the file.
        nearest = np.argsort(distances, kind="stable")[:neighbors]
        weights = np.ones(neighbors)
        if weighting == "inverseDistanceWeighting":
            exact = distances[nearest] == 0
            weights = exact.astype(np.float64) if exact.any() else 1.0 / distances[nearest]
        shares = np.bincount(classes[nearest], weights / weights.sum(), minlength=len(labels))
        return shares.astype(np.float64)

    return classifier(model, scores_of)


def _points(model: FeatureModel) -> tuple[Vector, list[Any]]:
    """The points, shape (points, dimensions), and the label of each."""
    index = model.params.nearestNeighborsIndex
    kind = model.params.WhichOneof("ClassLabels")
    owners = list(getattr(model.params, kind).vector) if kind else []
    dimensions = index.numberOfDimensions
    if dimensions < 1 or len(owners) != len(index.floatSamples):
        raise model.damaged(
            f"{len(owners)} labels and {len(index.floatSamples)} points of {dimensions} dimensions"
        )
    if any(len(sample.vector) != dimensions for sample in index.floatSamples):
        raise model.damaged(f"a point has not {dimensions} dimensions")
    if index.WhichOneof("IndexType") is None or index.WhichOneof("DistanceFunction") is None:
        raise model.damaged("it has no index or no distance function")
    if index.HasField("singleKdTreeIndex") and index.singleKdTreeIndex.leafSize < 1:
        raise model.damaged(f"the leaves of its tree hold {index.singleKdTreeIndex.leafSize} points")
    points = np.array([sample.vector for sample in index.floatSamples], np.float64)
    return (points if len(owners) else np.empty((0, min(dimensions, 1 << 24)))), owners
