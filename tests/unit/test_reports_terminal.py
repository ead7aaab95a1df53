import dataclasses
import json

from gate_examples import comparison, distortion, sample_set

from pytest_quantguard.comparison import Compression
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


def test_notes_of_comparisons_are_shown_where_they_pass_too():
    few, left_out = "Few samples.", "Accuracy is left out: not every sample has a label."
    results = [result(name, comparison(notes=[few])) for name in ("a", "b")]
    results.append(result("c", comparison(notes=[few, left_out])))
    notes = [line for line in summary_lines(results) if line.startswith("note:")]
    assert notes == [f"note: {few} (3 tests)", f"note: {left_out}"]


SMALL = ("conv/bias", 100, "2048 weights or fewer")
FLAT = ("norm", 60, "one-dimensional")


def compressed(share, *skipped, scheme="linear:8", bits=8.25):
    return comparison(scheme, compression=Compression(1000, int(share * 1000), bits, skipped))


def compression_notes(*comparisons, verbosity=0):
    results = [result(str(index), measured) for index, measured in enumerate(comparisons)]
    return [line for line in summary_lines(results, verbosity) if "compressed" in line]


def test_a_model_of_which_little_is_compressed_is_named():
    assert compression_notes(compressed(0.838, SMALL, SMALL)) == [
        "note: digits.mlmodel, 8-bit linear: 83.8 % of the weights are compressed; "
        "2 tensors are not (2048 weights or fewer)"
    ]
    assert compression_notes(compressed(0.84, FLAT)) == [
        "note: digits.mlmodel, 8-bit linear: 84.0 % of the weights are compressed; "
        "1 tensor is not (one-dimensional)"
    ]
    assert compression_notes(compressed(0.9, SMALL), comparison("linear:8"), compressed(0.9)) == []


def test_reasons_for_weights_that_are_not_compressed_are_counted_by_weight():
    others = [("x", 10, "declined by coremltools"), ("y", 9, "already quantized")]
    (line,) = compression_notes(compressed(0.5, *others, FLAT, SMALL, SMALL))
    assert line.endswith(
        "5 tensors are not (2048 weights or fewer: 2; one-dimensional: 1; declined by coremltools: 1; others)"
    )


def test_schemes_that_compress_the_same_share_a_line():
    measured = [compressed(0.8, SMALL, scheme=f"linear:{bits}", bits=bits) for bits in (8, 8, 4)]
    (line,) = compression_notes(*measured)
    assert line.startswith("note: digits.mlmodel, 2 schemes: 80.0 % of the weights")


def test_every_scheme_has_a_line_on_its_compression_when_verbose():
    measured = [compressed(1, scheme="linear:8"), compressed(1, scheme="linear:4", bits=4.5)]
    assert compression_notes(*measured, verbosity=1) == [
        "note: digits.mlmodel, 8-bit linear: 100.0 % of the weights are compressed, to 8.25 bits each",
        "note: digits.mlmodel, 4-bit linear: 100.0 % of the weights are compressed, to 4.50 bits each",
    ]


def column_of_tests(*node_ids, verbosity=0, scheme="linear:8"):
    lines = summary_lines([result(node_id, comparison(scheme)) for node_id in node_ids], verbosity)
    start = lines[0].index("test") if lines[0].endswith("test") else None
    return None if start is None else [line[start:] for line in lines[1 : 1 + len(node_ids)]]


def test_tests_of_the_same_model_and_scheme_are_named():
    assert column_of_tests("t.py::x") is None
    assert column_of_tests("t.py::x", "t.py::y[1]") == ["x", "y[1]"]
    assert column_of_tests("a.py::x", "b.py::x", "b.py::z") == ["a.py::x", "b.py::x", "z"]
    assert column_of_tests("a.py::x", "a.py::x") == ["x", "x (2)"]
    assert column_of_tests("a.py::x", "a.py::x", verbosity=1) == ["a.py::x", "a.py::x (2)"]
    mixed = [result("x", comparison("linear:8")), result("y", comparison("linear:8")), result("z", comparison())]
    assert [line.split()[-1] for line in summary_lines(mixed)[1:4]] == ["x", "y", "passed"]


def test_a_class_is_named_only_where_it_lost():
    assert "-2.3 points (8)" in summary_lines([result("a", comparison())])[1]
    for worst in (0, 2):
        row = summary_lines([result("a", comparison(worst=worst))])[1]
        assert "points (" not in row and "+0.0 points  passed" in row


def test_an_update_on_other_samples_calls_nothing_worse():
    now = comparison(agreement=448, samples=sample_set(preprocessing="scale_fit"))
    lines = summary_lines([result("t.py::x", now, comparison(), update=True)])
    assert lines[1].endswith("  updated")
    assert lines[2:] == [
        "t.py::x: baseline updated",
        "  sample preprocessing: center_crop -> scale_fit",
        "  top-1 agreement: 99.8 % (449 of 450) -> 99.6 % (448 of 450)  measured on other samples",
    ]


def test_an_update_that_changes_a_label_alone_says_nothing():
    before = comparison(collapsed_onto=None)
    concentration = dataclasses.replace(before.classifier.quantized_concentration, most_predicted="2")
    now = comparison(metrics=dataclasses.replace(before.classifier, quantized_concentration=concentration))
    made = result("t.py::x", now, before, update=True)
    assert [change["metric"] for change in made["changes"]] == ["most_predicted_share"]
    assert summary_lines([made])[2:] == []


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
