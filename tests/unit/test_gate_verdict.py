import json

import pytest
from gate_examples import comparison, distortion, sample_set
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.gate.baseline import dumps, parse_baseline
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.manifest import SampleChanges
from pytest_quantguard.gate.record import make_record
from pytest_quantguard.gate.update import accept
from pytest_quantguard.gate.verdict import judge


def record(limits=None, **arguments):
    return make_record(comparison(**arguments), limits or Limits())


def failing(verdict):
    return [row.metric for row in verdict.rows if not row.ok]


measurements = st.fixed_dictionaries(
    {
        "agreement": st.integers(0, 450),
        "float_right": st.integers(0, 450),
        "right": st.integers(0, 450),
        "worst": st.integers(-40, 4),
        "most": st.integers(1, 450),
        "top5": st.none() | st.integers(0, 450),
        "size": st.integers(0, 10**9),
        "labelled": st.booleans(),
        "collapsed_onto": st.none() | st.just("hot dog"),
        "outputs": st.lists(st.builds(distortion, st.just("image"), st.floats(-50, 100)), max_size=1),
    }
)
shares_that_pin = st.dictionaries(st.sampled_from(["top1_agreement", "top5_agreement"]), st.floats(0, 1))


@given(measurements, st.floats(0, 1))
def test_a_record_always_passes_its_own_baseline(measured, max_drop):
    value = record(Limits(max_drop=max_drop), **measured)
    verdict = judge(value, parse_baseline(dumps(value)))
    assert verdict.passed and all(row.ok for row in verdict.rows)


@given(measurements, measurements, shares_that_pin)
def test_a_verdict_is_json_and_agrees_with_its_rows(measured, before, pinned):
    verdict = judge(record(Limits(thresholds=pinned), **measured), record(**before))
    assert verdict.passed == all(row.ok for row in verdict.rows)
    assert json.loads(json.dumps(verdict.row_dicts(), allow_nan=False)) == verdict.row_dicts()
    assert verdict.sentence.endswith(".") and "\n" not in verdict.sentence


@given(st.integers(1, 450), st.integers(1, 450), st.sampled_from([0.0, 0.001, 0.01, 0.1]))
def test_a_drop_fails_exactly_when_it_is_beyond_the_tolerance(agreement, lost, max_drop):
    lost = min(lost, agreement)
    baseline = record(Limits(max_drop=max_drop), agreement=agreement)
    verdict = judge(record(Limits(max_drop=max_drop), agreement=agreement - lost), baseline)
    allowed = max(round(max_drop * 1000), 1000 / 450)  # in thousandths
    if lost * 1000 / 450 <= allowed:
        assert verdict.passed
    elif lost * 1000 / 450 > allowed + 0.1:  # what rounding to four digits may add
        assert failing(verdict) == ["top1_agreement"]


WORSE = {
    "top1_agreement": {"agreement": 444},
    "top5_agreement": {"top5": 440},
    "top1_accuracy_delta": {"right": 439},
    "worst_class_delta": {"worst": -3},
    "most_predicted_share": {"most": 65},
    "size_bytes": {"size": 102_000},
    "float_top1_accuracy": {"float_right": 439, "right": 438},
}


@pytest.mark.parametrize("metric", WORSE)
def test_each_gated_metric_fails_alone_when_it_gets_worse(metric):
    verdict = judge(record(**WORSE[metric]), record())
    assert verdict.kind == "failed" and failing(verdict) == [metric]


def test_improvements_pass():
    better = record(agreement=450, right=450, float_right=450, worst=2, most=45, size=50_000)
    assert judge(better, record()).passed


def test_noise_is_gated_one_sided():
    baseline = record(metrics=False, outputs=[distortion(snr=31.23, psnr=38.5)])
    assert judge(record(metrics=False, outputs=[distortion(snr=30.3, psnr=99.0)]), baseline).passed
    worse = judge(record(metrics=False, outputs=[distortion(snr=30.2, psnr=38.5)]), baseline)
    assert failing(worse) == ["snr:image"]
    assert "SNR of 'image' is 30.20 dB, below the threshold of 30.23 dB" in worse.sentence


def test_the_sentence_names_scheme_metric_counts_threshold_and_the_number_of_others():
    baseline = record(agreement=445)
    verdict = judge(record(scheme="kmeans_lut:2", agreement=376, right=370, worst=-9), baseline)
    assert verdict.sentence == (
        "2-bit kmeans_lut: top-1 agreement is 83.6 % (376 of 450), below the threshold of 97.9 %; "
        "2 more metrics fail."
    )
    assert judge(record(agreement=440), baseline).sentence.endswith("threshold of 97.9 %.")
    assert judge(record(agreement=440, size=200_000), baseline).sentence.endswith("; 1 more metric fails.")


