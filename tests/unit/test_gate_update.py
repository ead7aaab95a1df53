import json

from gate_examples import comparison, distortion, sample_set
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.record import make_record
from pytest_quantguard.gate.rules import METRICS
from pytest_quantguard.gate.update import accept
from pytest_quantguard.gate.verdict import judge

NAMES = [metric.name for metric in METRICS]


def record(limits=None, **arguments):
    return make_record(comparison(**arguments), limits or Limits())


def edited(baseline, **thresholds):
    return {**baseline, "thresholds": {**baseline["thresholds"], **thresholds}}


measured = st.builds(
    lambda agreement, right, size, top5, drop: record(
        Limits(max_drop=drop), agreement=agreement, right=right, size=size, top5=top5
    ),
    st.integers(0, 450),
    st.integers(0, 450),
    st.integers(0, 10**7),
    st.none() | st.integers(0, 450),
    st.sampled_from([0.0, 0.01, 0.1]),
)


@st.composite
def hand_edited(draw):
    baseline = draw(measured)
    names = st.sampled_from(sorted(baseline["metrics"]))
    return edited(baseline, **draw(st.dictionaries(names, st.none() | st.floats(-1, 1), max_size=3)))


@given(measured, st.none() | hand_edited())
def test_accepting_is_idempotent_and_what_is_accepted_passes(now, baseline):
    first = accept(now, baseline)
    again = accept(now, first.record)
    assert again.record == first.record
    if not first.refusal:
        assert judge(now, first.record).passed
        assert judge(first.record, first.record).passed
        assert not again.refusal


@given(measured, hand_edited())
def test_edited_thresholds_survive_and_the_others_are_those_of_creation(now, baseline):
    accepted = accept(now, baseline)
    kept = {change.metric for change in accepted.changes if change.kept}
    for name in now["metrics"]:
        if name in kept:
            assert accepted.record["thresholds"][name] == baseline["thresholds"][name]
        else:
            assert accepted.record["thresholds"][name] == now["thresholds"][name]
    assert json.loads(json.dumps(accepted.change_dicts())) == accepted.change_dicts()


def test_creation_stores_the_record_as_it_is():
    accepted = accept(record(), None)
    assert accepted.record == record() and accepted.changes == () and not accepted.refusal


def test_untouched_thresholds_follow_the_measurement():
    accepted = accept(record(agreement=400), record())
    assert accepted.record == record(agreement=400)
    assert [(change.metric, change.direction) for change in accepted.changes] == [("top1_agreement", "worse")]


def test_nothing_changed_is_no_change():
    accepted = accept(record(), record())
    assert accepted.changes == () and accepted.circumstances == ()


def test_an_edited_threshold_survives_an_update():
    accepted = accept(record(agreement=440), edited(record(), top1_agreement=0.97))
    assert accepted.record["thresholds"]["top1_agreement"] == 0.97
    assert not accepted.refusal
    (change,) = accepted.changes
    assert change.kept and (change.old_threshold, change.new_threshold) == (0.97, 0.97)


def test_a_gate_that_was_switched_off_stays_off():
    accepted = accept(record(size=10**8), edited(record(), size_bytes=None))
    assert accepted.record["thresholds"]["size_bytes"] is None and not accepted.refusal


def test_an_edited_threshold_that_is_missed_refuses_the_update():
    accepted = accept(record(agreement=376), edited(record(), top1_agreement=0.97))
    assert accepted.refusal == (
        "8-bit kmeans_lut: top-1 agreement is 83.6 % (376 of 450), below the threshold of 97.0 %, so the baseline "
        "is not updated; change the hand-edited threshold in the baseline first."
    )
    assert [row.metric for row in accepted.rows if not row.ok] == ["top1_agreement"]


def test_a_pinned_threshold_holds_while_updating_and_while_creating():
    now = record(Limits(thresholds={"top1_agreement": 0.97}), agreement=376)
    for baseline in (None, record(), record(agreement=376)):
        refusal = accept(now, baseline).refusal
        assert "below the pinned threshold of 97.0 %" in refusal and "in the marker first" in refusal


def test_a_pinned_threshold_wins_over_an_edited_one():
    now = record(Limits(thresholds={"top1_agreement": 0.5}), agreement=376)
    accepted = accept(now, edited(record(), top1_agreement=0.97))
    assert not accepted.refusal and accepted.record["thresholds"]["top1_agreement"] == 0.5


def test_a_threshold_that_is_pinned_no_more_becomes_automatic():
    baseline = record(Limits(thresholds={"top1_agreement": 0.5}))
    accepted = accept(record(), baseline)
    assert accepted.record == record()
    (change,) = accepted.changes
    assert (change.direction, change.old_threshold, change.new_threshold, change.kept) == (
        "same",
        0.5,
        0.9877,
        False,
    )


def test_a_changed_max_drop_moves_automatic_thresholds():
    accepted = accept(record(Limits(max_drop=0.02)), record())
    assert accepted.record == record(Limits(max_drop=0.02))
    assert not any(change.kept for change in accepted.changes)


def test_a_vanished_metric_leaves_with_its_edited_threshold():
    accepted = accept(record(top5=None), edited(record(), top5_agreement=0.5))
    assert "top5_agreement" not in accepted.record["thresholds"] and not accepted.refusal
    assert [(change.metric, change.direction) for change in accepted.changes] == [("top5_agreement", "gone")]


def test_a_threshold_without_metric_leaves():
    accepted = accept(record(), edited(record(), **{"snr:image": 20.0}))
    assert accepted.record == record()
    assert [(change.metric, change.direction) for change in accepted.changes] == [("snr:image", "gone")]


def test_a_new_metric_enters():
    accepted = accept(record(), record(top5=None))
    assert [(change.metric, change.direction) for change in accepted.changes] == [("top5_agreement", "new")]


def test_worse_and_better_follow_each_metric():
    baseline = record(outputs=[distortion(snr=30)])
    now = record(agreement=450, right=443, most=70, size=90_000, outputs=[distortion(snr=29)])
    directions = {change.metric: change.direction for change in accept(now, baseline).changes}
    assert directions == {
        "top1_agreement": "better",
        "top1_accuracy_delta": "worse",
        "most_predicted_share": "worse",
        "size_bytes": "better",
        "snr:image": "worse",
    }


def test_numbers_of_other_samples_are_neither_better_nor_worse():
    now = record(agreement=440, right=449, size=90_000, samples=sample_set(preprocessing="scale_fit"))
    directions = {change.metric: change.direction for change in accept(now, record()).changes}
    assert directions == {
        "top1_agreement": "incomparable",
        "top1_accuracy_delta": "incomparable",
        "size_bytes": "better",
    }


def test_changed_circumstances_are_listed():
    now = record(scheme="linear:4", samples=sample_set(["a.png"], "scale_fit"), versions={"coremltools": "9.0"})
    what = [change[0] for change in accept(now, record()).circumstances]
    assert what == ["scheme", "numpy", "sample count", "sample digest", "sample preprocessing"]
