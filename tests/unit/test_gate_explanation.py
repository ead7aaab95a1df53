import dataclasses
from fractions import Fraction

import pytest
from gate_examples import classifier, comparison, distortion, sample_row, sample_set
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.comparison import ClassRow
from pytest_quantguard.gate.explanation import explain
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.record import make_record
from pytest_quantguard.gate.rules import metric_of
from pytest_quantguard.gate.table import align
from pytest_quantguard.gate.update import accept
from pytest_quantguard.gate.verdict import Verdict, judge
from pytest_quantguard.gate.wording import (
    clean,
    entry_text,
    percent,
    scheme_title,
    shorten,
    size_text,
    update_command,
)
from pytest_quantguard.metrics.share import Share

NODE = "tests/test_x.py::test_y[2-kmeans_lut]"


def explained(now, before=None, limits=None, verbosity=0):
    baseline = None if before is None else make_record(before, Limits())
    verdict = judge(make_record(now, limits or Limits()), baseline, command=update_command(NODE))
    return explain(verdict, now, update_command(NODE), "tests/base.json", verbosity)


def bad(**arguments):
    rows = [sample_row(f"8/{index:03}.png", near_tie=index == 1) for index in range(70)]
    rows.append(sample_row("same.png", before="8", after="8"))
    return comparison("kmeans_lut:2", agreement=380, right=370, worst=-15, rows=rows, **arguments)


def test_a_failure_shows_sentence_table_classes_samples_notes_and_command():
    text = explained(bad(engine="coreml", notes=["Few samples."]), comparison())
    lines = text.splitlines()
    assert lines[0].startswith("2-bit kmeans_lut: top-1 agreement is 84.4 % (380 of 450), below the threshold of")
    assert lines[2].split() == ["metric", "baseline", "threshold", "now", "change"]
    row = next(line for line in lines if line.startswith("  top-1 agreement"))
    assert " ".join(row.split()) == (
        "top-1 agreement 99.78 % (449 of 450) 98.77 % 84.44 % (380 of 450) -15.33 points <"
    )
    assert next(line for line in lines if line.startswith("  size")).endswith("=")
    assert "70 of 450 answers flipped: 70 broken, 0 fixed, 0 from wrong to another wrong" in text
    assert "Classes that lost accuracy (1 of 2):" in lines
    assert "  8           44  90.9 %     56.8 %  -34.1 points" in lines
    assert "Flipped samples (10 of 70):" in lines
    assert sum(line.startswith("  8/0") for line in lines) == 10
    flipped = next(line for line in lines if "8/001.png" in line)
    assert flipped.split() == ["8/001.png", "8", "8", "(99.0", "%)", "3", "(51.0", "%)", "near-tie"]
    assert "same.png" not in text
    assert "  note: The baseline was measured with engine portable, now coreml." in lines
    assert "  note: Few samples." in lines
    assert lines[-1] == f'To accept the change: pytest "{NODE}" --snapshot-update'


def test_details_grow_with_verbosity():
    shown = [explained(bad(), comparison(), verbosity=level).count("8/0") for level in (-1, 0, 1, 2, 5)]
    assert shown == [10, 10, 50, 70, 70]
    assert "95 % interval of the top-1 agreement" in explained(bad(), comparison(), verbosity=1)


def test_lines_fit_120_columns_even_with_long_names():
    rows = [sample_row("very long/" * 20, "a label " * 9, "an answer " * 9, "another " * 9, True)] * 3
    now = comparison("kmeans_lut:2", agreement=3, collapsed_onto="grilled cheese " * 9, most=450, rows=rows)
    text = explained(now, comparison(collapsed_onto="hot dog " * 9))
    table = text.split("\n\n")[1]
    samples = next(block for block in text.split("\n\n") if block.startswith("Flipped samples"))
    assert max(map(len, (table + "\n" + samples).splitlines())) <= 120


def test_a_missing_baseline_shows_what_would_be_stored():
    text = explained(bad())
    assert text.splitlines()[2].split() == ["metric", "now"]
    assert "84.44 % (380 of 450)" in text and "Flipped" not in text and "To accept" not in text
    assert text.splitlines()[0].endswith(f'create it with: pytest "{NODE}" --snapshot-update')


def test_other_samples_show_no_numbers_but_the_command():
    text = explained(comparison(samples=sample_set(["a.png"])), comparison())
    assert "of 450" not in text and text.endswith("--snapshot-update")


