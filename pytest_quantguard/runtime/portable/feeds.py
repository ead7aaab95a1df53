"""From the inputs of `predict` to arrays, with every mistake named."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature, ModelDescription
from pytest_quantguard.runtime.portable.arithmetic import as_type, numbers
from pytest_quantguard.runtime.portable.images import image_to_array
from pytest_quantguard.runtime.portable.limits import fits
from pytest_quantguard.runtime.portable.shapes import AllowedShapes, Shape, allowed_shapes

_DEFAULT_VALUES = ("intDefaultValue", "floatDefaultValue", "doubleDefaultValue")


class InputReader:
    """Checks and converts a model's inputs.

    Args:
        spec: the parsed `Model` message.
        description: what `describe` says of it.
        model: the model's name, for errors.
        rank_five: whether arrays may come with sequence and batch in front (`RANK5_ARRAY_MAPPING`).
    """

    def __init__(self, spec: Any, description: ModelDescription, *, model: str, rank_five: bool) -> None:
        self._model = model
        self._features = {feature.name: feature for feature in description.inputs}
        self._shapes = {feature.name: allowed_shapes(feature) for feature in spec.description.input}
        self._defaults = {feature.name: default_value(feature) for feature in spec.description.input}
        self._rank_five = rank_five

    @property
    def default_shapes(self) -> dict[str, Shape]:
        """By input name the shape of the array, or (height, width) of the image, that the file describes."""
        return {name: shapes.default for name, shapes in self._shapes.items()}

    @property
    def flexible(self) -> bool:
        """Whether an input may come in another shape than the described one."""
        return self._rank_five or self.varies

    @property
    def varies(self) -> bool:
        """Whether the file lists several shapes of an input, or ranges."""
        return any(allowed.listed or allowed.ranges for allowed in self._shapes.values())

    def read(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Arrays by input name: images as `image_to_array` gives them, arrays of the declared type.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type.
        """
        checked_names(inputs, self._features.values(), model=self._model)
        arrays = {}
        for name, feature in self._features.items():
            if inputs.get(name) is not None:
                arrays[name] = self._array(feature, inputs[name])
            elif feature.optional and isinstance(feature, ArrayFeature):
                arrays[name] = self._default(feature)
            else:
                valid = ", ".join(self._features) or "none"
                raise PredictionError(f"{self._model} misses its input {name!r}; its inputs are: {valid}.")
        return arrays

    def _array(self, feature: Feature, value: Any) -> NDArray[Any]:
        allowed = self._shapes[feature.name]
        if isinstance(feature, ImageFeature):
            image = checked_image(feature, allowed, value, model=self._model)
            try:
                return image_to_array(image, feature.color)
            except (ValueError, OSError) as error:
                raise PredictionError(f"{self._model}: input {feature.name!r}: {error}.") from error
        if isinstance(feature, ArrayFeature):
            return checked_array(feature, allowed, value, model=self._model, described=self._described_part)
        raise PredictionError(
            f"{self._model}: input {feature.name!r} of type {feature.type_name} is not supported by the portable "
            "engine."
        )

    def _default(self, feature: ArrayFeature) -> NDArray[Any]:
        shape = self._shapes[feature.name].default
        if not fits(shape):
            raise PredictionError(
                f"{self._model}: the optional input {feature.name!r} is too large to be filled in; give it."
            )
        try:
            return np.full(shape, as_type(self._defaults[feature.name], feature.dtype))
        except ValueError as error:
            raise PredictionError(
                f"{self._model}: the default of the optional input {feature.name!r} is none: {error}; give it."
            ) from error

    def _described_part(self, allowed: AllowedShapes, shape: Shape) -> Shape:
        """A shape without sequence and batch, which rank 5 networks take in front of the described sizes."""
        if not self._rank_five:
            return shape
        if len(allowed.default) == 1:
            vector = len(shape) == 5 and shape[3:] == (1, 1)
            return shape[2:3] if vector or len(shape) == 3 else shape
        return shape[-3:] if len(shape) in (4, 5) else shape


def checked_names(inputs: Mapping[str, Any], features: Iterable[Feature], *, model: str) -> None:
    """Refuse inputs that the model does not have, or that have no names; raises PredictionError."""
    if not isinstance(inputs, Mapping):
        raise PredictionError(
            f"{model} takes one dictionary of inputs by name, not {type(inputs).__name__}; predict one by one."
        )
    names = [feature.name for feature in features]
    for name in inputs:
        if name not in names:
            raise PredictionError(f"{model} has no input {name!r}; its inputs are: {', '.join(names) or 'none'}.")


def checked_image(feature: ImageFeature, allowed: AllowedShapes, value: Any, *, model: str) -> Image.Image:
    """A PIL image of an allowed size; raises PredictionError."""
    if not isinstance(value, Image.Image):
        raise PredictionError(f"{model}: input {feature.name!r} takes a PIL image, not {type(value).__name__}.")
    if not allowed.allows((value.height, value.width)):
        raise PredictionError(
            f"{model}: input {feature.name!r} takes an image of {_sizes(allowed)} (width x height), "
            f"not {value.width} x {value.height}; resize it first."
        )
    return value


def checked_array(
    feature: ArrayFeature,
    allowed: AllowedShapes,
    value: Any,
    *,
    model: str,
    described: Callable[[AllowedShapes, Shape], Shape] = lambda allowed, shape: shape,
) -> NDArray[Any]:
    """An array of the declared type and an allowed shape, without a copy where it can be; raises PredictionError.

    Args:
        feature: the input.
        allowed: its shapes.
        value: what was given.
        model: the model's name, for errors.
        described: gives the part of an array's shape that the file describes.
    """
    if isinstance(value, Image.Image):
        raise PredictionError(f"{model}: input {feature.name!r} takes an array, not an image.")
    try:
        array = numbers(value)
    except (TypeError, ValueError) as error:
        raise PredictionError(
            f"{model}: input {feature.name!r} takes an array of {feature.dtype} ({error})."
        ) from error
    if not allowed.allows(described(allowed, array.shape)):
        raise PredictionError(f"{model}: input {feature.name!r} takes the shape {allowed}, not {array.shape}.")
    try:
        return as_type(array, feature.dtype)
    except ValueError as error:
        raise PredictionError(
            f"{model}: input {feature.name!r} takes an array of {feature.dtype}; {error}."
        ) from error


def default_value(feature: Any) -> float:
    """What an optional array holds where it is not given (specification: `defaultOptionalValue`)."""
    array = feature.type.multiArrayType
    chosen = array.WhichOneof("defaultOptionalValue")
    return float(getattr(array, chosen)) if chosen in _DEFAULT_VALUES else 0.0


def _sizes(allowed: AllowedShapes) -> str:
    """Image sizes, which are stored as (height, width), the other way round."""
    if allowed.ranges:
        return str(AllowedShapes((), ranges=allowed.ranges[::-1]))
    sizes = [allowed.default, *sorted(allowed.listed - {allowed.default})]
    return " or ".join(f"{width} x {height}" for height, width in sizes)
