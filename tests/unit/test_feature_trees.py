"""Tree ensembles against scikit-learn, and damaged trees."""

import time

import numpy as np
import pytest
from feature_model_makers import add_tree, classifier_spec, new_spec, run
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

LABELS = (0, 1, 2)


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data[::3], data.target[::3]


def regressor(trees=(), *, inputs=None, base=(0.0,), output="double", transform="NoTransform"):
    spec = new_spec("treeEnsembleRegressor", inputs or {"x": ((4,), "DOUBLE")}, {"y": output}, predicted="y")
    return filled(spec, spec.treeEnsembleRegressor, trees, base, transform)


def classifier(trees, labels=LABELS, *, base=(0.0, 0.0, 0.0), transform="NoTransform"):
    spec = classifier_spec("treeEnsembleClassifier", {"x": ((4,), "DOUBLE")}, labels)
    return filled(spec, spec.treeEnsembleClassifier, trees, base, transform)


def filled(spec, params, trees, base, transform):
    from coremltools.proto import TreeEnsemble_pb2

    params.treeEnsemble.numPredictionDimensions = len(base)
    params.treeEnsemble.basePredictionValue.extend(base)
    params.postEvaluationTransform = TreeEnsemble_pb2.TreeEnsemblePostEvaluationTransform.Value(transform)
    for number, tree in enumerate(trees):
        add_tree(params.treeEnsemble, tree, number)
    return spec


def scikit_tree(tree, leaf, node=0):
    """A fitted tree as `add_tree` takes it; `leaf` makes the value of a node's leaf."""
    if tree.children_left[node] == tree.children_right[node]:
        return leaf(tree.value[node])
    return {
        "feature": int(tree.feature[node]),
        "value": float(tree.threshold[node]),
        "yes": scikit_tree(tree, leaf, tree.children_left[node]),
        "no": scikit_tree(tree, leaf, tree.children_right[node]),
    }


def test_a_random_forest_regressor_equals_scikit_learn(iris):
    rows, targets = iris
    fitted = RandomForestRegressor(n_estimators=7, max_depth=6, random_state=0).fit(rows, targets)
    trees = [scikit_tree(each.tree_, lambda value: float(value[0, 0]) / 7) for each in fitted.estimators_]
    engine = FeatureModelEngine(regressor(trees), None, name="model.mlmodel")
    answers = [engine.predict({"x": row})["y"] for row in rows]
    np.testing.assert_allclose(answers, fitted.predict(rows), atol=1e-14)


def test_a_random_forest_classifier_equals_scikit_learn(iris):
    rows, targets = iris
    fitted = RandomForestClassifier(n_estimators=5, random_state=0).fit(rows, targets)
    share = lambda value: dict(enumerate(value[0] / value[0].sum() / 5))  # noqa: E731
    trees = [scikit_tree(each.tree_, share) for each in fitted.estimators_]
    engine = FeatureModelEngine(classifier(trees), None, name="model.mlmodel")
    for row, expected in zip(rows, fitted.predict_proba(rows), strict=True):
        answer = engine.predict({"x": row})
        np.testing.assert_allclose([answer["probabilities"][label] for label in LABELS], expected, atol=1e-14)
        assert answer["label"] == fitted.predict([row])[0]


@pytest.mark.parametrize(("classes", "transform"), [(3, "Classification_SoftMax"), (2, "Regression_Logistic")])
def test_boosted_trees_equal_scikit_learn(iris, classes, transform):
    rows, targets = iris
    targets = np.minimum(targets, classes - 1)
    fitted = GradientBoostingClassifier(n_estimators=4, random_state=0).fit(rows, targets)
    trees = [
        scikit_tree(each.tree_, lambda value, place=place: {place: float(value[0, 0]) * fitted.learning_rate})
        for stage in fitted.estimators_
        for place, each in enumerate(stage)
    ]
    base = fitted._raw_predict_init(rows[:1])[0]
    spec = classifier(trees, labels=LABELS[:classes], base=base, transform=transform)
    engine = FeatureModelEngine(spec, None, name="model.mlmodel")
    for row, expected in zip(rows, fitted.predict_proba(rows), strict=True):
        answer = engine.predict({"x": row})["probabilities"]
        np.testing.assert_allclose([answer[label] for label in LABELS[:classes]], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("mode", "answers"),
    [
        ("BranchOnValueLessThanEqual", [1, 1, 0]),
        ("BranchOnValueLessThan", [1, 0, 0]),
        ("BranchOnValueGreaterThanEqual", [0, 1, 1]),
        ("BranchOnValueGreaterThan", [0, 0, 1]),
        ("BranchOnValueEqual", [0, 1, 0]),
        ("BranchOnValueNotEqual", [1, 0, 1]),
    ],
)
@pytest.mark.parametrize("missing", [True, False])
def test_every_branch_mode_takes_its_way_and_what_is_missing_the_way_of_the_file(mode, answers, missing):
    tree = {"feature": 0, "value": 2.5, "mode": mode, "missing": missing, "yes": 1.0, "no": 0.0}
    engine = FeatureModelEngine(regressor([tree], inputs={"x": "double?"}), None, name="model.mlmodel")
    assert [engine.predict({"x": x})["y"] for x in (2.0, 2.5, 3.0)] == answers
    assert engine.predict({"x": np.nan})["y"] == float(missing)
    assert engine.predict({})["y"] == float(missing)


