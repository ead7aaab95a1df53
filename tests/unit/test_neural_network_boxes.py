import numpy as np
import pytest
from network_runner import close, make_builder, make_engine

from pytest_quantguard.errors import UnsupportedModelError

NAMES = ("boxes", "scores", "indices", "count")


def overlap(first, second):
    """Intersection over union of boxes (centre x, centre y, width, height)."""
    low = np.maximum(first[:2] - first[2:] / 2, second[:2] - second[2:] / 2)
    high = np.minimum(first[:2] + first[2:] / 2, second[:2] + second[2:] / 2)
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(first[2:]) + np.prod(second[2:]) - both)


def suppressed(boxes, scores, iou, threshold, most, per_class):
    """Reference: the boxes that are left, best first, by the words of `NonMaximumSuppressionLayerParams`."""
    best, classes = scores.max(-1), scores.argmax(-1)
    kept = []
    for index in np.argsort(-best, kind="stable"):
        rivals = [other for other in kept if not per_class or classes[other] == classes[index]]
        if best[index] >= threshold and all(overlap(boxes[index], boxes[other]) <= iou for other in rivals):
            kept.append(int(index))
    kept = kept[:most] or [int(best.argmax())]
    padding = most - len(kept)
    return (
        np.pad(boxes[kept], ((0, padding), (0, 0))),
        np.pad(scores[kept], ((0, padding), (0, 0))),
        np.pad(np.float32(kept), (0, padding), constant_values=-1),
        len(kept),
    )


def random_boxes(batch=2, number=30, classes=3):
    random = np.random.default_rng(0)
    low, high = [0, 0, 0.1, 0.1], [1, 1, 0.5, 0.5]
    boxes = random.uniform(low, high, (batch, number, 4)).astype(np.float32)
    return boxes, random.uniform(0, 1, (batch, number, classes)).astype(np.float32)


def nms(boxes, scores, *, iou, threshold, most, per_class, as_inputs=False):
    inputs = {"b": boxes, "s": scores}
    options = {"iou_threshold": iou, "score_threshold": threshold, "max_boxes": most}
    if as_inputs:
        inputs |= {name: np.float32([value]) for name, value in options.items()}
        # these must not count
        options = {"iou_threshold": 0.99, "score_threshold": 0.99, "max_boxes": 1}
    builder = make_builder(inputs, NAMES, exact=True)
    builder.add_nms("nms", list(inputs), list(NAMES), per_class_suppression=per_class, **options)
    answer = make_engine(builder).predict(inputs)
    return [answer[name] for name in NAMES]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("most", [4, 12, 50])
@pytest.mark.parametrize("threshold", [-1.0, 0.6])
@pytest.mark.parametrize("iou", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("as_inputs", [False, True])
def test_overlapping_boxes_of_a_lower_score_are_suppressed(iou, threshold, most, per_class, as_inputs):
    boxes, scores = random_boxes()
    options = {"iou": iou, "threshold": threshold, "most": most, "per_class": per_class}
    answers = nms(boxes, scores, **options, as_inputs=as_inputs)
    expected = [suppressed(*pair, **options) for pair in zip(boxes, scores, strict=True)]
    for actual, wanted in zip(answers, zip(*expected, strict=True), strict=True):
        close(actual, np.stack(wanted))


def test_the_best_box_is_left_where_no_score_reaches_the_threshold():
    boxes, scores = random_boxes(1)
    _, _, indices, count = nms(boxes, scores, iou=0.5, threshold=2.0, most=3, per_class=True)
    close(indices, [[scores.max(-1).argmax(), -1, -1]])
    close(count, [1])


def test_a_score_at_the_threshold_is_kept():
    boxes = np.float32([[[0, 0, 1, 1], [5, 5, 1, 1], [9, 9, 1, 1]]])
    scores = np.float32([[[0.5], [0.75], [0.25]]])
    _, _, indices, _ = nms(boxes, scores, iou=0.5, threshold=0.5, most=3, per_class=False)
    close(indices, [[1, 0, -1]])


def test_the_number_of_boxes_may_cut_later_layers_to_size():
    boxes, scores = random_boxes(1)
    builder = make_builder({"b": boxes, "s": scores}, ("y",), exact=True)
    builder.add_nms("nms", ["b", "s"], list(NAMES), iou_threshold=0.1, score_threshold=0.5, max_boxes=20)
    builder.add_load_constant_nd("first", "first", np.zeros(1), [1])
    builder.add_concat_nd("end", ["one", "count", "four"], "end", axis=0)
    builder.add_load_constant_nd("one", "one", np.ones(1), [1])
    builder.add_load_constant_nd("four", "four", np.full(1, 4.0), [1])
    layers = builder.nn_spec.layers
    layers.append(layers.pop(2))
    builder.add_slice_dynamic(
        "cut", ["boxes", "start", "end"], "left", strides=[1, 1, 1], begin_masks=[1, 1, 1], end_masks=[0, 0, 0]
    )
    builder.add_load_constant_nd("start", "start", np.zeros(3), [3])
    layers.append(layers.pop(-2))
    builder.add_inner_product("sum", np.ones((1, 4)), None, 4, 1, False, "left", "y")
    y = make_engine(builder).predict({"b": boxes, "s": scores})["y"]
    left, _, _, count = suppressed(boxes[0], scores[0], 0.1, 0.5, 20, False)
    close(y, left[None, :count].sum(-1, keepdims=True))


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(UnsupportedModelError, match="layer 'nms': boxes of shape"):
        nms(*random_boxes()[:1], np.zeros((2, 29, 3)), iou=0.5, threshold=0, most=3, per_class=False)
