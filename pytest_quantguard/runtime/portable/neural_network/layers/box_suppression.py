"""Choosing among overlapping boxes: non-maximum suppression (NMS)."""

import numpy as np

from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

_NONE = float("-inf")
_LOWEST = float(np.finfo(np.float32).min)


@layer("NonMaximumSuppression")
def non_maximum_suppression(
    net: Network,
    layer: Layer,
    boxes: Blob,
    scores: Blob,
    iou: Blob | None = None,
    threshold: Blob | None = None,
    most: Blob | None = None,
) -> list[Blob]:
    """`NonMaximumSuppressionLayerParams`: boxes, scores, indices and numbers of what is left, best first.

    The details are those of the reference in coremltools' test (`test_nms_cpu`).
    """
    params = layer.params
    if boxes.rank != 3 or scores.rank != 3 or boxes.shape != (*scores.shape[:2], 4):
        raise layer.unsupported(f"boxes of shape {boxes.shape} with scores of shape {scores.shape}")
    if most is None and not params.maxBoxes:
        raise layer.unsupported("maxBoxes of 0")
    limit = net.constant([int(params.maxBoxes)]) if most is None else net.vector(most)
    least = net.constant(float(params.scoreThreshold)) if threshold is None else net.reshaped(threshold, ())
    overlap = net.constant(np.array([params.iouThreshold], np.float32)) if iou is None else net.reshaped(iou, (1,))
    best = _candidates(net, scores, least)
    left = _survivors(net, layer, boxes, scores, best, limit, overlap)
    ranked = net.node("Where", left, best, net.constant(_NONE))
    # Places behind the last box, so that there are as many to choose from as there may be results.
    amounts = net.node("Concat", net.constant([0, 0, 0]), limit, axis=0)
    padded = net.node("Pad", ranked, amounts, net.constant(_NONE))
    values, places = net.nodes("TopK", [padded, limit], 2, axis=1)
    filled = net.node("Greater", values, net.constant(_NONE))
    chosen = [_chosen(net, blob, places, filled) for blob in (boxes, scores)]
    indices = net.node("Where", filled, net.floats(places), net.constant(-1.0))
    count = net.node("ReduceSum", net.floats(filled), net.constant([1]), keepdims=0)
    return [*chosen, net.blob(indices), net.blob(count)]


def _candidates(net: Network, scores: Blob, least: str) -> str:
    """The best score of each box, (batch, boxes); -inf below the threshold, except for the best box of all."""
    best = net.node("ReduceMax", net.exact(scores), net.constant([2]), keepdims=0)
    first = net.node("ArgMax", best, axis=1, keepdims=1)
    numbers = net.constant(np.arange(known(scores.shape)[1]))
    kept = net.node("Or", net.node("GreaterOrEqual", best, least), net.node("Equal", numbers, first))
    return net.node("Where", kept, best, net.constant(_NONE))


def _survivors(net: Network, layer: Layer, boxes: Blob, scores: Blob, best: str, limit: str, overlap: str) -> str:
    """Which boxes (batch, boxes) no better box suppresses."""
    batch, number, classes = known(scores.shape)
    by_class = net.node("Unsqueeze", best, net.constant([1]))
    if layer.params.perClassSuppression:
        # Each box takes part in its best class only.
        own = net.node("ArgMax", net.exact(scores), axis=2, keepdims=0)
        own = net.node("Unsqueeze", own, net.constant([1]))
        mine = net.node("Equal", net.constant(np.arange(classes).reshape(1, -1, 1)), own)
        by_class = net.node("Where", mine, by_class, net.constant(_NONE))
    selected = net.node(
        "NonMaxSuppression",
        net.exact(boxes),
        by_class,
        limit,
        net.node("Clip", overlap, net.constant(0.0), net.constant(1.0)),
        net.constant(np.array([_LOWEST], np.float32)),
        center_point_box=1,
    )
    # From rows (batch, class, box) to one truth value for each box.
    places = net.node("Gather", selected, net.constant([0, 2]), axis=1)
    ones = net.node("Expand", net.constant(1.0), net.node("Shape", places, start=0, end=1))
    marks = net.node("ScatterND", net.constant(np.zeros((batch, number), np.float32)), places, ones)
    return net.node("Cast", marks, to=ELEMENT_TYPES["bool"])


def _chosen(net: Network, blob: Blob, places: str, filled: str) -> Blob:
    """The rows of (batch, boxes, values) at the places, zeros where none is."""
    rows = net.node("Min", places, net.constant([known(blob.shape)[1] - 1]))
    values = net.node("GatherND", net.exact(blob), net.node("Unsqueeze", rows, net.constant([2])), batch_dims=1)
    return net.blob(net.node("Where", net.node("Unsqueeze", filled, net.constant([2])), values, net.constant(0.0)))
