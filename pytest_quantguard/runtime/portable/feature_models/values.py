"""Between Python values and the feature types of Core ML (specification: `FeatureTypes.proto`).

The types that come out are those of coremltools' `convertValueToPython`: int, float, str, list, dictionaries of
floats, numpy arrays (float16 as float32), PIL images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.models.description import (
    ArrayFeature,
    Feature,
    ImageFeature,
    ModelDescription,
    OtherFeature,
)
from pytest_quantguard.runtime.portable.arithmetic import as_type, numbers
from pytest_quantguard.runtime.portable.feeds import checked_array, checked_image, checked_names
from pytest_quantguard.runtime.portable.shapes import AllowedShapes, allowed_shapes

_INT64 = range(-(1 << 63), 1 << 63)


class ValueReader:
    """Checks and converts the inputs of a model that is no network.

    Args:
        spec: the parsed `Model` message.
        description: what `describe` says of it.
        model: the model's name, for errors.
    """

    def __init__(self, spec: Any, description: ModelDescription, *, model: str) -> None:
        self._model = model
        self._features = description.inputs
        self._shapes = {feature.name: allowed_shapes(feature) for feature in spec.description.input}

    def read(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Values by input name, each of its described type; None for an optional input that is not given.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type.
        """
        checked_names(inputs, self._features, model=self._model)
        return {feature.name: self._value(feature, inputs.get(feature.name)) for feature in self._features}

    def read_from(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """The same from all features of a pipeline; an array of another rank is reshaped."""
        own = {}
        for feature in self._features:
            value = features.get(feature.name)
            if isinstance(feature, ArrayFeature) and isinstance(value, np.ndarray):
                value = fitted(value, self._shapes[feature.name])
            own[feature.name] = value
        return self.read(own)

    def _value(self, feature: Feature, value: Any) -> Any:
        if value is None:
            if feature.optional:
                return None
            raise PredictionError(f"{self._model} misses its input {feature.name!r}; it has no default.")
        if isinstance(feature, ImageFeature):
            return checked_image(feature, self._shapes[feature.name], value, model=self._model)
        if isinstance(feature, ArrayFeature):
            # A stage may hand its input on as an output; the caller's array must not come back.
            return checked_array(feature, self._shapes[feature.name], value, model=self._model).copy()
        try:
            checked = _READERS[feature.type_name](feature, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise PredictionError(
                f"{self._model}: input {feature.name!r} takes {_WORDS[feature.type_name]} ({error})."
            ) from error
        if feature.type_name == "sequenceType" and not self._shapes[feature.name].allows((len(checked),)):
            raise PredictionError(
                f"{self._model}: input {feature.name!r} takes {self._shapes[feature.name]} entries, "
                f"not {len(checked)}."
            )
        return checked


def type_name(feature: Feature) -> str:
    """The specification's name of a feature's type."""
    if isinstance(feature, OtherFeature):
        return feature.type_name
    return "multiArrayType" if isinstance(feature, ArrayFeature) else "imageType"


def fitted(array: np.ndarray[Any, Any], allowed: AllowedShapes) -> np.ndarray[Any, Any]:
    """An array of a pipeline in the shape that the next model describes, where only the rank differs."""
    if not allowed.allows(array.shape) and array.size == np.prod(allowed.default, dtype=object):
        return array.reshape(allowed.default)
    return array


def as_feature(feature: Feature, value: Any, *, model: str) -> Any:
    """A computed value as the type that an output is described with.

    Raises:
        PredictionError: the value is not of that type, for instance a broken number for an integer.
    """
    if isinstance(feature, ImageFeature):
        return value
    try:
        if not isinstance(feature, ArrayFeature):
            return _READERS[feature.type_name](feature, value)
        # The bindings of coremltools hand out float16 arrays as float32.
        dtype = "float32" if feature.dtype == "float16" else feature.dtype
        array = as_type(numbers(value), dtype).copy()
        if array.shape != feature.shape and array.size == np.prod(feature.shape, dtype=object) and feature.shape:
            array = array.reshape(feature.shape)
        return array
    except (TypeError, ValueError, OverflowError) as error:
        raise PredictionError(f"{model}: output {feature.name!r} has no value of its type ({error}).") from error


def _integer(feature: OtherFeature, value: Any) -> int:
    number = _number(feature, value)
    if number != number or int(number) != number:
        raise ValueError(f"{number} is no whole number")
    if int(number) not in _INT64:
        raise OverflowError(f"{number} does not fit into 64 bits")
    return int(number)


def _number(feature: OtherFeature, value: Any) -> int | float:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float):
        raise TypeError(f"not {type(value).__name__}")
    return value


def _double(feature: OtherFeature, value: Any) -> float:
    return float(_number(feature, value))


def _text(feature: OtherFeature, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not {type(value).__name__}")
    return str(value)


def _entry(feature: OtherFeature, value: Any) -> int | str:
    return _text(feature, value) if feature.entries == "string" else _integer(feature, value)


def _dictionary(feature: OtherFeature, value: Any) -> dict[int | str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"not {type(value).__name__}")
    # Core ML does not hold keys to the described type: coremltools converts scikit-learn's vectorizer of whole
    # numbers with keys described as strings, and its tests predict with that.
    return {
        str(key) if isinstance(key, str) else _integer(feature, key): _double(feature, entry)
        for key, entry in value.items()
    }


def _sequence(feature: OtherFeature, value: Any) -> list[int | str]:
    if isinstance(value, str | bytes | Mapping | Image.Image) or not hasattr(value, "__len__"):
        raise TypeError(f"not {type(value).__name__}")
    return [_entry(feature, entry) for entry in value]


_READERS: dict[str, Any] = {
    "int64Type": _integer,
    "doubleType": _double,
    "stringType": _text,
    "dictionaryType": _dictionary,
    "sequenceType": _sequence,
}
_WORDS = {
    "int64Type": "a whole number",
    "doubleType": "a number",
    "stringType": "a string",
    "dictionaryType": "a dictionary from whole numbers or strings to numbers",
    "sequenceType": "a list of whole numbers or strings, as described",
}
READABLE_TYPES = frozenset(_READERS)
"""The names of the feature types that are neither images nor arrays and can be read."""
