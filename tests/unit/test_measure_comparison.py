import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.comparison import Compression, ModelIdentity, SampleSet
from pytest_quantguard.errors import PredictionError, SampleError
from pytest_quantguard.measure import StreamedOutputs, build_comparison
from pytest_quantguard.runtime.engine import Outputs


def compare(before, after, labels=None, sample_labels=None, **more):
    names = [f"{index:03}.png" for index in range(len(before))]
    given = {
        "names": names,
        "labels": labels,
        "sample_labels": sample_labels,
        "float_model": ModelIdentity("food.mlmodel", "f" * 64, 1000),
        "quantized_model": ModelIdentity("food.mlmodel", "a" * 64, 260),
        "engine": "portable",
        "versions": {"numpy": "2"},
        "samples": SampleSet(tuple((name, "0") for name in names), "d", "center_crop"),
        "scheme": "kmeans_lut:2",
    }
    return build_comparison(before, after, **(given | more))


def scored(*rows):
    return tuple(Outputs(np.array(row, dtype=np.float32)) for row in rows)


def pictured(*arrays, name="image"):
    return tuple(Outputs(None, {name: np.asarray(array)}) for array in arrays)


def many_scored(count, places=6, seed=0):
    random = np.random.default_rng(seed)
    return scored(*random.dirichlet(np.ones(places), count))


LABELS = ["apple pie", "hot dog", "pizza", "ramen", "steak", "sushi"]


def test_a_comparison_of_classifiers_holds_everything_given():
    before, after = many_scored(8), many_scored(8, seed=1)
    compression = Compression(100, 90, 2.5)
    comparison = compare(before, after, LABELS, LABELS + LABELS[:2], compression=compression)
    assert comparison.scheme == "kmeans_lut:2"
    assert comparison.engine == "portable"
    assert comparison.versions == {"numpy": "2"}
    assert comparison.compression is compression
    assert len(comparison.rows) == 8
    assert comparison.outputs == ()
    answers = [int(one.scores.argmax()) for one in before]
    truth = [0, 1, 2, 3, 4, 5, 0, 1]
    assert comparison.float_top1_accuracy.count == sum(a == t for a, t in zip(answers, truth, strict=True))


def test_whole_number_labels_are_compared_as_text():
    comparison = compare(scored([0.9, 0.1]), scored([0.2, 0.8]), [7, 8], ["7"])
    assert comparison.rows[0].quantized_answer == "8"
    assert comparison.top1_accuracy_delta == -1


def test_scores_may_have_any_shape_with_as_many_entries():
    before = (Outputs(np.array([0.7, 0.3], dtype=np.float32).reshape(2, 1, 1)),)
    assert compare(before, before, ["a", "b"]).rows[0].float_answer == "a"


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_comparing_a_model_with_itself_finds_nothing(seed):
    outputs = many_scored(6, seed=seed)
    comparison = compare(outputs, outputs, LABELS, LABELS)
    assert comparison.top1_agreement == comparison.top5_agreement == comparison.mcnemar_p == 1
    assert comparison.top1_accuracy_delta == comparison.worst_class_delta == comparison.mean_divergence == 0
    assert comparison.flipped_rows == ()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_float_model_without_an_answer_is_a_failure_that_names_it_and_the_sample(number):
    bad, good = scored([0.5, number]), scored([0.5, 0.4])
    with pytest.raises(PredictionError, match=r"The float model food\.mlmodel answers NaN .* \('000\.png'\)"):
        compare(bad, bad, ["a", "b"])
    with pytest.raises(PredictionError, match=r"The quantized model food\.mlmodel \(kmeans_lut:2\) answers NaN"):
        compare(good, bad, ["a", "b"])


