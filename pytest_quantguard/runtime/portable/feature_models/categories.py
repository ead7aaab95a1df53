"""Feature engineering on categories: one-hot encoder, categorical mapping, dictionary vectorizer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantguard.models.description import ArrayFeature, OtherFeature
from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict, feature_model


@feature_model("oneHotEncoder")
def one_hot_encoder(model: FeatureModel) -> Predict:
    """Zeros and a one at the place of the category; as a dictionary {place: 1.0} where `outputSparse` is set.

    A category that is not in the list gives zeros (`IgnoreUnknown`) or an error (`ErrorOnUnknown`).
    """
    taken, output = model.only_input("int64Type", "stringType"), model.only_output()
    kind = model.params.WhichOneof("CategoryType")
    if kind is None:
        raise model.damaged("it has no categories")
    categories = list(getattr(model.params, kind).vector)
    places = _places(model, categories)
    sparse, strict = model.params.outputSparse, model.params.handleUnknown == model.params.ErrorOnUnknown
    if sparse == isinstance(output, ArrayFeature):
        raise model.damaged(f"its output {output.name!r} is of another type than outputSparse says")

    def predict(values: Mapping[str, Any]) -> Answer:
        place = places.get(values[taken.name])
        if place is None and strict:
            raise model.failed(f"{values[taken.name]!r} is none of its categories")
        if sparse:
            return Answer({output.name: {} if place is None else {place: 1.0}})
        encoded = np.zeros(len(categories))
        encoded[[] if place is None else place] = 1.0
        return Answer({output.name: model.value(output, encoded)})

    return predict


@feature_model("categoricalMapping")
def categorical_mapping(model: FeatureModel) -> Predict:
    """A string for a whole number or the other way round; of a sequence each entry."""
    taken, output = model.only_input("int64Type", "stringType", "sequenceType"), model.only_output()
    kind = model.params.WhichOneof("MappingType")
    if kind is None:
        raise model.damaged("it has no mapping")
    mapping = dict(getattr(model.params, kind).map)
    chosen = model.params.WhichOneof("ValueOnUnknown")
    default = getattr(model.params, chosen) if chosen else None

    def mapped(value: Any) -> Any:
        found = mapping.get(value, default)
        if found is None:
            raise model.failed(f"{value!r} is none of its categories")
        return found

    def predict(values: Mapping[str, Any]) -> Answer:
        value = values[taken.name]
        answer = [mapped(entry) for entry in value] if isinstance(value, list) else mapped(value)
        return Answer({output.name: model.value(output, answer)})

    return predict


@feature_model("dictVectorizer")
def dict_vectorizer(model: FeatureModel) -> Predict:
    """The values of a dictionary at the places of their keys, the others zero.

    An output that is described as a dictionary gets {place: value}, without the zeros. A key that the model does
    not know is passed over, as coremltools' own tests want it (`test_dict_vectorizer.py`).
    """
    taken, output = model.only_input("dictionaryType"), model.only_output()
    kind = model.params.WhichOneof("Map")
    if kind is None:
        raise model.damaged("it has no keys")
    keys = list(getattr(model.params, kind).vector)
    places = _places(model, keys)
    dictionary = isinstance(output, OtherFeature)

    def predict(values: Mapping[str, Any]) -> Answer:
        vector = np.zeros(len(keys))
        for key, value in values[taken.name].items():
            if key in places:
                vector[places[key]] = value
        if dictionary:
            return Answer({output.name: {int(place): float(vector[place]) for place in np.flatnonzero(vector)}})
        return Answer({output.name: model.value(output, vector)})

    return predict


def _places(model: FeatureModel, entries: list[Any]) -> dict[Any, int]:
    places = {entry: place for place, entry in enumerate(entries)}
    if len(places) != len(entries):
        raise model.damaged("an entry of its list stands there twice")
    return places
