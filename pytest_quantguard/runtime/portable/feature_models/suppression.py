"""Non-maximum suppression of boxes (specification: `NonMaximumSuppression.proto`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.models.description import ArrayFeature
from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import Vector
from pytest_quantguard.runtime.portable.shapes import allowed_shapes

MAX_ROWS = 1 << 20
"""Boxes that an output may be described with."""


@feature_model("nonMaximumSuppression", takes_optional=True)
def non_maximum_suppression(model: FeatureModel) -> Predict:
    """Keep the boxes of the highest confidence; drop those that overlap a kept one by more than `iouThreshold`.

    Boxes of less than `confidenceThreshold` are dropped first. A box's confidence is that of its best class; with
    `pickTop.perClass` only boxes of the same best class drop each other. Both thresholds may come as inputs. An
    output of a described height is cut or filled up with zeros.
    """
    params = model.params
    confidence_input = model.input_named(params.confidenceInputFeatureName, "multiArrayType")
    coordinates_input = model.input_named(params.coordinatesInputFeatureName, "multiArrayType")
    confidence_output = model.output_named(params.confidenceOutputFeatureName)
    coordinates_output = model.output_named(params.coordinatesOutputFeatureName)
    for name in (params.iouThresholdInputFeatureName, params.confidenceThresholdInputFeatureName):
        if any(taken.name == name for taken in model.description.inputs):
            model.input_named(name, "doubleType")
    fewest, most = _heights(model)
    per_class = params.pickTop.perClass

    def threshold(values: Mapping[str, Any], name: str, default: float) -> float:
        given = values.get(name)
        return default if given is None else float(given)

    def predict(values: Mapping[str, Any]) -> Answer:
        confidence = _rows(model, values[confidence_input.name], confidence_input.name)
        boxes = _rows(model, values[coordinates_input.name], coordinates_input.name)
        if len(confidence) != len(boxes) or boxes.shape[1] != 4:
            raise model.failed(f"confidences {confidence.shape} and boxes {boxes.shape} do not fit each other")
        kept = suppress(
            confidence,
            boxes,
            least=threshold(values, params.confidenceThresholdInputFeatureName, params.confidenceThreshold),
            overlap=threshold(values, params.iouThresholdInputFeatureName, params.iouThreshold),
            per_class=per_class,
        )[:most]
        missing = ((0, max(0, fewest - len(kept))), (0, 0))
        return Answer(
            {
                output.name: model.value(output, np.pad(rows[kept], missing))
                for output, rows in ((confidence_output, confidence), (coordinates_output, boxes))
            }
        )

    return predict


def suppress(
    confidence: Vector, boxes: Vector, *, least: float, overlap: float, per_class: bool
) -> NDArray[np.int64]:
    """The rows that are kept, most confident first.

    Args:
        confidence: shape (boxes, classes).
        boxes: shape (boxes, 4): x and y of the centre, width, height.
        least: boxes of less confidence are dropped.
        overlap: the share of intersection in union above which a box is dropped.
        per_class: whether only boxes of the same best class drop each other.
    """
    if not confidence.size:
        return np.empty(0, np.int64)
    best, label = confidence.max(axis=1), confidence.argmax(axis=1)
    waiting = np.argsort(-best, kind="stable")
    waiting = waiting[best[waiting] >= least]
    kept = []
    while waiting.size:
        top, others = waiting[0], waiting[1:]
        kept.append(top)
        drop = _overlaps(boxes[top], boxes[others]) > overlap
        if per_class:
            drop &= label[others] == label[top]
        waiting = others[~drop]
    return np.array(kept, np.int64)


def _overlaps(box: Vector, others: Vector) -> Vector:
    """Intersection over union of one box with each of the others."""
    low = np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    common = np.maximum(high - low, 0.0).prod(axis=1)
    union = box[2:].prod() + others[:, 2:].prod(axis=1) - common
    shares: Vector = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def _rows(model: FeatureModel, value: Any, name: str) -> Vector:
    """Two dimensions; networks may put further ones of size 1 in front."""
    array = np.asarray(value, np.float64)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise model.failed(f"input {name!r} has {array.ndim} dimensions, not boxes and values")
    return array


def _heights(model: FeatureModel) -> tuple[int, int | None]:
    """The fewest and the most boxes that the outputs are described with."""
    fewest, most = 0, None
    for described in model.spec.description.output:
        if not isinstance(model.output_named(described.name), ArrayFeature):
            raise model.damaged(f"output {described.name!r} is no array")
        allowed = allowed_shapes(described)
        if len(allowed.ranges) == 2:
            fewest, most = allowed.ranges[0]
        elif len(allowed.default) == 2:
            fewest = most = allowed.default[0]
    if fewest > MAX_ROWS or fewest < 0 or (most is not None and most < 0):
        raise model.damaged(f"its outputs are described with {fewest} boxes")
    return fewest, most
