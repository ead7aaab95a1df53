"""The table of model types that are computed with numpy, and what a function in it works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import Feature
from pytest_quantguard.runtime.portable.feature_models.values import as_feature, type_name


@dataclass(frozen=True)
class Answer:
    """What a model answers for one sample.

    Args:
        features: by output name what `MLModel.predict` gives.
        scores: a classifier's scores in the order of its labels; None for a model that is no classifier.
    """

    features: dict[str, Any]
    scores: NDArray[np.float32] | None = None


Predict = Callable[[Mapping[str, Any]], Answer]
"""Takes the checked values of all inputs by name, None for an optional one that is not given."""

Maker = Callable[["FeatureModel"], Predict]


class FeatureModel:
    """A model's specification, read once by the function that makes its `Predict`.

    Args:
        spec: the parsed `Model` message.
        name: what to call the model in errors.
    """

    def __init__(self, spec: Any, *, name: str) -> None:
        self.spec = spec
        self.name = name
        self.description = describe(spec)
        self.kind = self.description.kind
        self.params = getattr(spec, self.kind)

    def refuse(self, what: str) -> UnsupportedModelError:
        """The error for something that has no translation."""
        return UnsupportedModelError(f"{self.name}: {self.kind}: {what} is not supported by the portable engine.")

    def damaged(self, what: str) -> ModelFileError:
        """The error for a file that contradicts itself or the specification."""
        return ModelFileError(f"{self.name}: {self.kind}: {what}; export the model again.")

    def failed(self, what: str) -> PredictionError:
        """The error for a sample that the model has no answer for."""
        return PredictionError(f"{self.name}: {self.kind}: {what}.")

    def input_named(self, name: str, *types: str) -> Feature:
        """The input of that name; `types` are the specification's names of the types that it may have."""
        return self._of_type(self._named(self.description.inputs, name, "input"), types)

    def output_named(self, name: str) -> Feature:
        """The output of that name."""
        return self._named(self.description.outputs, name, "output")

    def only_input(self, *types: str) -> Feature:
        """The input of a model that takes one, of one of the types."""
        return self._of_type(self._only(self.description.inputs, "input"), types)

    def only_output(self) -> Feature:
        """The output of a model that gives one."""
        return self._only(self.description.outputs, "output")

    def predicted(self) -> Feature:
        """The output that a regressor computes (`predictedFeatureName`)."""
        return self.output_named(self.spec.description.predictedFeatureName)

    def value(self, feature: Feature, value: Any) -> Any:
        """A computed value as the type that the output is described with."""
        return as_feature(feature, value, model=f"{self.name}: {self.kind}")

    def _of_type(self, feature: Feature, types: tuple[str, ...]) -> Feature:
        if types and type_name(feature) not in types:
            raise self.damaged(f"input {feature.name!r} is of type {type_name(feature)}, not {' or '.join(types)}")
        return feature

    def _named(self, features: tuple[Feature, ...], name: str, what: str) -> Feature:
        for feature in features:
            if feature.name == name:
                return feature
        raise self.damaged(f"there is no {what} {name!r}")

    def _only(self, features: tuple[Feature, ...], what: str) -> Feature:
        if len(features) != 1:
            raise self.damaged(f"there must be one {what}, not {len(features)}")
        return features[0]


@dataclass(frozen=True)
class Entry:
    """A model type.

    Args:
        make: makes the `Predict` of a model.
        takes_optional: whether the specification allows optional inputs for it (`validateOptional` in
            coremltools' `InterfaceValidators.cpp`).
    """

    make: Maker
    takes_optional: bool


_ENTRIES: dict[str, Entry] = {}


def feature_model(kind: str, *, takes_optional: bool = False) -> Callable[[Maker], Maker]:
    """Register the function for a model type, by its name in the `Type` of `Model`."""

    def register(make: Maker) -> Maker:
        _ENTRIES[kind] = Entry(make, takes_optional)
        return make

    return register


def supported_models() -> tuple[str, ...]:
    """The model types that are computed with numpy."""
    return tuple(sorted(_ENTRIES))


def entry_of(kind: str) -> Entry | None:
    """What is registered for a model type; None where nothing is."""
    return _ENTRIES.get(kind)
