"""Non-maximum suppression of boxes."""

import numpy as np
import pytest
from feature_model_makers import new_spec, run

from pytest_quantguard.errors import ModelFileError, PredictionError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

# Two boxes that overlap, one far away, one of little confidence.
BOXES = np.array([[5.0, 4.0, 10.0, 4.0], [6.0, 5.0, 10.0, 4.0], [50.0, 50.0, 2.0, 2.0], [80.0, 80.0, 2.0, 2.0]])
CONFIDENCE = np.array([[0.9, 0.0], [0.0, 0.8], [0.3, 0.1], [0.05, 0.0]])


def suppression(*, rows=None, per_class=False, iou=0.4, least=0.1):
    shapes = {"c": (0, 0) if rows is None else (rows, 2), "b": (0, 0) if rows is None else (rows, 4)}
    spec = new_spec(
        "nonMaximumSuppression",
        {"confidence": ((4, 2), "DOUBLE"), "boxes": ((4, 4), "DOUBLE"), "iou": "double?", "least": "double?"},
        {name: (() if rows is None else shape, "DOUBLE") for name, shape in shapes.items()},
    )
    params = spec.nonMaximumSuppression
    params.pickTop.perClass = per_class
    params.iouThreshold, params.confidenceThreshold = iou, least
    params.confidenceInputFeatureName, params.coordinatesInputFeatureName = "confidence", "boxes"
    params.iouThresholdInputFeatureName, params.confidenceThresholdInputFeatureName = "iou", "least"
    params.confidenceOutputFeatureName, params.coordinatesOutputFeatureName = "c", "b"
    params.stringClassLabels.vector.extend(["cat", "dog"])
    return spec


def kept(spec, **inputs):
    """The first coordinate of each box that is kept."""
    answer = run(spec, confidence=CONFIDENCE, boxes=BOXES, **inputs)
    assert len(answer["c"]) == len(answer["b"])
    return answer["b"][:, 0].tolist()


def test_boxes_that_overlap_a_better_one_are_dropped():
    assert kept(suppression(iou=0.4)) == [5.0, 50.0]
    assert kept(suppression(iou=0.6)) == [5.0, 6.0, 50.0]


def test_per_class_only_boxes_of_the_same_class_drop_each_other():
    assert kept(suppression(per_class=True)) == [5.0, 6.0, 50.0]


def test_the_thresholds_may_come_as_inputs():
    assert kept(suppression(), iou=0.6) == [5.0, 6.0, 50.0]
    assert kept(suppression(), least=0.0) == [5.0, 50.0, 80.0]
    assert kept(suppression(), least=1.0) == []


def test_the_overlap_is_intersection_over_union():
    # 9 x 3 of 2 x 40 - 27: 0.509...
    assert kept(suppression(iou=0.50)) == [5.0, 50.0]
    assert kept(suppression(iou=0.51)) == [5.0, 6.0, 50.0]


def test_an_output_of_a_described_height_is_cut_or_filled_with_zeros():
    assert kept(suppression(rows=3)) == [5.0, 50.0, 0.0]
    assert kept(suppression(rows=1)) == [5.0]
    spec = suppression()
    for output in spec.description.output:
        for lower, upper in ((2, 2), (2, 4)):
            output.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=lower, upperBound=upper)
    assert kept(spec, least=1.0) == [0.0, 0.0]


def test_labels_of_boxes_make_no_classifier():
    assert describe(suppression()).labels is None


def test_shapes_that_do_not_fit_are_refused():
    spec = suppression()
    spec.description.input[1].type.multiArrayType.shape[:] = [3, 4]
    with pytest.raises(PredictionError, match=r"confidences \(4, 2\) and boxes \(3, 4\) do not fit each other"):
        run(spec, confidence=CONFIDENCE, boxes=BOXES[:3])
    with pytest.raises(ModelFileError, match=f"its outputs are described with {2**40} boxes"):
        FeatureModelEngine(suppression(rows=2**40), None, name="model.mlmodel")