def test_float32_branch_values_are_compared_in_single_precision_as_xgboost_does():
    single = float(np.float32(0.1))
    split = {"feature": 0, "mode": "BranchOnValueLessThan", "yes": 1.0, "no": 0.0}
    inputs = {"x": "double"}
    assert single > 0.1
    assert run(regressor([split | {"value": single}], inputs=inputs), x=0.1) == {"y": 0.0}
    assert run(regressor([split | {"value": 0.1000000001}], inputs=inputs), x=0.1) == {"y": 1.0}


def test_base_values_and_several_outputs_are_added_up():
    trees = [{0: 1.0, 1: 2.0}, {1: 0.5}]
    spec = regressor(trees, base=(10.0, 20.0), output=((2,), "DOUBLE"))
    np.testing.assert_array_equal(run(spec, x=np.zeros(4))["y"], [11.0, 22.5])
    with pytest.raises(ModelFileError, match="it computes 2 values, but its output 'y' is one number"):
        run(regressor(trees, base=(10.0, 20.0)), x=np.zeros(4))


def test_a_logistic_regressor_transforms_its_sum():
    assert run(regressor([0.5], transform="Regression_Logistic"), x=np.zeros(4))["y"] == pytest.approx(
        1 / (1 + np.exp(-0.5))
    )


def test_one_sum_for_two_classes_is_the_probability_of_the_second():
    answer = run(classifier([0.75], labels=("a", "b"), base=(0.0,)), x=np.zeros(4))
    assert answer == {"label": "b", "probabilities": {"a": 0.25, "b": 0.75}}


def test_a_zero_class_reference_is_softmax_beside_zero():
    zero = "Classification_SoftMaxWithZeroClassReference"
    answer = run(classifier([0.5], labels=("a", "b"), base=(0.0,), transform=zero), x=np.zeros(4))
    assert answer["probabilities"]["b"] == pytest.approx(np.exp(0.5) / (1 + np.exp(0.5)))
    answer = run(classifier([{1: 1.0, 2: 2.0}], transform=zero), x=np.zeros(4))
    powers = np.exp([0.0, 1.0, 2.0])
    np.testing.assert_allclose(list(answer["probabilities"].values()), powers / powers.sum(), rtol=1e-14)
    with pytest.raises(UnsupportedModelError, match="softmax with zero for the first class, where that class has"):
        run(classifier([{0: 1.0}], transform=zero), x=np.zeros(4))


def test_trees_without_labels_count_their_classes():
    spec = classifier([{1: 1.0}])
    spec.treeEnsembleClassifier.ClearField("int64ClassLabels")
    assert run(spec, x=np.zeros(4))["label"] == 1


def damaged(change, *, trees=None):
    spec = regressor(trees or [{"feature": 0, "value": 1.0, "yes": 1.0, "no": 2.0}])
    change(spec.treeEnsembleRegressor.treeEnsemble)
    with pytest.raises(ModelFileError) as caught:
        FeatureModelEngine(spec, None, name="model.mlmodel")
    message = str(caught.value)
    assert message.startswith("model.mlmodel: treeEnsembleRegressor: ")
    return message


def child(node, way, value):
    return lambda ensemble: setattr(ensemble.nodes[node], f"{way}ChildNodeId", value)


def test_damaged_trees_are_refused_by_what_is_wrong():
    assert "has a child 9 that is not there" in damaged(child(0, "true", 9))
    assert "is the child of several nodes" in damaged(child(0, "true", 2))
    assert "2 nodes of its trees form a cycle" in damaged(child(0, "true", 0))
    assert "a tree has several roots, or none" in damaged(
        lambda ensemble: add_tree(ensemble, 1.0, 0, first_node=9)
    )
    assert "a node stands there twice" in damaged(lambda ensemble: setattr(ensemble.nodes[1], "nodeId", 0))
    assert "has no values" in damaged(lambda ensemble: ensemble.nodes[1].ClearField("evaluationInfo"))
    assert "has the unknown mode 77" in damaged(lambda ensemble: setattr(ensemble.nodes[1], "nodeBehavior", 77))
    assert "looks at feature 4 of 4" in damaged(
        lambda ensemble: setattr(ensemble.nodes[0], "branchFeatureIndex", 4)
    )
    assert "looks at feature 18446744073709551615" in damaged(
        lambda ensemble: setattr(ensemble.nodes[0], "branchFeatureIndex", 2**64 - 1)
    )
    assert f"it computes {2**60} values" in damaged(
        lambda ensemble: setattr(ensemble, "numPredictionDimensions", 2**60)
    )
    assert "1 base values do not fit 2 dimensions" in damaged(
        lambda ensemble: setattr(ensemble, "numPredictionDimensions", 2)
    )
    assert "has a value for dimension 5" in damaged(
        lambda ensemble: setattr(ensemble.nodes[1].evaluationInfo[0], "evaluationIndex", 5)
    )


def test_a_tree_of_one_long_chain_is_walked_in_little_time():
    spec = regressor()
    ensemble = spec.treeEnsembleRegressor.treeEnsemble
    for step in range(5000):
        ensemble.nodes.add(nodeId=2 * step, trueChildNodeId=2 * step + 1, falseChildNodeId=2 * step + 2)
        ensemble.nodes.add(nodeId=2 * step + 1, nodeBehavior=6).evaluationInfo.add(evaluationValue=1.0)
    ensemble.nodes.add(nodeId=10000, nodeBehavior=6).evaluationInfo.add(evaluationValue=2.0)
    started = time.perf_counter()
    assert run(spec, x=np.ones(4))["y"] == 2.0
    assert time.perf_counter() - started < 5
