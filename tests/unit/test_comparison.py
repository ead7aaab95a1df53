import dataclasses

import pytest

from pytest_quantguard.comparison import (
    ClassifierMetrics,
    ClassRow,
    Comparison,
    Concentration,
    Flips,
    LabelledMetrics,
    ModelIdentity,
    OutputDistortion,
    SampleRow,
    SampleSet,
)
from pytest_quantguard.errors import QuantguardError
from pytest_quantguard.metrics.share import Share

LABELLED = LabelledMetrics(
    float_top1=Share(90, 100),
    quantized_top1=Share(88, 100),
    float_top5=Share(99, 100),
    quantized_top5=Share(98, 100),
    classes=(ClassRow("pizza", Share(40, 50), Share(41, 50)), ClassRow("steak", Share(50, 50), Share(47, 50))),
    mcnemar_p=0.5,
)
ROW = SampleRow("pizza/1.jpg", "pizza", "pizza", 0.9, 0.8, "pizza", 0.8, 0.7, False)
FLIPPED = SampleRow("pizza/2.jpg", "pizza", "pizza", 0.9, 0.8, "steak", 0.5, 0.1, False)
CLASSIFIER = ClassifierMetrics(
    top1_agreement=Share(97, 100),
    top5_agreement=Share(100, 100),
    flips=Flips(3, 1, 2, 0),
    float_concentration=Concentration("pizza", Share(50, 100), 8),
    quantized_concentration=Concentration("steak", Share(55, 100), 7),
    collapsed_onto=None,
    mean_divergence=0.01,
    worst_divergence=0.5,
    worst_divergence_sample="pizza/2.jpg",
    confidence_lost=0.02,
    near_ties=0,
    labelled=LABELLED,
    rows=(ROW, FLIPPED),
    class_count=101,
)
COMPARISON = Comparison(
    scheme="kmeans_lut:8",
    float_model=ModelIdentity("food.mlmodel", "f" * 64, 4000),
    quantized_model=ModelIdentity("food.mlmodel", "a" * 64, 1000),
    engine="portable",
    versions={},
    samples=SampleSet((("pizza/1.jpg", "0"), ("pizza/2.jpg", "1")), "d", "center_crop"),
    classifier=CLASSIFIER,
)


def classifier_with(**changes):
    return dataclasses.replace(COMPARISON, classifier=dataclasses.replace(CLASSIFIER, **changes))


def without_classes(*names):
    outputs = tuple(OutputDistortion(name, 40.0, 30.0, 45.0, 35.0, "a") for name in names)
    return dataclasses.replace(COMPARISON, classifier=None, outputs=outputs)


def test_metrics_read_as_numbers():
    assert COMPARISON.top1_agreement >= 0.97
    assert COMPARISON.top5_agreement == 1
    assert COMPARISON.top1_accuracy_delta == -0.02
    assert COMPARISON.top5_accuracy_delta == -0.01
    assert COMPARISON.worst_class_delta == -0.06
    assert COMPARISON.worst_class.label == "steak"
    assert COMPARISON.float_top1_accuracy == 0.9
    assert COMPARISON.quantized_top1_accuracy == 0.88
    assert COMPARISON.flips.broken == 2
    assert COMPARISON.flipped_rows == (FLIPPED,)
    assert COMPARISON.rows == (ROW, FLIPPED)
    assert COMPARISON.collapsed_onto is None
    assert COMPARISON.most_predicted_share == 0.55
    assert COMPARISON.mean_divergence == 0.01
    assert COMPARISON.worst_divergence == 0.5
    assert COMPARISON.confidence_lost == 0.02
    assert COMPARISON.mcnemar_p == 0.5
    assert COMPARISON.size_ratio == 0.25


def test_a_failing_assertion_explains_itself():
    with pytest.raises(AssertionError) as raised:
        assert COMPARISON.top1_agreement >= 0.98
    text = str(raised.value)
    assert "0.9700 (97 of 100, 95 % interval 0.9155 to 0.9897) >= 0.98" in text
    assert "<Comparison food.mlmodel kmeans_lut:8" in text
    with pytest.raises(AssertionError, match=r"-0\.0600 \(3 of 50 fewer\) >= -0\.05"):
        assert COMPARISON.worst_class_delta >= -0.05


def test_the_repr_is_one_short_line():
    assert repr(COMPARISON) == (
        "<Comparison food.mlmodel kmeans_lut:8: 2 samples, top-1 agreement 0.9700, accuracy delta -0.0200, "
        "size x 0.25>"
    )
    assert repr(without_classes("image")) == (
        "<Comparison food.mlmodel kmeans_lut:8: 2 samples, image 40.0 dB, size x 0.25>"
    )
    ready_made = dataclasses.replace(classifier_with(labelled=None), scheme="")
    assert repr(ready_made) == "<Comparison food.mlmodel: 2 samples, top-1 agreement 0.9700, size x 0.25>"
    other = dataclasses.replace(ready_made, quantized_model=ModelIdentity("food8.mlmodel", "a" * 64, 1000))
    assert repr(other).startswith("<Comparison food.mlmodel and food8.mlmodel: 2 samples, ")


LABELLED_METRICS = (
    "float_top1_accuracy",
    "quantized_top1_accuracy",
    "top1_accuracy_delta",
    "top5_accuracy_delta",
    "worst_class",
    "worst_class_delta",
    "mcnemar_p",
)
CLASSIFIER_METRICS = (
    "top1_agreement",
    "top5_agreement",
    "flips",
    "flipped_rows",
    "rows",
    "collapsed_onto",
    "most_predicted_share",
    "mean_divergence",
    "worst_divergence",
    "confidence_lost",
)


@pytest.mark.parametrize("metric", LABELLED_METRICS)
def test_metrics_that_need_labels_say_so(metric):
    with pytest.raises(QuantguardError, match=f"^{metric} is left out: not every sample has a label"):
        getattr(classifier_with(labelled=None), metric)


@pytest.mark.parametrize("metric", CLASSIFIER_METRICS + LABELLED_METRICS)
def test_metrics_that_need_a_classifier_say_so(metric):
    with pytest.raises(
        QuantguardError, match=rf"^{metric} is left out: food\.mlmodel is no classifier; use snr\(\)"
    ):
        getattr(without_classes("image"), metric)


def test_top5_metrics_that_were_left_out_say_why():
    labelled = dataclasses.replace(LABELLED, float_top5=None, quantized_top5=None)
    few = classifier_with(top5_agreement=None, labelled=labelled, class_count=5)
    reason = r"is left out: the model has only 5 classes, so it would always be 100 %\."
    with pytest.raises(QuantguardError, match=f"^top5_agreement {reason}$"):
        _ = few.top5_agreement
    with pytest.raises(QuantguardError, match=r"^top5_accuracy_delta is left out: the model has only 5 classes"):
        _ = few.top5_accuracy_delta


def test_ratios_are_found_by_the_outputs_name():
    one, two = without_classes("image"), without_classes("image", "mask")
    assert (one.snr(), one.psnr(), two.snr("mask"), two.psnr("image")) == (40, 45, 40, 45)
    with pytest.raises(QuantguardError, match=r"snr\(\) needs the name of an output; use one of: image, mask\."):
        two.snr()
    with pytest.raises(QuantguardError, match=r"no output 'depth'; use one of: image, mask\."):
        two.psnr("depth")
    with pytest.raises(QuantguardError, match=r"psnr is left out: food\.mlmodel has no output but its classes\."):
        COMPARISON.psnr("image")
