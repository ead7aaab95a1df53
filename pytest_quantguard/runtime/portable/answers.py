"""From a network's arrays to the answer of `predict`, and to arrays for measuring."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.models.description import (
    ArrayFeature,
    Feature,
    ImageFeature,
    Label,
    ModelDescription,
    OtherFeature,
)
from pytest_quantguard.runtime.engine import Outputs
from pytest_quantguard.runtime.portable.images import array_to_pixels, image_to_pixels, pixels_to_image


def as_outputs(
    description: ModelDescription, arrays: Mapping[str, NDArray[Any]], scores: NDArray[Any] | None, *, model: str
) -> Outputs:
    """What a network computed, by output name, as arrays.

    Args:
        description: the model's outputs and labels.
        arrays: by output name, images as float32 (channels, height, width).
        scores: a classifier's probabilities in any shape.
        model: the model's name, for errors.

    Raises:
        PredictionError: the probabilities are not one per label.
    """
    found: dict[str, NDArray[Any]] = {}
    for feature in description.outputs:
        if feature.name not in arrays:
            continue
        values = arrays[feature.name]
        if isinstance(feature, ImageFeature):
            found[feature.name] = array_to_pixels(values.astype(np.float32), feature)
        elif isinstance(feature, ArrayFeature):
            # coremltools hands out float16 arrays as float32.
            dtype = "float32" if feature.dtype == "float16" else feature.dtype
            found[feature.name] = values.astype(dtype, copy=False)
        else:
            found[feature.name] = values.reshape(()) if values.size == 1 else values
    if scores is None:
        return Outputs(None, found)
    labels = description.labels or ()
    vector = scores.astype(np.float32, copy=False).reshape(-1)
    if len(vector) != len(labels):
        raise PredictionError(f"{model} gave {len(vector)} probabilities for {len(labels)} labels.")
    return Outputs(vector, found)


def as_prediction(description: ModelDescription, outputs: Outputs, *, model: str) -> dict[str, Any]:
    """The answer of coremltools' `MLModel.predict` from arrays.

    Raises:
        PredictionError: an image output holds NaN or infinite values.
    """
    answer: dict[str, Any] = {}
    for feature in description.outputs:
        values = outputs.arrays.get(feature.name)
        if values is None:
            continue
        if isinstance(feature, ImageFeature):
            try:
                answer[feature.name] = pixels_to_image(values, feature)
            except ValueError as error:
                raise PredictionError(f"{model}: output {feature.name!r} is no image: {error}.") from error
        else:
            answer[feature.name] = (
                values if isinstance(feature, ArrayFeature) or values.ndim else _number(feature, values)
            )
    if outputs.scores is not None and description.labels:
        if description.label_name:
            # Of equal probabilities, and among NaN, the first label in order is the answer.
            answer[description.label_name] = description.labels[int(outputs.scores.argmax())]
        if description.probabilities_name:
            answer[description.probabilities_name] = by_label(description.labels, outputs.scores)
    return answer


def feature_as_array(value: Any) -> NDArray[Any]:
    """A value of `predict` as an array for measuring; what holds no numbers becomes an array of objects."""
    return image_to_pixels(value) if isinstance(value, Image.Image) else np.asarray(value)


def _number(feature: Feature, values: NDArray[Any]) -> int | float:
    number = values.item()
    return int(number) if isinstance(feature, OtherFeature) and feature.type_name == "int64Type" else float(number)


def by_label(labels: tuple[Label, ...], scores: NDArray[np.floating[Any]]) -> dict[Label, float]:
    """Probabilities by label; of a label that occurs twice the higher one, so that the answer stays on top."""
    probabilities: dict[Label, float] = {}
    for label, score in zip(labels, scores.tolist(), strict=True):
        if label not in probabilities or score > probabilities[label]:
            probabilities[label] = score
    return probabilities
