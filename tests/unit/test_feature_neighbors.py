"""Nearest neighbours against scikit-learn."""

import numpy as np
import pytest
from feature_model_makers import run
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

NAMES = ("setosa", "versicolor", "virginica")


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data[::2].astype(np.float32), data.target[::2]


def neighbors(rows, owners, *, default=NAMES[0], **options):
    import_coremltools()
    from coremltools.models.nearest_neighbors import KNearestNeighborsClassifierBuilder

    builder = KNearestNeighborsClassifierBuilder("x", "label", 4, default, **options)
    if len(rows):
        builder.add_samples(rows.tolist(), list(owners))
    return builder.spec


@pytest.mark.parametrize("index", ["linear", "kd_tree"])
@pytest.mark.parametrize("count", [1, 5])
def test_the_shares_of_the_nearest_points_equal_scikit_learn(iris, index, count):
    rows, targets = iris
    fitted = KNeighborsClassifier(count).fit(rows, targets)
    spec = neighbors(rows, [NAMES[target] for target in targets], index_type=index, number_of_neighbors=count)
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    samples = load_iris().data[1::4].astype(np.float32)
    for row, expected in zip(samples, fitted.predict_proba(samples), strict=True):
        answer = engine.predict({"x": row})
        np.testing.assert_allclose([answer["labelProbs"][name] for name in NAMES], expected, atol=1e-12)
        assert answer["label"] == NAMES[int(expected.argmax())]


def test_near_points_weigh_more_by_the_inverse_of_the_squared_distance(iris):
    rows, targets = iris
    fitted = KNeighborsClassifier(7, weights=lambda distances: 1 / distances**2).fit(rows, targets)
    spec = neighbors(rows, targets, default=0, weighting_scheme="inverse_distance", number_of_neighbors=7)
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    samples = load_iris().data[1::6] + 0.01
    samples = samples.astype(np.float32)
    for row, expected in zip(samples, fitted.predict_proba(samples), strict=True):
        answer = engine.predict({"x": row})["labelProbs"]
        np.testing.assert_allclose([answer[label] for label in (0, 1, 2)], expected, rtol=1e-6, atol=1e-12)


def test_a_point_at_distance_zero_decides_alone():
    rows = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]], np.float32)
    spec = neighbors(rows, ["a", "b", "b"], weighting_scheme="inverse_distance", number_of_neighbors=3)
    assert run(spec, x=[0, 0, 0, 0]) == {"label": "a", "labelProbs": {"a": 1.0, "b": 0.0}}


def test_more_neighbours_than_points_are_all_points():
    spec = neighbors(np.eye(4, dtype=np.float32)[:2], ["a", "b"], number_of_neighbors=5)
    assert run(spec, x=[0, 0, 0, 0])["labelProbs"] == {"a": 0.5, "b": 0.5}


def test_without_points_the_default_label_is_the_answer():
    spec = neighbors([], [], default="nothing")
    assert spec.isUpdatable
    assert run(spec, x=[0, 0, 0, 0]) == {"label": "nothing", "labelProbs": {"nothing": 1.0}}


def test_each_label_is_described_once_although_every_point_has_one(iris):
    rows, targets = iris
    assert describe(neighbors(rows, targets[::-1], default=9)).labels == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda knn: knn.stringClassLabels.vector.append("c"), "3 labels and 2 points of 4 dimensions"),
        (lambda knn: knn.nearestNeighborsIndex.floatSamples[0].vector.append(1), "a point has not 4 dimensions"),
        (lambda knn: knn.ClearField("WeightingScheme"), "it has no number of neighbours, no weighting"),
        (lambda knn: setattr(knn.numberOfNeighbors, "defaultValue", -5), "it has no number of neighbours"),
        (lambda knn: knn.nearestNeighborsIndex.ClearField("IndexType"), "it has no index or no distance"),
        (lambda knn: setattr(knn.nearestNeighborsIndex.singleKdTreeIndex, "leafSize", 0), "hold 0 points"),
    ],
)
def test_damaged_parameters_are_refused(change, message):
    spec = neighbors(np.eye(4, dtype=np.float32)[:2], ["a", "b"])
    change(spec.kNearestNeighborsClassifier)
    with pytest.raises(ModelFileError, match=message):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_an_absurd_number_of_dimensions_without_points_is_refused():
    spec = neighbors([], [])
    spec.kNearestNeighborsClassifier.nearestNeighborsIndex.numberOfDimensions = 2**31 - 1
    with pytest.raises(ModelFileError, match="it has points for"):
        FeatureModelEngine(spec, None, name="model.mlmodel")