def test_the_sentence_tells_value_and_threshold_apart():
    limits = Limits(thresholds={"top1_agreement": 0.98001})
    verdict = judge(record(limits, agreement=441), record())
    assert "is 98.000 % (441 of 450), below the pinned threshold of 98.001 %" in verdict.sentence


def test_a_metric_that_should_be_small_is_above_its_threshold():
    sentence = judge(record(size=102_000), record()).sentence
    assert sentence == "8-bit kmeans_lut: size is 102,000 bytes, above the threshold of 101,024 bytes."


def test_a_collapse_is_named_as_such():
    verdict = judge(record(scheme="linear_lut:3", agreement=60, collapsed_onto="hot dog", most=450), record())
    assert verdict.sentence == (
        "3-bit linear_lut: collapsed, the model answers 'hot dog' for 450 of 450 samples; 2 metrics fail."
    )


def test_a_collapse_that_the_baseline_knows_passes_with_a_notice():
    collapsed = record(agreement=60, collapsed_onto="hot dog", most=450)
    verdict = judge(collapsed, collapsed)
    assert verdict.passed and verdict.notices == (
        "The model answers 'hot dog' nearly always, as in the baseline.",
    )
    created = judge(collapsed, collapsed, accepted=True)
    assert created.notices == ("The model answers 'hot dog' nearly always, and this baseline accepts it.",)


def test_a_missing_baseline_fails_and_says_how_to_create_it():
    verdict = judge(record(), None, command="the command")
    assert verdict.kind == "missing" and not verdict.passed
    assert verdict.sentence == "8-bit kmeans_lut: there is no baseline yet; create it with: the command"
    assert judge(record(), None).sentence.endswith("create it with: pytest --snapshot-update")
    assert {row.now["count"] for row in verdict.rows if row.metric == "top1_agreement"} == {449}


def test_a_metric_that_vanished_fails():
    verdict = judge(record(labelled=False), record())
    assert failing(verdict) == ["top1_accuracy_delta", "worst_class_delta", "float_top1_accuracy"]
    assert "top-1 accuracy delta is in the baseline but was not measured" in verdict.sentence


def test_a_threshold_added_by_hand_for_a_metric_that_is_not_measured_fails():
    baseline = record()
    baseline["thresholds"]["snr:image"] = 20.0
    assert failing(judge(record(), baseline)) == ["snr:image"]


def test_a_pinned_metric_that_is_not_measured_fails():
    verdict = judge(record(Limits(thresholds={"top5_agreement": 0.9}), top5=None), record(top5=None))
    assert failing(verdict) == ["top5_agreement"]
    assert "top-5 agreement has a pinned threshold but was not measured" in verdict.sentence


def test_a_new_metric_passes_and_is_named():
    verdict = judge(record(), record(top5=None))
    assert verdict.passed
    assert verdict.notices == (
        "top-5 agreement (100.0 % (450 of 450)) is not gated: the baseline does not have it.",
    )


def test_a_threshold_of_null_gates_nothing_and_is_named():
    baseline = record()
    baseline["thresholds"]["size_bytes"] = None
    verdict = judge(record(size=10**9), baseline)
    assert verdict.passed and "size (1,000,000,000 bytes) is not gated: its threshold is null." in verdict.notices


def test_an_edited_threshold_counts():
    baseline = record()
    baseline["thresholds"]["top1_agreement"] = 0.5
    assert judge(record(agreement=226), baseline).passed
    assert not judge(record(agreement=224), baseline).passed


def test_a_pinned_threshold_wins_over_the_stored_one_both_ways():
    loose, strict = (Limits(thresholds={"top1_agreement": value}) for value in (0.9, 0.999))
    assert judge(record(loose, agreement=420), record()).passed
    verdict = judge(record(strict), record())
    assert failing(verdict) == ["top1_agreement"] and "pinned threshold of 99.9 %" in verdict.sentence


def test_a_threshold_that_is_pinned_no_more_holds_with_a_notice():
    baseline = record(Limits(thresholds={"top1_agreement": 0.999}))
    verdict = judge(record(), baseline)
    assert failing(verdict) == ["top1_agreement"]
    assert any("was pinned and is no more" in notice for notice in verdict.notices)


def test_an_update_is_blocked_by_the_thresholds_that_it_keeps_and_misses():
    edited = record()
    edited["thresholds"] |= {"top1_agreement": 0.98, "size_bytes": 100_500}
    limits = Limits(thresholds={"worst_class_delta": -0.1})
    now = record(limits, agreement=440, right=400, worst=-9)
    for baseline, names in [
        (record(), ["worst_class_delta"]),
        (edited, ["top1_agreement", "worst_class_delta"]),
        (None, ["worst_class_delta"]),
    ]:
        assert [row.metric for row in judge(now, baseline).blocking] == names
    other = judge(record(samples=sample_set(["a.png"]), agreement=440), edited)
    assert other.kind == "incomparable" and [row.metric for row in other.blocking] == ["top1_agreement"]
    assert judge(record(agreement=400), record()).blocking == ()
    assert judge(record(top5=None), record(Limits(thresholds={"top5_agreement": 0.9}))).blocking == ()


