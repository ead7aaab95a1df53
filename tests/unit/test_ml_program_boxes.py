"""Boxes cut out of images, and the choice among overlapping boxes."""

import itertools

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.translator import translate

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

RNG = np.random.default_rng(11)
IMAGE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
BATCH = RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)
BOXES = np.float32([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]])


def crop(tmp_path, boxes, image=IMAGE, sizes=(2, 2), target="iOS17", **options):
    def build(x):
        return mb.crop_resize(x=x, boxes=boxes, target_height=sizes[0], target_width=sizes[1], **options)

    return run_program(build, {"x": image}, tmp_path, target)


def crop_of_ios15(tmp_path, roi, image=IMAGE, sizes=(2, 2), target="iOS15", **options):
    roi = np.float32(roi)
    roi = roi.reshape(len(roi), 1, -1, 1, 1)

    def build(x):
        return mb.crop_resize(x=x, roi=roi, target_height=sizes[0], target_width=sizes[1], **options)

    return run_program(build, {"x": image}, tmp_path, target)


@pytest.mark.parametrize(
    ("roi", "sizes", "normalized", "expected"),
    [
        # The expected values of coremltools' own test of the operation.
        ([[1, 1, 2, 2]], (2, 2), False, [6, 7, 10, 11]),
        ([[1, 1, 2, 2]], (1, 1), False, [8.5]),
        ([[0, 0, 0, 1 / 3, 1 / 3]], (2, 2), True, [1, 2, 5, 6]),
        ([[2, 2, 1, 1]], (2, 2), False, [11, 10, 7, 6]),
    ],
)
def test_aligned_boxes_are_read_from_corner_to_corner(roi, sizes, normalized, expected, tmp_path):
    found = crop_of_ios15(
        tmp_path, roi, sizes=sizes, normalized_coordinates=normalized, sampling_mode="ALIGN_CORNERS"
    )
    assert found.shape == (1, 1, 1, *sizes)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)


def test_points_outside_of_the_image_are_padded(tmp_path):
    options = {"normalized_coordinates": True, "sampling_mode": "ALIGN_CORNERS", "pad_value": 10.0}
    expected = np.float32([[3.1, 5.2, 10, 10], [10, 7.9, 10, 13.9], [2.2, 3.1, 9.4, 10.3]])
    found = crop(tmp_path, BOXES, box_indices=np.int32([0, 0, 0]), **options)
    np.testing.assert_allclose(found, expected.reshape(3, 1, 2, 2), rtol=1e-5)
    rois = np.concatenate([np.zeros((3, 1)), BOXES], axis=1)
    found = crop_of_ios15(tmp_path, rois, target="iOS16", **options)
    np.testing.assert_allclose(found, expected.reshape(3, 1, 1, 2, 2), rtol=1e-5)


@pytest.mark.parametrize("target", ["iOS15", "iOS16"])
def test_an_unaligned_box_outside_is_mirrored_as_coremltools_tests_expect(tmp_path, target):
    options = {"normalized_coordinates": True, "sampling_mode": "UNALIGN_CORNERS"}
    found = crop_of_ios15(tmp_path, [[2, 2, 1, 1]], target=target, **options)
    assert found.reshape(-1).tolist() == [3.5, 5.5, 11.5, 13.5]


# The box (2, 3, 4, 8) of an image that holds its column numbers: from pixel 3 to 8, five long.
POINTS = {
    "STRICT_ALIGN_CORNERS": [3, 5.5, 8],
    "ALIGN_CORNERS": [3, 5.5, 8],
    "DEFAULT": [3, 5, 7],
    "OFFSET_CORNERS": [3 + 5 / 6, 3 + 15 / 6, 3 + 25 / 6],
    "UNALIGN_CORNERS": [3 + 5 / 6 - 0.5, 3 + 15 / 6 - 0.5, 3 + 25 / 6 - 0.5],
}