def test_equal_nan_outputs_are_never_agreement():
    bad = pictured([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(PredictionError, match=r"float model .* 1 of 2 samples \('000\.png'\)"):
        compare(bad, bad)
    with pytest.raises(PredictionError, match=r"quantized model .* NaN or infinite values in output 'image'"):
        compare(pictured([1.0, 3.0], [1.0, 2.0]), bad)


def test_an_output_that_became_constant_everywhere_is_refused():
    varied = pictured([1.0, 2.0], [3.0, 4.0])
    with pytest.raises(PredictionError, match=r"one constant value in output 'image' for 2 of 2 samples"):
        compare(varied, pictured([0.0, 0.0], [1.0, 1.0]))
    compare(varied, pictured([0.0, 0.0], [1.0, 2.0]))
    compare(pictured([0.0, 0.0], [1.0, 2.0]), pictured([0.0, 0.0], [1.0, 1.0]))


def test_outputs_that_are_no_class_get_ratios():
    before = pictured(np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 50, np.uint8))
    after = pictured(np.full((2, 2, 3), 110, np.uint8), np.full((2, 2, 3), 60, np.uint8))
    comparison = compare(before, after)
    (image,) = comparison.outputs
    assert comparison.classifier is None
    assert image.name == "image"
    assert image.worst_sample == "001.png"
    assert image.worst_snr == pytest.approx(20 * np.log10(5))
    assert image.mean_snr == pytest.approx((20 + 20 * np.log10(5)) / 2)


def test_a_classifiers_other_outputs_get_ratios_too():
    before = (Outputs(np.array([0.7, 0.3], np.float32), {"b": np.ones(3), "a": np.array(2)}),)
    comparison = compare(before, before, ["x", "y"])
    assert [(output.name, output.mean_snr) for output in comparison.outputs] == [("a", 100), ("b", 100)]
    assert comparison.top1_agreement == 1


def test_an_output_without_numbers_is_left_out_with_a_note():
    before = pictured(np.array(["text"]), name="title")
    comparison = compare(before, before)
    assert comparison.outputs == ()
    assert comparison.notes == ("Output 'title' is left out: it holds no numbers.",)


@pytest.mark.parametrize(
    ("before", "after", "labels", "message"),
    [
        (
            scored([0.7, 0.3]),
            scored([0.7, 0.2, 0.1]),
            ["a", "b"],
            r"'000\.png': the model answers 3 scores but has 2",
        ),
        (scored([0.7, 0.3]), scored([0.7, 0.3]), None, "answers 2 scores but has 0 labels"),
        (pictured([1.0]), pictured([1.0]), ["a", "b"], "answers 0 scores but has 2 labels"),
        (
            pictured([1.0, 2.0]),
            pictured([1.0]),
            None,
            r"output 'image' has the shape \(2,\) in the float model and",
        ),
        (pictured([]), pictured([]), None, "not empty"),
        (
            pictured([1.0]),
            pictured([1.0], name="b"),
            None,
            r"the outputs \['image'\], the quantized model \['b'\]",
        ),
        (
            pictured([1.0]) + pictured([1.0], name="b"),
            pictured([1.0]) + pictured([1.0], name="b"),
            None,
            r"'001\.png' has other outputs than '000\.png'",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(before, after, labels, message):
    with pytest.raises(PredictionError, match=message):
        compare(before, after, labels)


def test_no_sample_and_unknown_labels_are_refused():
    with pytest.raises(SampleError, match="no sample"):
        compare((), (), ["a", "b"])
    with pytest.raises(SampleError, match=r"'000\.png' has the label 'c'"):
        compare(scored([0.7, 0.3]), scored([0.7, 0.3]), ["a", "b"], ["c"])
    with pytest.raises(ValueError, match="2 names"):
        compare(scored([0.7, 0.3]), scored([0.7, 0.3]), ["a", "b"], names=["x", "y"])


def test_too_few_samples_for_the_allowed_drop_get_a_note():
    def notes(count, max_drop):
        outputs = many_scored(count)
        labels = (LABELS * count)[:count]
        return compare(outputs, outputs, LABELS, labels, max_drop=max_drop).notes

    assert notes(100, 0.01) == (
        "100 samples cannot tell a drop of 1 point from none: the smallest they can tell is 6 points; "
        "use 600 samples or more.",
    )
    assert notes(600, 0.01) == ()
    assert notes(100, 0.06) == ()
    assert notes(100, 0.0) == ()
    assert (
        "700 samples cannot tell a drop of 0.5 points from none: the smallest they can tell is 0.86 points"
        in (notes(700, 0.005)[0])
    )
    assert notes(3, 0.01)[0].startswith("3 samples cannot tell a drop of 1 point from none: they cannot tell any;")


def test_samples_without_labels_get_a_note():
    outputs = many_scored(50)
    assert compare(outputs, outputs, LABELS).notes == (
        "Accuracy is left out: not every sample has a label.",
        "50 samples cannot show a drop of 1 point: one sample is 2 points.",
    )
    assert compare(many_scored(100), many_scored(100), LABELS).notes == (
        "Accuracy is left out: not every sample has a label.",
    )


def test_few_classes_and_repeated_labels_get_notes():
    outputs = many_scored(600, places=4)
    notes = compare(outputs, outputs, ["a", "b", "b", "c"], ["a"] * 600).notes
    assert notes[:2] == (
        "Top-5 is left out: the model has only 3 classes, so it would always be 100 %.",
        "1 label stands more than once in the model's list, for instance 'b'; equal labels count as one class.",
    )


def test_a_float_model_that_answers_one_class_for_everything_gets_a_note():
    outputs = scored(*[[0.1, 0.5, 0.1, 0.1, 0.1, 0.1]] * 600)
    notes = compare(outputs, outputs, LABELS, LABELS * 100).notes
    assert notes == (
        "The float model itself answers 'hot dog' for 600 of 600 samples; "
        "check the model and how the samples are prepared.",
    )
    assert compare(outputs, outputs, LABELS, ["hot dog"] * 600).notes == ()


class PaintingEngine:
    """Answers a picture made from the sample's number, and remembers how many pictures are alive."""

    name = "portable"
    version = "painting 1"

    def __init__(self, error):
        self.error = error
        self.calls = 0

    def outputs(self, inputs):
        self.calls += 1
        if inputs["number"] == 13:
            raise PredictionError("thirteen is not painted.")
        picture = np.random.default_rng(inputs["number"]).random((16, 16, 3), dtype=np.float32)
        return Outputs(None, {"image": picture + np.float32(self.error)})


@pytest.mark.parametrize("workers", [1, 3])
def test_streaming_gives_the_same_comparison_as_collecting(workers):
    inputs = [{"number": number} for number in range(9)]
    before, after = PaintingEngine(0), PaintingEngine(0.01)
    collected = compare(
        [before.outputs(one) for one in inputs], [after.outputs(one) for one in inputs], workers=workers
    )
    streams = StreamedOutputs(before, inputs), StreamedOutputs(after, inputs, keep_bytes=0)
    assert compare(*streams, workers=workers) == collected
    assert compare(*streams, workers=workers) == collected
    assert (before.calls, after.calls) == (9 + 9, 9 + 9 + 9)


def test_a_sample_that_fails_while_streaming_is_named():
    inputs = [{"number": number} for number in range(15)]
    streams = StreamedOutputs(PaintingEngine(0), inputs), StreamedOutputs(PaintingEngine(0), inputs)
    with pytest.raises(PredictionError, match=r"^Sample '013\.png': thirteen is not painted\.$"):
        compare(*streams)


def test_streaming_keeps_no_pictures_alive():
    import gc
    import weakref

    alive = weakref.WeakSet()
    most = []

    class Picture(np.ndarray):
        pass

    class WatchedEngine(PaintingEngine):
        def outputs(self, inputs):
            picture = super().outputs(inputs).arrays["image"].view(Picture)
            alive.add(Token(picture))
            most.append(len(alive))
            return Outputs(None, {"image": picture})

    class Token:
        """Lives as long as its picture."""

        def __init__(self, picture):
            picture.token = self

    inputs = [{"number": number} for number in range(20, 60)]
    streams = [StreamedOutputs(WatchedEngine(error), inputs, keep_bytes=0) for error in (0, 0.1)]
    compare(*streams, workers=2)
    gc.collect()
    assert max(most) <= 2 * 2 * 2, "two models, two workers, at most twice as many samples"
    assert len(alive) == 0


def test_a_comparison_is_plain_data():
    outputs = many_scored(3)
    comparison = compare(outputs, outputs, LABELS, LABELS[:3])
    assert dataclasses.replace(comparison, notes=("a",)).notes == ("a",)
    assert comparison == compare(outputs, outputs, LABELS, LABELS[:3])
