"""Generalized linear models against scikit-learn and the formulas of the specification."""

import numpy as np
import pytest
from feature_model_makers import classifier_spec, new_spec, run
from scipy.stats import norm
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from pytest_quantguard.errors import ModelFileError, PredictionError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

# scikit-learn 1.5 calls scipy in a way that newer scipy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")

NAMES = ("setosa", "versicolor", "virginica")


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data[::5], data.target[::5]


def fill(params, weights, offsets):
    for row in np.atleast_2d(weights):
        params.weights.add().value.extend(row)
    params.offset.extend(np.atleast_1d(offsets))


def linear_classifier(weights, offsets, labels=NAMES, **fields):
    spec = classifier_spec("glmClassifier", {"x": ((4,), "DOUBLE")}, labels)
    fill(spec.glmClassifier, weights, offsets)
    for name, value in fields.items():
        setattr(spec.glmClassifier, name, value)
    return spec


def check(spec, rows, probabilities, labels):
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    for row, expected in zip(rows, probabilities, strict=True):
        answer = engine.predict({"x": row})
        assert answer["label"] == labels[int(np.argmax(expected))]
        np.testing.assert_allclose([answer["probabilities"][label] for label in labels], expected, rtol=1e-10)
        np.testing.assert_allclose(engine.outputs({"x": row}).scores, expected, rtol=1e-6)


def test_a_regressor_takes_numbers_and_arrays_in_the_order_of_its_inputs(iris):
    rows, _ = iris
    fitted = LinearRegression().fit(rows[:, :3], rows[:, 3])
    spec = new_spec(
        "glmRegressor", {"a": "double", "b": ((2,), "FLOAT32")}, {"width": "double"}, predicted="width"
    )
    fill(spec.glmRegressor, fitted.coef_, fitted.intercept_)
    answer = run(spec, a=rows[7, 0], b=rows[7, 1:3])["width"]
    assert type(answer) is float
    assert answer == pytest.approx(fitted.predict(rows[7:8, :3])[0], rel=1e-6)


@pytest.mark.parametrize(
    ("transform", "function"), [("Logit", lambda z: 1 / (1 + np.exp(-z))), ("Probit", norm.cdf)]
)
def test_a_regressor_applies_its_transform(transform, function):
    spec = new_spec("glmRegressor", {"x": "double"}, {"y": "double"}, predicted="y")
    fill(spec.glmRegressor, [[2.0]], [-1.0])
    spec.glmRegressor.postEvaluationTransform = spec.glmRegressor.PostEvaluationTransform.Value(transform)
    assert run(spec, x=0.75)["y"] == pytest.approx(function(0.5), rel=1e-14)


def test_several_rows_of_weights_give_an_array():
    spec = new_spec("glmRegressor", {"x": "double"}, {"y": ((2,), "DOUBLE")}, predicted="y")
    fill(spec.glmRegressor, [[2.0], [3.0]], [0.0, 1.0])
    np.testing.assert_array_equal(run(spec, x=2)["y"], [4.0, 7.0])


def test_one_versus_rest_equals_scikit_learn(iris):
    rows, targets = iris
    fitted = OneVsRestClassifier(LogisticRegression(C=2.0, max_iter=1000)).fit(rows, targets)
    weights = np.vstack([each.coef_ for each in fitted.estimators_])
    offsets = np.concatenate([each.intercept_ for each in fitted.estimators_])
    spec = linear_classifier(weights, offsets, classEncoding=1)
    check(spec, rows, fitted.predict_proba(rows), NAMES)


def test_a_reference_class_is_softmax_with_zero_for_the_first_class(iris):
    rows, targets = iris
    fitted = LogisticRegression(max_iter=1000).fit(rows, targets)
    weights, offsets = fitted.coef_[1:] - fitted.coef_[0], fitted.intercept_[1:] - fitted.intercept_[0]
    check(linear_classifier(weights, offsets, classEncoding=0), rows, fitted.predict_proba(rows), NAMES)


@pytest.mark.parametrize("encoding", [0, 1])
def test_two_classes_need_one_row_in_both_encodings(iris, encoding):
    rows, targets = iris
    fitted = LogisticRegression().fit(rows, targets == 2)
    spec = linear_classifier(fitted.coef_, fitted.intercept_, labels=(10, 20), classEncoding=encoding)
    check(spec, rows, fitted.predict_proba(rows), (10, 20))


def test_probit_is_the_normal_distribution(iris):
    rows, _ = iris
    spec = linear_classifier([[0.5, -1.0, 0.25, 0.125]], [0.1], labels=("no", "yes"), postEvaluationTransform=1)
    second = norm.cdf(rows @ [0.5, -1.0, 0.25, 0.125] + 0.1)
    check(spec, rows, np.stack([norm.sf(rows @ [0.5, -1.0, 0.25, 0.125] + 0.1), second], axis=1), ("no", "yes"))


def test_far_margins_do_not_overflow():
    spec = linear_classifier([[1e6, 0, 0, 0]], [0.0], labels=("no", "yes"))
    assert run(spec, x=[-1, 0, 0, 0])["probabilities"] == {"no": 1.0, "yes": 0.0}


@pytest.mark.parametrize(
    ("weights", "offsets", "fields", "message"),
    [
        ([[1, 2, 3, 4]], [0.0], {}, "1 rows of weights do not fit 3 labels"),
        ([[1, 2, 3, 4]] * 3, [0.0], {"classEncoding": 1}, "the rows of weights and the offsets do not fit"),
        ([[1, 2, 3]] * 2, [0.0, 0.0], {}, "it has weights for 3 features, but the inputs have 4"),
        ([[1, 2, 3, 4]] * 2, [0.0, 0.0], {"postEvaluationTransform": 1}, "probit is for two classes only"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, offsets, fields, message):
    spec = linear_classifier(weights, offsets, **fields)
    with pytest.raises(ModelFileError, match=rf"^model\.mlmodel: glmClassifier: {message}"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_an_array_without_a_described_shape_is_checked_when_it_comes():
    spec = new_spec("glmRegressor", {"x": ((), "DOUBLE")}, {"y": "double"}, predicted="y")
    fill(spec.glmRegressor, [[1.0, 2.0]], [0.0])
    assert run(spec, x=[1, 1]) == {"y": 3.0}
    with pytest.raises(PredictionError, match=r"glmRegressor: it takes 2 features, not 3\.$"):
        run(spec, x=[1, 1, 1])


def test_inputs_of_absurd_size_are_refused():
    spec = new_spec("glmRegressor", {"x": ((2**40, 2**40), "DOUBLE")}, {"y": "double"}, predicted="y")
    fill(spec.glmRegressor, [[1.0]], [0.0])
    with pytest.raises(ModelFileError, match="its inputs have more than 16777216 entries"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_a_classifier_without_labels_is_refused():
    spec = new_spec("glmClassifier", {"x": "double"}, {"label": "string"}, predicted="label")
    fill(spec.glmClassifier, [[1.0]], [0.0])
    with pytest.raises(ModelFileError, match="glmClassifier: it has no class labels"):
        FeatureModelEngine(spec, None, name="model.mlmodel")
