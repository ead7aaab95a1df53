"""Choosing among overlapping boxes (MIL operation `non_maximum_suppression`).

The details are those of the reference in coremltools' test: a box stands for its best class; places of the result
that stay empty hold zeros, and -1 as index; if no box reaches the score, the best one is chosen.
"""

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

IOS17_OPSET = 7
LOWEST = float(np.finfo(np.float32).min)


@operation("non_maximum_suppression")
def non_maximum_suppression(op: MilOperation) -> list[str]:
    """The best boxes (centre x, centre y, width, height), their scores and indices, and up to iOS 16 their number

    From iOS 17 on boxes and scores are (batch, values, boxes), before (batch, boxes, values).
    """
    boxes_last = op.opset >= IOS17_OPSET
    boxes, scores = op.tensor("boxes"), op.tensor("scores")
    if boxes_last:
        boxes, scores = (op.node("Transpose", tensor, perm=[0, 2, 1]) for tensor in (boxes, scores))
    best = op.node("ReduceMax", scores, op.array([-1], "int64"), keepdims=0)
    kept = _kept(op, boxes, scores, best)
    count = op.integer("max_boxes")
    # Places behind the last box, so that there are always as many to choose from as there may be results.
    ranked = op.node("Where", kept, best, op.array(-np.inf, "float32"))
    ranked = op.node("Pad", ranked, op.array([0, 0, 0, count], "int64"), op.array(-np.inf, "float32"))
    values, places = op.nodes("TopK", [ranked, op.array([count], "int64")], 2, axis=1)
    filled = op.node("Greater", values, op.array(-np.inf, "float32"))
    results = [_chosen(op, tensor, places, filled) for tensor in (boxes, scores)]
    if boxes_last:
        results = [op.node("Transpose", result, perm=[0, 2, 1]) for result in results]
    indices = op.node("Where", filled, op.cast(places, "int32"), op.array(-1, "int32"))
    if boxes_last:
        return [*results, indices]
    return [*results, indices, _number(op, filled)]


def _kept(op: MilOperation, boxes: str, scores: str, best: str) -> str:
    """Which boxes (batch, boxes) survive."""
    threshold = op.number("score_threshold") if op.has("score_threshold") else LOWEST
    classes = op.node("Unsqueeze", best, op.array([1], "int64"))
    if op.flag("per_class_suppression"):
        # Each box takes part in its best class only.
        first = op.node("ArgMax", scores, axis=-1, keepdims=1)
        own = op.node("Equal", op.count(op.size(scores, 2)), first)
        classes = op.node("Where", own, scores, op.array(-np.inf, "float32"))
        classes = op.node("Transpose", classes, perm=[0, 2, 1])
    selected = op.node(
        "NonMaxSuppression",
        boxes,
        classes,
        op.array([op.integer("max_boxes")], "int64"),
        op.array([min(max(op.number("iou_threshold"), 0.0), 1.0)], "float32"),
        op.array([max(threshold, LOWEST)], "float32"),
        center_point_box=1,
    )
    # From rows (batch, class, box) to one truth value for each box.
    places = op.node("Gather", selected, op.array([0, 2], "int64"), axis=1)
    shape = op.node("Shape", best)
    number = op.node("Shape", places, start=0, end=1)
    nothing = op.node("Expand", op.array(0, "int32"), shape)
    kept = op.node("ScatterND", nothing, places, op.node("Expand", op.array(1, "int32"), number))
    if not op.has("score_threshold"):
        return op.cast(kept, "bool")
    empty = op.node("Equal", op.node("ReduceMax", kept, op.array([1], "int64")), op.array(0, "int32"))
    highest = op.node("Equal", op.count(op.size(best, 1)), op.node("ArgMax", best, axis=1))
    return op.node("Or", op.cast(kept, "bool"), op.node("And", empty, highest))


def _chosen(op: MilOperation, tensor: str, places: str, filled: str) -> str:
    """The rows of (batch, boxes, values) at the places, zeros where none is."""
    last = op.node("Sub", op.node("Shape", tensor, start=1, end=2), op.array([1], "int64"))
    rows = op.node("Unsqueeze", op.node("Min", places, last), op.array([-1], "int64"))
    chosen = op.node("GatherND", tensor, rows, batch_dims=1)
    return op.node("Where", op.node("Unsqueeze", filled, op.array([-1], "int64")), chosen, op.array(0, "float32"))


def _number(op: MilOperation, filled: str) -> str:
    return op.node("ReduceSum", op.cast(filled, "int32"), op.array([1], "int64"), keepdims=0)
