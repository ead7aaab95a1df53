"""Recommendations from similar items (specification: `ItemSimilarityRecommender.proto`)."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict, feature_model

MAX_ITEMS = 1 << 24
"""Items that a file may number without listing them, 128 megabytes of scores."""


@feature_model("itemSimilarityRecommender", takes_optional=True)
def item_similarity_recommender(model: FeatureModel) -> Predict:
    """The items with the highest score: the sum of similarity times score over the items given.

    Items without scores, as a list or an array, have score 1; items that the model does not know are left out. The
    items given are not recommended, unless an exclusion list is given instead; a restriction list leaves only its
    items. Of equal scores the item that comes first wins.
    """
    params = model.params
    if any(base.itemScoreAdjustment for base in params.itemItemSimilarities):
        # The format's formula takes that of the recommended item, its C++ interface that of the given one.
        raise model.refuse("an adjustment of item scores, which the specification describes in two ways,")
    ids = _ids(model)
    places = {item: place for place, item in enumerate(ids)}
    similar = {
        int(base.itemId): (
            np.array([item.itemId for item in base.similarItemList], np.int64),
            np.array([item.similarityScore for item in base.similarItemList], np.float64),
        )
        for base in params.itemItemSimilarities
    }
    taken = params.itemInputFeatureName or model.description.inputs[0].name
    model.input_named(taken, "dictionaryType", "sequenceType", "multiArrayType")
    for name, *types in (
        (params.numRecommendationsInputFeatureName, "int64Type"),
        (params.itemRestrictionInputFeatureName, "sequenceType", "multiArrayType"),
        (params.itemExclusionInputFeatureName, "sequenceType", "multiArrayType"),
    ):
        if any(given.name == name for given in model.description.inputs):
            model.input_named(name, *types)
    outputs = model.description.outputs

    def known(items: Iterable[Any]) -> list[int]:
        return [places[item] for item in items if item in places]

    def predict(values: Mapping[str, Any]) -> Answer:
        given = _scored(values[taken])
        scores = np.zeros(len(ids))
        for item, score in given.items():
            if places.get(item) in similar:
                others, similarities = similar[places[item]]
                np.add.at(scores, others, similarities * score)
        allowed = np.ones(len(ids), bool)
        restriction = values.get(params.itemRestrictionInputFeatureName)
        if restriction is not None:
            allowed[:] = False
            allowed[known(_items(restriction))] = True
        exclusion = values.get(params.itemExclusionInputFeatureName)
        allowed[known(given if exclusion is None else _items(exclusion))] = False
        ranked = np.argsort(-scores, kind="stable")
        ranked = ranked[allowed[ranked]]
        count = values.get(params.numRecommendationsInputFeatureName)
        if count is not None:
            ranked = ranked[: max(0, count)]
        found = {
            params.recommendedItemListOutputFeatureName: [ids[place] for place in ranked.tolist()],
            params.recommendedItemScoreOutputFeatureName: {
                ids[place]: float(scores[place]) for place in ranked.tolist()
            },
        }
        return Answer({output.name: model.value(output, found[output.name]) for output in outputs})

    names = (params.recommendedItemListOutputFeatureName, params.recommendedItemScoreOutputFeatureName)
    unknown = [output.name for output in outputs if output.name not in names]
    if unknown or not outputs:
        raise model.damaged(f"nothing computes its output {unknown[0]!r}" if unknown else "it has no output")
    return predict


def _ids(model: FeatureModel) -> Any:
    """The items by number: strings, whole numbers, or the numbers themselves."""
    params = model.params
    numbers = [base.itemId for base in params.itemItemSimilarities]
    numbers += [item.itemId for base in params.itemItemSimilarities for item in base.similarItemList]
    listed = list(params.itemStringIds.vector) or list(params.itemInt64Ids.vector)
    if params.itemStringIds.vector and params.itemInt64Ids.vector:
        raise model.damaged("it has both string and integer items")
    count = len(listed) if listed else max(numbers, default=-1) + 1
    if count > MAX_ITEMS or max(numbers, default=-1) >= count or len(set(listed)) != len(listed):
        raise model.damaged(f"item {max(numbers, default=-1)} is not among its {count} items, or one stands twice")
    return listed or range(count)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [int(item) for item in np.asarray(value).reshape(-1).tolist()]


def _scored(value: Any) -> dict[Any, float]:
    return value if isinstance(value, dict) else dict.fromkeys(_items(value), 1.0)
