import copy
import json
import math

import pytest
from gate_examples import comparison, distortion
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.baseline import dumps, parse_baseline, read_baseline
from pytest_quantguard.gate.files import write_text
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.record import make_record

JSON_TYPES = (dict, list, str, int, float, bool, type(None))


def record(**arguments):
    return make_record(comparison(**arguments), Limits())


def assert_plain(value):
    assert type(value) in JSON_TYPES, value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(inner)


def test_a_record_holds_counts_and_what_makes_them_comparable():
    value = record()
    assert value["metrics"] == {
        "top1_agreement": {"count": 449, "total": 450},
        "top5_agreement": {"count": 450, "total": 450},
        "top1_accuracy_delta": {"count": -1, "total": 450},
        "worst_class_delta": {"count": -1, "total": 44, "label": "8"},
        "float_top1_accuracy": {"count": 445, "total": 450},
        "most_predicted_share": {"count": 60, "total": 450, "label": "1"},
        "size_bytes": 100_000,
    }
    assert value["thresholds"].keys() == value["metrics"].keys()
    assert value["comparison"]["samples"]["count"] == 450
    assert value["comparison"]["versions"] == {"coremltools": "9.0", "numpy": "2.1.0"}
    assert "pinned" not in value and "collapsed_onto" not in value


def test_a_record_is_free_of_numpy_and_share_types():
    assert_plain(record(outputs=[distortion()], collapsed_onto="hot dog"))


def test_metrics_exist_only_where_the_comparison_has_them():
    assert "top5_agreement" not in record(top5=None)["metrics"]
    unlabelled = record(labelled=False)["metrics"]
    assert set(unlabelled) == {"top1_agreement", "top5_agreement", "most_predicted_share", "size_bytes"}
    assert record(metrics=False, outputs=[distortion()])["metrics"] == {
        "size_bytes": 100_000,
        "snr:image": 31.23,
        "psnr:image": 38.5,
    }


def test_pinned_thresholds_are_stored_and_marked():
    value = make_record(comparison(), Limits(thresholds={"top1_agreement": 0.97}))
    assert value["thresholds"]["top1_agreement"] == 0.97
    assert value["pinned"] == ["top1_agreement"]


@pytest.mark.parametrize("noise", [math.nan, math.inf])
def test_noise_that_is_no_number_is_refused(noise):
    with pytest.raises(BaselineError, match="'image' is"):
        record(metrics=False, outputs=[distortion(snr=noise)])


def test_names_that_are_no_utf8_are_stored_readably():
    assert record(model="caf\udce9.mlmodel")["comparison"]["float_model"]["name"] == "caf?.mlmodel"


def test_the_text_is_canonical_with_a_line_per_metric():
    text = dumps(record(collapsed_onto="crème brûlée"))
    assert text.endswith("}\n") and "crème brûlée" in text
    lines = [line.strip() for line in text.splitlines()]
    assert '"top1_agreement": {"count": 449, "total": 450},' in lines
    assert '"top1_agreement": 0.9877,' in lines
    value = json.loads(text)
    assert dumps(dict(reversed(value.items()))) == text


def test_a_changed_scheme_changes_few_lines():
    before = dumps(record()).splitlines()
    after = dumps(record(scheme="kmeans_lut:2", size=30_000, agreement=380, right=370, worst=-15)).splitlines()
    assert len(before) == len(after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 9


labels = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.integers(0, 450),
    st.none() | labels,
    st.dictionaries(labels.filter(bool), st.floats(-100, 100), max_size=3),
    st.floats(0, 1),
    st.dictionaries(labels, labels, max_size=3),
)
def test_records_survive_the_file_unchanged(agreement, collapsed, outputs, max_drop, versions):
    measured = comparison(
        agreement=agreement,
        collapsed_onto=collapsed,
        outputs=[distortion(name, snr) for name, snr in outputs.items()],
        versions=versions,
    )
    value = make_record(measured, Limits(max_drop=max_drop, thresholds={"top1_agreement": max_drop}))
    text = dumps(value)
    assert parse_baseline(text) == value
    assert dumps(parse_baseline(text)) == text


def test_a_missing_baseline_is_none(tmp_path):
    assert read_baseline(tmp_path / "no folder" / "test_a.json") is None


def changed(path, value):
    """The text of a baseline with one field replaced; removed if `value` is Ellipsis."""
    whole = copy.deepcopy(record())
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(whole)