def test_pinned_thresholds_are_marked_and_no_update_is_offered():
    text = explained(comparison(agreement=300), comparison(), Limits(thresholds={"top1_agreement": 0.97}))
    assert "97.00 % pinned" in text and "--snapshot-update" not in text
    assert text.endswith(
        "An update keeps these thresholds. To accept the change, change them first:\n"
        "  top-1 agreement: 97.00 %, pinned in the marker"
    )


def test_of_many_classes_that_lost_the_worst_are_shown():
    rows = [ClassRow(str(digit), Share(40, 44), Share(40 - digit, 44)) for digit in range(10)]
    metrics = classifier(agreement=300)
    metrics = dataclasses.replace(metrics, labelled=dataclasses.replace(metrics.labelled, classes=tuple(rows)))
    lines = explained(comparison(metrics=metrics), comparison()).splitlines()
    start = lines.index("Classes that lost most (5 of the 9 that lost accuracy):")
    assert [line.split()[0] for line in lines[start + 2 : start + 7]] == ["9", "8", "7", "6", "5"]


def test_a_model_without_classes_shows_its_outputs():
    before = comparison(metrics=False, outputs=[distortion()])
    text = explained(comparison(metrics=False, outputs=[distortion(snr=20)]), before)
    assert "SNR of 'image'" in text and "20.00 dB" in text and "-11.23 dB  <" in text and "flipped" not in text


def test_samples_without_labels_have_no_label_column():
    rows = [sample_row(label=None)]
    text = explained(comparison(labelled=False, agreement=300, rows=rows), comparison(labelled=False))
    assert "150 of 450 answers flipped\n" in text
    assert next(line for line in text.splitlines() if "float answer" in line).split()[:2] == ["sample", "float"]


def test_a_refused_update_does_not_offer_an_update():
    now = comparison(agreement=380)
    acceptance = accept(make_record(now, Limits(thresholds={"top1_agreement": 0.97})), None)
    rows = tuple(row for row in acceptance.rows if not row.ok)
    text = explain(
        Verdict("refused", acceptance.refusal, acceptance.rows, blocking=rows), now, update_command(NODE)
    )
    assert "change the threshold in the marker first" in text and "--snapshot-update" not in text
    assert "97.00 % pinned" in text and "<" in text


@given(st.text(max_size=80), st.integers(8, 60))
def test_shortened_text_fits_and_keeps_both_ends(text, width):
    short = shorten(text, width)
    assert len(short) == min(len(text), width)
    assert short == text or (text.startswith(short.split("...")[0]) and "..." in short)


@given(st.integers(0, 60_000), st.integers(1, 60_000))
def test_percent_says_all_or_nothing_only_where_it_is(count, total):
    text = percent(Fraction(min(count, total), total))
    assert (float(text.removesuffix(" %")) == 100) == (count >= total)
    assert (float(text.removesuffix(" %")) == 0) == (count == 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (48_123, "48.1 KB"), (3_723_258, "3.72 MB"), (12e9, "12.0 GB")],
)
def test_sizes_read_in_decimal_units(value, text):
    assert size_text(value) == text


def test_ten_percent_keeps_one_digit():
    assert percent(Fraction(1, 10)) == "10.0 %"
    assert percent(Fraction(49_999, 50_000)) == "99.998 %"


def test_values_read_with_counts_and_labels():
    worst = metric_of("worst_class_delta")
    assert entry_text(worst, {"count": -2, "total": 44, "label": "hot dog"}) == "-4.5 points (-2 of 44, 'hot dog')"
    assert entry_text(metric_of("size_bytes"), 1234567) == "1,234,567 bytes"


def test_schemes_read_as_titles():
    assert scheme_title("kmeans_lut:8") == "8-bit kmeans_lut"
    assert scheme_title("linear:4:per_channel") == "linear:4:per_channel"
    assert scheme_title("") == "the quantized model"


def test_commands_are_quoted_for_a_shell():
    assert update_command("a.py::b[8-linear]") == 'pytest "a.py::b[8-linear]" --snapshot-update'
    assert update_command('a.py::b[$x"]') == "pytest 'a.py::b[$x\"]' --snapshot-update"
    assert update_command("") == "pytest --snapshot-update"
    assert update_command("a.py", ["--x=1", "--y=a b"]) == "pytest \"a.py\" --snapshot-update --x=1 '--y=a b'"


def test_control_characters_are_replaced():
    assert clean("a\x1b[31m\nb\u202ec é") == "a?[31m?b?c é"


def test_columns_align():
    assert align([("a", "1", ""), ("bbb", "22", "x")], right=[1], indent="  ") == ["  a     1", "  bbb  22  x"]
