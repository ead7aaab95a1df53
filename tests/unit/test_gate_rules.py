import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.gate.limits import Limits, check_thresholds
from pytest_quantguard.gate.rules import (
    METRICS,
    automatic_threshold,
    find_metric,
    in_order,
    meets,
    metric_of,
    value_of,
)

drops = st.sampled_from([0.0, 0.0001, 0.005, 0.01, 0.02, 0.1, 1.0]) | st.floats(0, 1)


@st.composite
def counted(draw, lowest=0):
    total = draw(st.integers(1, 60_000))
    return {"count": draw(st.integers(-total if lowest else 0, total)), "total": total}


def share(count, total=450):
    return {"count": count, "total": total}


@pytest.mark.parametrize(
    ("name", "entry", "max_drop", "threshold"),
    [
        ("top1_agreement", share(449), 0.01, 0.9877),  # 0.98777...
        ("top1_agreement", share(9, 10), 0.01, 0.8),  # one sample is 0.1
        ("top1_agreement", share(0), 0.01, 0.0),  # the range ends here
        ("top1_accuracy_delta", share(-450), 0.01, -1.0),
        ("worst_class_delta", share(-35, 36), 0.01, -1.0),
        ("worst_class_delta", share(0, 1), 0.01, -1.0),
        ("most_predicted_share", share(450), 0.01, 1.0),
        ("top1_accuracy_delta", share(-1), 0.01, -0.0123),
        ("worst_class_delta", share(-1, 44), 0.01, -0.0455),  # one sample of 44
        ("worst_class_delta", share(-1, 44), 0.2, -0.2228),
        ("most_predicted_share", share(60), 0.01, 0.1434),  # smaller is better
        ("size_bytes", 1_000_000, 0.01, 1_010_000),
        ("size_bytes", 1_000_001, 0.5, 1_010_002),  # max_drop has no say
        ("size_bytes", 9_000, 0.01, 10_024),
        ("snr:image", 31.23, 0.01, 30.23),
        ("psnr:image", 100.0, 0.01, 60.0),
        ("psnr:image", -3.0, 0.01, -4.0),
    ],
)
def test_creation_gives_each_metric_its_tolerance(name, entry, max_drop, threshold):
    assert automatic_threshold(metric_of(name), entry, max_drop) == threshold


@given(counted(lowest=-1), drops, st.sampled_from(["top1_agreement", "worst_class_delta", "most_predicted_share"]))
def test_a_threshold_is_never_tighter_than_one_sample_nor_looser_than_rounding_needs(entry, max_drop, name):
    metric = metric_of(name)
    threshold = Fraction(str(automatic_threshold(metric, entry, max_drop)))
    sign = 1 if metric.larger_is_better else -1
    one_worse = value_of({"count": entry["count"] - sign, "total": entry["total"]})
    end = {"worst_class_delta": -1, "top1_agreement": 0, "most_predicted_share": 1}[name]
    assert sign * (one_worse - threshold) >= 0 or threshold == end
    tolerance = max(Fraction(str(max_drop)), Fraction(1, entry["total"]))
    beyond = sign * (value_of(entry) - threshold) - tolerance
    assert 0 <= beyond < Fraction(1, 10_000) or (threshold == end and beyond < 0)


@given(counted(), drops)
def test_what_was_measured_meets_its_own_threshold(entry, max_drop):
    for metric in METRICS:
        measured = entry if metric.kind in ("share", "delta") else entry["total"]
        assert meets(metric, measured, automatic_threshold(metric, measured, max_drop))


def test_equality_meets_a_threshold_without_float_error():
    agreement = metric_of("top1_agreement")
    for hundredth in range(101):
        assert meets(agreement, share(hundredth, 100), hundredth / 100)
        assert meets(agreement, share(3 * hundredth, 300), hundredth / 100)
        assert not meets(agreement, share(3 * hundredth - 1, 300), hundredth / 100)


def test_metrics_of_outputs_are_known_by_their_prefix():
    assert find_metric("snr:a:b").title == "SNR of 'a:b'"
    assert find_metric("psnr:image").kind == "decibel"
    assert find_metric("snr:") is None
    assert find_metric("accuracy") is None
    with pytest.raises(KeyError):
        metric_of("accuracy")


def test_metrics_are_ordered_by_the_table_and_outputs_come_last():
    names = ["snr:b", "size_bytes", "psnr:b", "top1_agreement", "size_bytes", "top5_agreement"]
    assert in_order(names) == ["top1_agreement", "top5_agreement", "size_bytes", "psnr:b", "snr:b"]


def test_limits_are_plain_copies():
    thresholds = {"top1_agreement": np.float64(0.97), "size_bytes": 2_000_000}
    limits = Limits(max_drop=0, thresholds=thresholds)
    thresholds["top1_agreement"] = 0.1
    assert limits.thresholds == {"top1_agreement": 0.97, "size_bytes": 2_000_000}
    assert type(limits.thresholds["top1_agreement"]) is float
    assert Limits().max_drop == 0.01


@pytest.mark.parametrize("max_drop", [-0.01, 1.5, math.nan, math.inf, True, "0.01", None])
def test_a_max_drop_that_is_no_share_is_refused(max_drop):
    with pytest.raises(pytest.UsageError, match=r"max_drop=.* between 0 and 1"):
        Limits(max_drop=max_drop)


def test_an_unknown_metric_is_refused_with_the_closest_and_all_names():
    with pytest.raises(pytest.UsageError, match="'top1_agrement'; did you mean 'top1_agreement'") as caught:
        Limits(thresholds={"top1_agrement": 0.9})
    for metric in METRICS:
        assert metric.name in str(caught.value)
    with pytest.raises(pytest.UsageError, match=r"unknown metric 7; the metrics are .*psnr:<output>\.$"):
        Limits(thresholds={7: 0.9})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top1_agreement", 97),
        ("top1_agreement", -0.1),
        ("worst_class_delta", -5),
        ("size_bytes", 0),
        ("snr:image", math.nan),
        ("size_bytes", "2 MB"),
        ("top5_agreement", None),
        ("top5_agreement", True),
    ],
)
def test_a_pinned_value_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(pytest.UsageError, match=name):
        Limits(thresholds={name: value})
    with pytest.raises(pytest.UsageError, match=name):
        check_thresholds({name: value})


def test_the_range_of_a_pinned_value_is_named():
    with pytest.raises(
        pytest.UsageError, match=r"^thresholds=\{'top1_agreement': 97\} is not between 0 and 1; corr"
    ):
        check_thresholds({"top1_agreement": 97})


def test_thresholds_that_are_no_dictionary_are_refused():
    with pytest.raises(pytest.UsageError, match="no dictionary"):
        Limits(thresholds=0.97)
    with pytest.raises(pytest.UsageError, match="no dictionary"):
        check_thresholds(0.97)


def test_thresholds_can_be_checked_without_heavy_imports():
    program = (
        "import sys, pytest\n"
        "from pytest_quantguard.gate.limits import check_thresholds\n"
        "check_thresholds({'top1_agreement': 0.9})\n"
        "print(sorted({'numpy', 'syrupy', 'coremltools', 'PIL'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