DAMAGED = {
    "empty": "",
    "cut": dumps(record())[:200],
    "list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "nan": changed(("max_drop",), math.nan),
    "huge number": changed(("metrics", "size_bytes"), 2**70),
    "infinite": dumps(record()).replace("100000", "1e999"),
    "repeated key": '{"schema": 1, "schema": 1}',
    "merge conflict": "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> branch\n",
    "no schema": changed(("schema",), ...),
    "schema text": changed(("schema",), "1"),
    "schema true": changed(("schema",), True),
    "schema zero": changed(("schema",), 0),
    "extra key": changed(("tolerance",), 1),
    "no comparison": changed(("comparison",), ...),
    "no samples": changed(("comparison", "samples"), None),
    "digest that leads elsewhere": changed(("comparison", "samples", "digest"), "../../etc/passwd"),
    "count text": changed(("comparison", "samples", "count"), "450"),
    "version number": changed(("comparison", "versions", "numpy"), 2),
    "float model": changed(("comparison", "float_model"), "digits.mlmodel"),
    "scheme": changed(("comparison", "scheme"), 8),
    "max_drop": changed(("max_drop",), 2),
    "collapsed": changed(("collapsed_onto",), 3),
    "metrics": changed(("metrics",), []),
    "unknown metric": changed(("metrics", "top1"), {"count": 1, "total": 2}),
    "share as float": changed(("metrics", "top1_agreement"), 0.99),
    "count above total": changed(("metrics", "top1_agreement", "count"), 451),
    "negative share": changed(("metrics", "top1_agreement", "count"), -1),
    "total zero": changed(("metrics", "top1_agreement", "total"), 0),
    "total float": changed(("metrics", "top1_agreement", "total"), 450.0),
    "total missing": changed(("metrics", "top1_agreement", "total"), ...),
    "label": changed(("metrics", "worst_class_delta", "label"), 8),
    "extra in entry": changed(("metrics", "top1_agreement", "share"), 0.9),
    "size float": changed(("metrics", "size_bytes"), 1.5),
    "snr text": changed(("metrics", "snr:image"), "31 dB"),
    "threshold text": changed(("thresholds", "size_bytes"), "1 MB"),
    "threshold in percent": changed(("thresholds", "top1_agreement"), 99),
    "threshold in points": changed(("thresholds", "worst_class_delta"), -5),
    "threshold of no size": changed(("thresholds", "size_bytes"), 0),
    "threshold missing": changed(("thresholds", "size_bytes"), ...),
    "threshold misspelt": changed(("thresholds", "top1_agrement"), 0.9),
    "pinned": changed(("pinned",), "top1_agreement"),
    "pinned unknown": changed(("pinned",), ["snr:image"]),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_baseline_is_refused_by_name_with_advice(tmp_path, case):
    path = tmp_path / "test_a.json"
    path.write_text(DAMAGED[case], encoding="utf-8")
    with pytest.raises(BaselineError) as caught:
        read_baseline(path)
    message = str(caught.value)
    assert str(path) in message and "restore it from version control" in message and "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "test_a.json"
    path.write_bytes(b'{"schema": "\xff\xfe"}')
    with pytest.raises(BaselineError, match="damaged"):
        read_baseline(path)


def test_a_merge_conflict_and_a_misspelt_metric_are_named(tmp_path):
    path = tmp_path / "test_a.json"
    for case, message in [
        ("merge conflict", "unresolved merge conflict"),
        ("threshold misspelt", "did you mean 'top1_agreement'"),
        (
            "threshold in percent",
            "'thresholds.top1_agreement' is 99, which is not between 0 and 1; correct it,",
        ),
        ("threshold of no size", "'thresholds.size_bytes' is 0, which is less than 1; correct it,"),
        ("unknown metric", r"metrics are [^.]*, psnr:<output>; correct it, restore it"),
        ("threshold missing", "null switches a gate off"),
        ("repeated key", "repeats the key 'schema'"),
    ]:
        path.write_text(DAMAGED[case], encoding="utf-8")
        with pytest.raises(BaselineError, match=message):
            read_baseline(path)


def test_a_newer_schema_asks_for_an_upgrade_and_not_for_deletion(tmp_path):
    path = tmp_path / "test_a.json"
    path.write_text('{"schema": 2, "anything": true}', encoding="utf-8")
    with pytest.raises(BaselineError, match="upgrade") as caught:
        read_baseline(path)
    assert "delete" not in str(caught.value)


def test_a_baseline_that_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "test_a.json"
    path.write_bytes(b" " * 2_000_000)
    with pytest.raises(BaselineError, match="larger than"):
        read_baseline(path)


def test_a_folder_in_place_of_a_baseline_is_named(tmp_path):
    (tmp_path / "test_a.json").mkdir()
    with pytest.raises(BaselineError, match="cannot be read"):
        read_baseline(tmp_path / "test_a.json")


def test_null_thresholds_and_thresholds_without_metric_are_allowed():
    assert parse_baseline(changed(("thresholds", "size_bytes"), None))
    assert parse_baseline(changed(("thresholds", "snr:image"), 20))


def test_writing_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "__quantguard__" / "test_a" / "test_a.json"
    write_text(path, "a long first text\n")
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "__quantguard__").write_text("a file")
    with pytest.raises(BaselineError, match=r"__quantguard__.*cannot be written") as caught:
        write_text(tmp_path / "__quantguard__" / "test_a.json", "text")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_failed_write_keeps_the_old_file_and_removes_its_own(tmp_path, monkeypatch):
    path = tmp_path / "test_a.json"
    write_text(path, "old\n")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(BaselineError, match="No space left"):
        write_text(path, "new\n")
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]
