"""Support vector machines against scikit-learn, which computes them with libsvm."""

import numpy as np
import pytest
from feature_model_makers import classifier_spec, new_spec, run
from sklearn.datasets import load_iris
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine
from pytest_quantguard.runtime.portable.feature_models.support_vectors import couple

# Newer versions of scikit-learn deprecate probability=True.
probability_is_deprecated = pytest.mark.filterwarnings("ignore:.*probability:FutureWarning")

NAMES = ("setosa", "versicolor", "virginica")
KERNELS = [
    {"kernel": "linear"},
    {"kernel": "rbf", "gamma": 0.3},
    {"kernel": "poly", "gamma": 0.2, "degree": 3, "coef0": 0.5},
    {"kernel": "sigmoid", "gamma": 0.01, "coef0": -0.5},
]


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data[::2], data.target[::2]


def fill(params, fitted, *, sparse=False):
    """A fitted model's kernel and support vectors."""
    kernel = getattr(params.kernel, f"{fitted.kernel}Kernel")
    kernel.SetInParent()
    if fitted.kernel != "linear":
        kernel.gamma = fitted._gamma
    if fitted.kernel in ("poly", "sigmoid"):
        kernel.c = fitted.coef0
    if fitted.kernel == "poly":
        kernel.degree = fitted.degree
    for vector in fitted.support_vectors_:
        if sparse:
            nodes = params.sparseSupportVectors.vectors.add().nodes
            for place in np.flatnonzero(vector):
                nodes.add(index=int(place) + 1, value=vector[place])
        else:
            params.denseSupportVectors.vectors.add().values.extend(vector)


def svm_classifier(fitted, labels, *, probabilities="", sparse=False):
    spec = classifier_spec("supportVectorClassifier", {"x": ((4,), "DOUBLE")}, labels, probabilities=probabilities)
    params = spec.supportVectorClassifier
    fill(params, fitted, sparse=sparse)
    params.numberOfSupportVectorsPerClass.extend(fitted.n_support_)
    for row in fitted._dual_coef_:
        params.coefficients.add().alpha.extend(row)
    params.rho.extend(-fitted._intercept_)
    if probabilities:
        params.probA.extend(fitted.probA_)
        params.probB.extend(fitted.probB_)
    return spec


def predictions(spec, rows):
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    return [engine.predict({"x": row}) for row in rows]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel["kernel"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_classifier_votes_as_libsvm_does(iris, kernel, sparse):
    rows, targets = iris
    fitted = SVC(**kernel).fit(rows, targets)
    spec = svm_classifier(fitted, NAMES, sparse=sparse)
    found = [answer["label"] for answer in predictions(spec, rows)]
    assert found == [NAMES[target] for target in fitted.predict(rows)]
    assert "probabilities" not in predictions(spec, rows[:1])[0]


def test_the_scores_without_probabilities_are_shares_of_the_votes(iris):
    rows, targets = iris
    spec = svm_classifier(SVC().fit(rows, targets), NAMES)
    scores = FeatureModelEngine(spec, None, name="m").outputs({"x": rows[0]}).scores
    np.testing.assert_allclose(sorted(scores), [0, 1 / 3, 2 / 3], rtol=1e-6)


@probability_is_deprecated
@pytest.mark.parametrize("kernel", KERNELS[:3], ids=lambda kernel: kernel["kernel"])
def test_probabilities_of_several_classes_are_coupled_as_libsvm_does(iris, kernel):
    rows, targets = iris
    fitted = SVC(probability=True, random_state=0, **kernel).fit(rows, targets)
    spec = svm_classifier(fitted, NAMES, probabilities="probabilities")
    for answer, expected in zip(predictions(spec, rows), fitted.predict_proba(rows), strict=True):
        np.testing.assert_allclose([answer["probabilities"][name] for name in NAMES], expected, rtol=1e-9)
        assert answer["label"] == NAMES[int(expected.argmax())]


@probability_is_deprecated
def test_the_probability_of_two_classes_is_that_of_the_pair(iris):
    rows, targets = iris
    fitted = NuSVC(nu=0.3, probability=True, random_state=0).fit(rows, targets == 1)
    spec = svm_classifier(fitted, (0, 1), probabilities="probabilities")
    decisions = fitted.decision_function(rows)
    first = 1 / (1 + np.exp(-decisions * fitted.probA_[0] + fitted.probB_[0]))
    for answer, expected, coupled in zip(predictions(spec, rows), first, fitted.predict_proba(rows), strict=True):
        assert answer["probabilities"][0] == pytest.approx(expected, rel=1e-9)
        # scikit-learn couples two classes, too, which coremltools' converter says Core ML does not.
        assert answer["probabilities"][0] == pytest.approx(coupled[0], abs=0.005)


@pytest.mark.parametrize("make", [SVR, NuSVR])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel["kernel"])
def test_a_regressor_equals_libsvm(iris, make, kernel):
    rows, targets = iris
    fitted = make(**kernel).fit(rows, targets)
    spec = new_spec("supportVectorRegressor", {"x": ((4,), "DOUBLE")}, {"y": "double"}, predicted="y")
    fill(spec.supportVectorRegressor, fitted, sparse=make is NuSVR)
    spec.supportVectorRegressor.coefficients.alpha.extend(fitted.dual_coef_[0])
    spec.supportVectorRegressor.rho = -fitted.intercept_[0]
    found = [answer["y"] for answer in predictions(spec, rows)]
    np.testing.assert_allclose(found, fitted.predict(rows), rtol=1e-9, atol=1e-9)