@pytest.mark.parametrize("mode", POINTS)
def test_each_sampling_mode_has_its_grid(mode, tmp_path):
    image = np.broadcast_to(np.arange(10, dtype=np.float32), (1, 1, 6, 10)).copy()
    found = crop(tmp_path, np.float32([[2, 3, 4, 8]]), image, (1, 3), sampling_mode=mode)
    np.testing.assert_allclose(found.reshape(-1), POINTS[mode], rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "box"),
    [
        ("CORNERS_HEIGHT_FIRST", [1, 2, 3, 5]),
        ("CORNERS_WIDTH_FIRST", [2, 1, 5, 3]),
        ("CENTER_SIZE_HEIGHT_FIRST", [2, 3.5, 2, 3]),
        ("CENTER_SIZE_WIDTH_FIRST", [3.5, 2, 3, 2]),
    ],
)
def test_boxes_are_written_in_four_ways(mode, box, tmp_path):
    found = crop(
        tmp_path,
        np.float32([box]) * 2,
        BATCH,
        (3, 4),
        box_coordinate_mode=mode,
        box_indices=np.int32([1]),
        sampling_mode="ALIGN_CORNERS",
        spatial_scale=0.5,
    )
    np.testing.assert_allclose(found[0], BATCH[1, :, 1:4, 2:6], rtol=1e-5)


def test_boxes_without_a_number_are_cut_from_every_image(tmp_path):
    found = crop_of_ios15(
        tmp_path, [[1, 2, 3, 5], [0, 0, 2, 3]], BATCH, (3, 4), sampling_mode="STRICT_ALIGN_CORNERS"
    )
    np.testing.assert_allclose(found, np.stack([BATCH[:, :, 1:4, 2:6], BATCH[:, :, :3, :4]]), rtol=1e-5)


def test_boxes_and_image_sizes_may_be_known_at_run_time_only(tmp_path):
    def build(x, boxes):
        return mb.crop_resize(
            x=x,
            boxes=boxes,
            box_indices=np.int32([1, 0]),
            target_height=3,
            target_width=4,
            normalized_coordinates=True,
            sampling_mode="ALIGN_CORNERS",
        )

    inputs = {"x": ((2, 3, None, None), "float32"), "boxes": ((2, 4), "float32")}
    boxes = np.float32([[1 / 5, 2 / 7, 3 / 5, 5 / 7], [0, 0, 2 / 5, 3 / 7]])
    found = run_spec(make_spec(build, inputs, tmp_path), {"x": BATCH, "boxes": boxes}, tmp_path)[0]
    np.testing.assert_allclose(found, np.stack([BATCH[1, :, 1:4, 2:6], BATCH[0, :, :3, :4]]), atol=1e-5)


def overlap(first, second):
    """Intersection over union of two boxes (centre x, centre y, width, height)."""
    shared = 1.0
    for centre, size in ((0, 2), (1, 3)):
        low = max(box[centre] - box[size] / 2 for box in (first, second))
        high = min(box[centre] + box[size] / 2 for box in (first, second))
        shared *= max(0.0, high - low)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def survivors(boxes, scores, iou, score, count, per_class):
    """By definition: from the best box down, each that no chosen one (of its class) overlaps too much."""
    best = scores.max(axis=1)
    chosen = []
    for box in np.argsort(-best, kind="stable"):
        rivals = [other for other in chosen if not per_class or scores[other].argmax() == scores[box].argmax()]
        if best[box] > score and all(overlap(boxes[box], boxes[other]) <= iou for other in rivals):
            chosen.append(box)
    return (chosen or [int(best.argmax())])[:count]


def suppress(tmp_path, boxes, scores, iou, score, count, per_class):
    def build(boxes, scores):
        return mb.non_maximum_suppression(
            boxes=boxes,
            scores=scores,
            iou_threshold=iou,
            score_threshold=score,
            max_boxes=count,
            per_class_suppression=per_class,
        )

    return run_program(build, {"boxes": boxes, "scores": scores}, tmp_path, "iOS15")


