import json

from gate_examples import comparison, distortion

from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.record import make_record
from pytest_quantguard.gate.result import OUTCOMES, make_result
from pytest_quantguard.gate.update import accept
from pytest_quantguard.gate.verdict import judge
from pytest_quantguard.reports.terminal import VERDICTS, summary_lines


def result(node_id, now, before=None, *, outcome=None, update=False):
    record = make_record(now, Limits())
    baseline = make_record(before or now, Limits())
    acceptance = accept(record, baseline) if update else None
    verdict = judge(record, record if update else baseline)
    made = make_result(
        now,
        record,
        outcome=outcome or ("updated" if update else verdict.kind),
        sentence=verdict.sentence,
        node_id=node_id,
        baseline_path="baseline.json",
        verdict=verdict,
        acceptance=acceptance,
    )
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return made


def test_no_results_no_lines():
    assert summary_lines([]) == []


def test_a_row_per_comparison_in_counting_order_whatever_the_order_of_arrival():
    results = [
        result("t.py::x[16-linear]", comparison("linear:16", size=200_000)),
        result("t.py::x[8-linear]", comparison("linear:8")),
        result("t.py::x[2-linear]", comparison("linear:2", agreement=376, worst=-9), comparison()),
    ]
    lines = summary_lines(results)
    assert lines == summary_lines(results[::-1])
    assert lines[0].split("  ")[0] == "model"
    assert [line.split()[1] for line in lines[1:4]] == ["2-bit", "8-bit", "16-bit"]
    assert " ".join(lines[1].split()) == (
        "digits.mlmodel 2-bit linear 100.0 KB 0.25 83.6 % 100.0 % -0.2 points -20.5 points (8) FAILED"
    )
    assert lines[2].endswith("  passed")
    assert lines[4] == "note: The baseline was measured with scheme kmeans_lut:8, now linear:2."


def test_columns_align():
    lines = summary_lines([result("a", comparison()), result("b", comparison("linear:2", right=100))])
    assert len({line.index("%") for line in lines[1:]}) == 1
    assert len({line.index("passed") for line in lines[1:]}) == 1


def test_columns_exist_where_a_result_has_them():
    header = summary_lines([result("a", comparison(labelled=False, top5=None))])[0]
    assert header.split() == ["model", "scheme", "size", "ratio", "top-1", "verdict"]
    style = comparison(metrics=False, outputs=[distortion("a", 30), distortion("b", 20)])
    lines = summary_lines([result("a", style)])
    assert lines[0].split() == ["model", "scheme", "size", "ratio", "SNR", "PSNR", "verdict"]
    assert "20.0 dB" in lines[1] and "30.0 dB" not in lines[1]
    mixed = summary_lines([result("a", style), result("b", comparison())])
    assert mixed[1].split().count("-") == 4 and mixed[2].split().count("-") == 2


def test_tests_are_named_when_verbose():
    lines = summary_lines([result("t.py::x", comparison())], verbosity=1)
    assert lines[0].endswith("test") and lines[1].endswith("t.py::x")


def test_a_collapse_is_named_in_the_verdict():
    lines = summary_lines([result("a", comparison(collapsed_onto="hot dog", most=450, agreement=9), comparison())])
    assert lines[1].endswith("FAILED, collapsed onto 'hot dog'")


def test_every_outcome_has_a_verdict():
    assert set(VERDICTS) == set(OUTCOMES)
    for outcome in OUTCOMES:
        assert VERDICTS[outcome] in summary_lines([result("a", comparison(), outcome=outcome)])[1]


def test_a_notice_is_said_once_with_the_number_of_tests():
    results = [result(name, comparison(engine="coreml"), comparison()) for name in ("a", "b", "b")]
    notes = [line for line in summary_lines(results) if line.startswith("note:")]
    assert notes == ["note: The baseline was measured with engine portable, now coreml. (2 tests)"]


def test_an_update_says_old_and_new_per_metric_and_what_got_worse():
    now = comparison("kmeans_lut:2", agreement=376, size=30_000)
    lines = summary_lines([result("t.py::x", now, comparison(), update=True)])
    assert lines[1].endswith("updated, 1 metric worse")
    assert lines[2:] == [
        "t.py::x: baseline is now worse",
        "  scheme: kmeans_lut:8 -> kmeans_lut:2",
        "  top-1 agreement: 99.8 % (449 of 450) -> 83.6 % (376 of 450)  worse",
        "  size: 100,000 bytes -> 30,000 bytes  better",
    ]


def test_an_update_without_loss_says_updated():
    lines = summary_lines([result("t.py::x", comparison(agreement=450), comparison(), update=True)])
    assert lines[2] == "t.py::x: baseline updated"
    assert summary_lines([result("t.py::x", comparison(), comparison(), update=True)])[2:] == []


def test_kept_and_changed_thresholds_are_told():
    record = make_record(comparison(), Limits())
    baseline = make_record(comparison(), Limits(max_drop=0.02))
    baseline["thresholds"] |= {"size_bytes": None, "top1_agreement": 0.97}
    acceptance = accept(record, baseline)
    made = make_result(
        comparison(),
        acceptance.record,
        outcome="updated",
        sentence="",
        node_id="a",
        baseline_path="",
        acceptance=acceptance,
    )
    lines = summary_lines([made])
    assert "  top-1 agreement: threshold kept at 97.00 %, as edited" in lines
    assert "  size: threshold not gated (null), as edited" in lines
    assert "  top-5 agreement: threshold 98.00 % -> 99.00 %" in lines


def test_what_models_say_does_not_reach_the_terminal_raw():
    nasty = comparison(model="a\x1b[31m\n.mlmodel", collapsed_onto="\x1bred", most=450)
    lines = summary_lines([result("a", nasty, comparison()), result("b", nasty, comparison(), update=True)])
    assert all(line.isprintable() for line in lines)
    plain = summary_lines([result("a", comparison())])
    assert all(line.isascii() for line in plain)