def test_features_that_the_support_vectors_do_not_store_count_as_zero_in_them():
    spec = new_spec("supportVectorRegressor", {"x": ((3,), "DOUBLE")}, {"y": "double"}, predicted="y")
    params = spec.supportVectorRegressor
    params.kernel.rbfKernel.gamma = 1.0
    params.denseSupportVectors.vectors.add().values.append(1.0)
    params.coefficients.alpha.append(1.0)
    assert run(spec, x=[1.0, 0.5, 0.0])["y"] == pytest.approx(np.exp(-0.25))


def test_coupling_gives_back_probabilities_that_agree():
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    first, second = np.triu_indices(4, 1)
    np.testing.assert_allclose(couple(shares[first] / (shares[first] + shares[second]), 4), shares, atol=0.01)


def test_probabilities_that_the_file_cannot_compute_are_refused(iris):
    rows, targets = iris
    spec = svm_classifier(SVC().fit(rows, targets), NAMES)
    spec.description.predictedProbabilitiesName = "probabilities"
    with pytest.raises(UnsupportedModelError, match="an output for probabilities without probA and probB"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda svm: svm.rho.append(0.0), "rho, probA or probB do not fit 3 pairs"),
        (lambda svm: svm.probA.append(0.0), "rho, probA or probB do not fit 3 pairs"),
        (lambda svm: svm.ClearField("coefficients"), "the coefficients do not fit"),
        (lambda svm: svm.numberOfSupportVectorsPerClass.append(-1), "the numbers of support vectors per class"),
        (lambda svm: svm.kernel.ClearField("kernel"), "it has no kernel"),
        (lambda svm: setattr(svm.kernel.rbfKernel, "gamma", -1.0), "the gamma of its kernel is -1.0"),
        (lambda svm: setattr(svm.kernel.polyKernel, "degree", -2), "the degree of its kernel is -2"),
        (lambda svm: svm.ClearField("supportVectors"), "it has no support vectors"),
        (lambda svm: svm.denseSupportVectors.vectors[0].values.append(1.0), "have different lengths"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(iris, change, message):
    rows, targets = iris
    spec = svm_classifier(SVC().fit(rows, targets), NAMES)
    change(spec.supportVectorClassifier)
    with pytest.raises(ModelFileError, match=rf"^model\.mlmodel: supportVectorClassifier: .*{message}"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


@pytest.mark.parametrize(
    ("index", "message"),
    [(0, "an index below 1"), (2**31 - 1, "a support vector has feature 2147483647 of 4"), (1, "an index twice")],
)
def test_absurd_sparse_indices_are_refused(index, message):
    spec = new_spec("supportVectorRegressor", {"x": ((4,), "DOUBLE")}, {"y": "double"}, predicted="y")
    params = spec.supportVectorRegressor
    params.kernel.linearKernel.SetInParent()
    nodes = params.sparseSupportVectors.vectors.add().nodes
    nodes.add(index=1, value=1.0)
    nodes.add(index=index, value=1.0)
    params.coefficients.alpha.append(1.0)
    with pytest.raises(ModelFileError, match=message):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_a_sample_of_too_few_features_is_an_error():
    spec = new_spec("supportVectorRegressor", {"x": ((), "DOUBLE")}, {"y": "double"}, predicted="y")
    params = spec.supportVectorRegressor
    params.kernel.linearKernel.SetInParent()
    params.sparseSupportVectors.vectors.add().nodes.add(index=3, value=1.0)
    params.coefficients.alpha.append(1.0)
    with pytest.raises(PredictionError, match="a support vector has feature 3 of 2"):
        run(spec, x=[1.0, 2.0])