@given(measurements, measurements, shares_that_pin, st.dictionaries(st.just("size_bytes"), st.integers(1, 10**9)))
def test_an_update_is_offered_exactly_when_it_would_be_accepted(measured, before, pinned, edited):
    now, baseline = record(Limits(thresholds=pinned), **measured), record(**before)
    baseline["thresholds"] |= edited
    assert bool(judge(now, baseline).blocking) == bool(accept(now, baseline).refusal)


def test_another_max_drop_counts_from_the_next_update_on_and_is_named():
    verdict = judge(record(Limits(max_drop=0.5), agreement=430), record())
    assert not verdict.passed
    assert any("max_drop is 0.5, but" in notice and "0.01" in notice for notice in verdict.notices)


@given(st.integers(40, 80), st.integers(40, 80), st.integers(-40, 0), st.sampled_from([0.0, 0.01]))
def test_one_sample_lost_from_a_class_of_any_size_never_fails_the_worst_class(before, now, worst, max_drop):
    limits = Limits(max_drop=max_drop)
    baseline = record(limits, worst=worst, worst_total=before)
    assert "worst_class_delta" not in failing(judge(record(limits, worst=-1, worst_total=now), baseline))


def test_the_room_for_one_sample_is_not_given_to_edited_or_pinned_thresholds():
    now = record(worst=-1, worst_total=40)
    edited = record(worst=0, worst_total=44)
    assert judge(now, edited).passed
    edited["thresholds"]["worst_class_delta"] = -0.02
    assert failing(judge(now, edited)) == ["worst_class_delta"]
    pinned = record(Limits(thresholds={"worst_class_delta": -0.02}), worst=-1, worst_total=40)
    assert failing(judge(pinned, record(worst=0))) == ["worst_class_delta"]


def test_other_circumstances_are_gated_and_named():
    now = record(
        scheme="linear:4",
        engine="coreml",
        model="other.mlmodel",
        model_digest="0" * 64,
        versions={"coremltools": "9.1", "pillow": "11.0"},
    )
    verdict = judge(now, record())
    assert verdict.passed
    assert verdict.notices == (
        "The baseline was measured with scheme kmeans_lut:8, now linear:4.",
        "The baseline was measured with engine portable, now coreml.",
        "The baseline was measured with float model digits.mlmodel (f00df00d), now other.mlmodel (00000000).",
        "The baseline was measured with other libraries: coremltools 9.0, now 9.1, numpy 2.1.0, now none, "
        "pillow none, now 11.0.",
    )
    assert not judge(record(engine="coreml", agreement=400), record()).passed


def test_a_library_called_engine_is_no_engine():
    verdict = judge(
        record(versions={"engine": "onnxruntime 1.24"}), record(versions={"engine": "onnxruntime 1.23"})
    )
    assert verdict.notices == (
        "The baseline was measured with other libraries: engine onnxruntime 1.23, now onnxruntime 1.24.",
    )


def test_other_samples_are_not_compared():
    now = record(samples=sample_set(["0/new.png"]), agreement=10)
    verdict = judge(now, record())
    assert verdict.kind == "incomparable" and verdict.rows == ()
    assert "the sample set has changed (450 samples in the baseline, 1 now; which ones is not known" in (
        verdict.sentence
    )
    assert "list of samples is missing" in verdict.sentence
    changes = SampleChanges(added=("0/new.png",), removed=(), altered=("a", "b", "c", "d"))
    assert "450 samples in the baseline, 1 now: 1 added (0/new.png), 4 altered (a, b, c, 1 more)" in (
        judge(now, record(), sample_changes=changes).sentence
    )


def test_other_preprocessing_is_not_compared():
    now = record(samples=sample_set(preprocessing="scale_fill"))
    verdict = judge(now, record())
    assert verdict.kind == "incomparable"
    assert "prepared with center_crop for the baseline and with scale_fill now" in verdict.sentence


def test_a_ready_made_model_has_a_title_too():
    assert judge(record(scheme=""), record(scheme="")).sentence.startswith("the quantized model: all 7")


def test_control_characters_of_models_do_not_reach_the_terminal():
    verdict = judge(record(agreement=9, collapsed_onto="\x1b[31mred\n", most=450), record(model="a\x1b\nb"))
    text = verdict.sentence + "".join(verdict.notices)
    assert "\x1b" not in text and "\n" not in text
