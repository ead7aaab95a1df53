"""Recommendations from similar items, and Bayesian probit regression."""

import numpy as np
import pytest
from feature_model_makers import new_spec, run
from scipy.stats import norm

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

SIMILAR = {0: {1: 0.5, 2: 0.25}, 1: {2: 1.0, 3: 0.125}}


def recommender(*, entries="int64", taken="dictionary:int64", names=()):
    inputs = {"items": taken, "k": "int64?", "only": f"sequence:{entries}?", "without": f"sequence:{entries}?"}
    outputs = {"list": f"sequence:{entries}", "scores": f"dictionary:{entries}"}
    spec = new_spec("itemSimilarityRecommender", inputs, outputs)
    params = spec.itemSimilarityRecommender
    params.itemInputFeatureName, params.numRecommendationsInputFeatureName = "items", "k"
    params.itemRestrictionInputFeatureName, params.itemExclusionInputFeatureName = "only", "without"
    params.recommendedItemListOutputFeatureName = "list"
    params.recommendedItemScoreOutputFeatureName = "scores"
    params.itemStringIds.vector.extend(names)
    for item, others in SIMILAR.items():
        entry = params.itemItemSimilarities.add(itemId=item)
        for other, similarity in others.items():
            entry.similarItemList.add(itemId=other, similarityScore=similarity)
    return spec


def test_items_are_scored_by_similarity_and_ranked_without_those_given():
    answer = run(recommender(), items={0: 2.0, 1: 4.0})
    assert answer == {"list": [2, 3], "scores": {2: 4.5, 3: 0.5}}


def test_the_lists_restrict_exclude_and_cut():
    assert run(recommender(), items={0: 2.0}, k=1)["list"] == [1]
    assert run(recommender(), items={0: 2.0}, only=[2, 3])["list"] == [2, 3]
    assert run(recommender(), items={0: 2.0}, without=[])["list"] == [1, 2, 0, 3]
    assert run(recommender(), items={0: 2.0}, without=[1])["list"] == [2, 0, 3]


def test_items_without_scores_count_once_and_may_have_names():
    names = ("apple", "bread", "cheese", "date")
    spec = recommender(entries="string", taken="sequence:string", names=names)
    assert run(spec, items=["apple", "unknown"]) == {
        "list": ["bread", "cheese", "date"],
        "scores": {"bread": 0.5, "cheese": 0.25, "date": 0.0},
    }
    assert run(recommender(taken=((2,), "INT32")), items=[0, 1])["scores"] == {2: 1.25, 3: 0.125}


def test_item_numbers_beyond_the_items_are_refused():
    spec = recommender(names=("a", "b"))
    with pytest.raises(ModelFileError, match="item 3 is not among its 2 items"):
        FeatureModelEngine(spec, None, name="model.mlmodel")
    spec = recommender()
    spec.itemSimilarityRecommender.itemItemSimilarities[0].itemId = 2**63
    with pytest.raises(ModelFileError, match=rf"item {2**63} is not among its {2**63 + 1} items"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_a_score_adjustment_is_refused_because_its_meaning_is_open():
    spec = recommender()
    spec.itemSimilarityRecommender.itemItemSimilarities[0].itemScoreAdjustment = 0.5
    with pytest.raises(
        UnsupportedModelError, match="an adjustment of item scores, which the specification describes"
    ):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def probit(shape=(2,)):
    spec = new_spec(
        "bayesianProbitRegressor",
        {"x": (shape, "INT32")},
        {"y": "double", "mean": "double", "variance": "double"},
        predicted="y",
    )
    params = spec.bayesianProbitRegressor
    params.numberOfFeatures, params.regressionInputFeatureName = 2, "x"
    params.meanOutputFeatureName, params.varianceOutputFeatureName = "mean", "variance"
    params.bias.mean, params.bias.precision = 0.5, 4.0
    for feature in range(2):
        weights = params.features.add(featureId=feature).weights
        for value in range(3):
            weight = weights.add(featureValue=value).featureWeight
            weight.mean, weight.precision = feature + value / 10, 2.0
    return spec


def test_a_bayesian_probit_model_sums_normal_weights():
    expected = {"mean": 0.5 + 0.2 + 1.1, "variance": 0.25 + 0.5 + 0.5}
    expected["y"] = norm.cdf(expected["mean"] / np.sqrt(1 + expected["variance"]))
    for answer in (run(probit(), x=[2, 1]), run(probit((2, 2)), x=[[0, 2], [1, 1]])):
        assert answer == pytest.approx(expected, rel=1e-12)


def test_what_a_bayesian_probit_model_cannot_say_is_named():
    with pytest.raises(PredictionError, match="feature 1 has no weight for the value 7"):
        run(probit(), x=[0, 7])
    spec = probit()
    spec.bayesianProbitRegressor.sampledProbabilityOutputFeatureName = "mean"
    with pytest.raises(
        UnsupportedModelError, match="the sampled probability, which the specification leaves open"
    ):
        run(spec, x=[0, 0])
    spec = probit()
    spec.bayesianProbitRegressor.bias.precision = 0.0
    with pytest.raises(ModelFileError, match="a weight has no positive precision"):
        run(spec, x=[0, 0])