@pytest.mark.parametrize(
    ("per_class", "score", "count"),
    [*itertools.product([False, True], [-0.5, 0.6], [4, 40]), (False, 2.0, 3), (True, 2.0, 3)],
)
def test_overlapping_boxes_are_suppressed_as_the_definition_says(per_class, score, count, tmp_path):
    boxes = RNG.uniform(0.1, 1, (2, 30, 4)).astype(np.float32)
    scores = RNG.normal(size=(2, 30, 4)).clip(-2, 1.9).astype(np.float32)
    found = suppress(tmp_path, boxes, scores, 0.3, score, count, per_class)
    for sample in range(2):
        indices = survivors(boxes[sample], scores[sample], 0.3, score, count, per_class)
        number = len(indices)
        assert found[3][sample] == number
        assert found[2][sample].tolist() == [*indices, *[-1] * (count - number)]
        np.testing.assert_array_equal(found[0][sample, :number], boxes[sample][indices])
        np.testing.assert_array_equal(found[1][sample, :number], scores[sample][indices])
        assert not found[0][sample, number:].any()
        assert not found[1][sample, number:].any()


def test_from_ios_17_on_boxes_are_the_last_dimension_and_no_score_is_too_low(tmp_path):
    boxes = RNG.uniform(0.1, 1, (1, 12, 4)).astype(np.float32)
    scores = RNG.normal(size=(1, 12, 2)).astype(np.float32)

    def build(boxes, scores):
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.1, max_boxes=12, per_class_suppression=False
        )

    inputs = {"boxes": boxes.transpose(0, 2, 1).copy(), "scores": scores.transpose(0, 2, 1).copy()}
    chosen, values, indices = run_program(build, inputs, tmp_path, "iOS17")
    expected = survivors(boxes[0], scores[0], 0.1, -np.inf, 12, False)
    assert indices[0].tolist() == [*expected, *[-1] * (12 - len(expected))]
    np.testing.assert_array_equal(chosen[0, :, : len(expected)], boxes[0][expected].T)
    np.testing.assert_array_equal(values[0, :, : len(expected)], scores[0][expected].T)


def test_the_number_of_boxes_may_be_known_at_run_time_only(tmp_path):
    def build(boxes, scores):
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=0.5, score_threshold=0.0, max_boxes=2
        )

    spec = make_spec(
        build, {"boxes": ((1, None, 4), "float32"), "scores": ((1, None, 1), "float32")}, tmp_path, "iOS16"
    )
    inputs = {"boxes": np.float32([[[1, 1, 1, 1]]]), "scores": np.float32([[[0.5]]])}
    boxes, scores, indices, number = run_spec(spec, inputs, tmp_path)
    assert (boxes[0, 0].tolist(), scores[0].tolist()) == ([1, 1, 1, 1], [[0.5], [0]])
    assert (indices.tolist(), number.tolist()) == ([[0, -1]], [1])


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("box_coordinate_mode", "box_coordinate_mode 'SIDEWAYS' is not supported"),
        ("sampling_mode", "sampling_mode 'SIDEWAYS' is not supported"),
    ],
)
def test_unknown_modes_are_refused(parameter, message, tmp_path):
    spec = make_spec(
        lambda x: mb.crop_resize(x=x, boxes=np.float32([[1, 1, 2, 2]])), {"x": IMAGE}, tmp_path, "iOS17"
    )
    function = spec.mlProgram.functions["main"]
    crop_message = function.block_specializations[function.opset].operations[-1]
    text = crop_message.inputs[parameter].arguments[0]
    for message_of_constant in function.block_specializations[function.opset].operations:
        if message_of_constant.outputs[0].name == text.name:
            value = message_of_constant.attributes["val"]
            value.immediateValue.tensor.strings.values[:] = ["SIDEWAYS"]
    with pytest.raises(UnsupportedModelError, match=message):
        translate(spec, tmp_path)
