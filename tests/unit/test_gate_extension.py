import re
import string
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from gate_examples import comparison
from hypothesis import given
from hypothesis import strategies as st
from syrupy.extensions.base import AbstractSyrupyExtension
from syrupy.location import PyTestLocation

from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.extension import QuantguardExtension, file_name
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.record import make_record

HARMLESS = set(string.ascii_letters + string.digits + "_.=-[]")


def location(tmp_path, name="test_gate[8-linear]", class_name=""):
    """A test's location as syrupy makes it from a pytest item."""

    def function():
        pass

    function.__name__ = name.partition("[")[0]
    path = tmp_path / "test_food.py"
    nodeid = "::".join(part for part in ("test_food.py", class_name, name) if part)
    return PyTestLocation(SimpleNamespace(path=path, obj=function, name=name, nodeid=nodeid))


def text(**arguments):
    return QuantguardExtension().serialize(make_record(comparison(**arguments), Limits()))


def test_a_baseline_lies_in_a_folder_of_its_own_beside_the_test_file(tmp_path):
    path = QuantguardExtension.get_location(test_location=location(tmp_path), index=0)
    assert path == str(tmp_path / "__quantguard__" / "test_food" / "test_gate[8-linear].json")


def test_further_and_named_assertions_have_files_of_their_own(tmp_path):
    names = [
        Path(QuantguardExtension.get_location(test_location=location(tmp_path), index=index)).name
        for index in (1, "night")
    ]
    assert names == ["test_gate[8-linear].1.json", "test_gate[8-linear][night].json"]


def test_methods_are_told_apart_by_their_class(tmp_path):
    names = {
        QuantguardExtension.get_file_basename(test_location=location(tmp_path, class_name=name), index=0)
        for name in ("", "TestA", "Testa")
    }
    assert len(names) == 3


def test_ids_that_other_systems_would_merge_get_names_of_their_own():
    names = ["a/b", "ab", "a:b", "a b", "A_b", "a_b", "a\\b", "a*b", "a\nb", "ä", "Ä", "a" * 300, "a" * 301]
    files = [file_name(name) for name in names]
    assert len({name.lower() for name in files}) == len(names)
    assert file_name("a_b") == "a_b" and re.fullmatch(r"a_b-[0-9a-f]{8}", file_name("a/b"))


@given(st.lists(st.text(max_size=150), min_size=2, max_size=2, unique=True))
def test_file_names_are_unique_short_and_harmless(names):
    first, second = map(file_name, names)
    assert first.lower() != second.lower()
    assert len(first) <= 120 and set(first) <= HARMLESS


@pytest.mark.parametrize(
    "name", ["test_gate", "test_gate[a/b]", "test_gate[Hot Dog]", "test_gate[" + "x" * 300 + "]"]
)
@pytest.mark.parametrize("class_name", ["", "TestFood"])
@pytest.mark.parametrize("index", [0, 1, "night"])
def test_writing_warns_of_nothing_and_can_be_read_back(tmp_path, name, class_name, index):
    place = location(tmp_path, name, class_name)
    path = QuantguardExtension.get_location(test_location=place, index=index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QuantguardExtension.write_snapshot(snapshot_location=path, snapshots=[(text(), place, index)])
    read = QuantguardExtension().read_snapshot(test_location=place, index=index, session_id="1")
    assert read == text()
    assert [file.name for file in Path(path).parent.iterdir()] == [Path(path).name]


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "__quantguard__").write_text("")
    place = location(tmp_path)
    path = QuantguardExtension.get_location(test_location=place, index=0)
    with pytest.raises(BaselineError, match=r"__quantguard__.*cannot be written"):
        QuantguardExtension.write_snapshot(snapshot_location=path, snapshots=[(text(), place, 0)])


def test_syrupy_discovers_nothing_and_deletes_nothing(tmp_path):
    place = location(tmp_path)
    path = Path(QuantguardExtension.get_location(test_location=place, index=0))
    path.parent.mkdir(parents=True)
    path.write_text(text())
    extension = QuantguardExtension()
    assert list(extension.discover_snapshots(test_location=place)) == []
    extension.delete_snapshots(snapshot_location=str(path), snapshot_names={"test_gate[8-linear]"})
    assert path.exists()


def test_plain_syrupy_extensions_do_not_search_our_folder(tmp_path):
    assert "__quantguard__" not in AbstractSyrupyExtension.dirname(test_location=location(tmp_path))


def test_matching_follows_the_gate():
    extension = QuantguardExtension()
    baseline = text()
    assert extension.matches(serialized_data=baseline, snapshot_data=baseline)
    assert extension.matches(serialized_data=text(agreement=445), snapshot_data=baseline)
    assert extension.matches(serialized_data=text(agreement=450), snapshot_data=baseline)
    assert not extension.matches(serialized_data=text(agreement=444), snapshot_data=baseline)
    assert not extension.matches(serialized_data=text(labelled=False), snapshot_data=baseline)


def test_matching_is_exact_while_updating():
    extension = QuantguardExtension()
    extension.exact = True
    assert extension.matches(serialized_data=text(), snapshot_data=text())
    assert not extension.matches(serialized_data=text(agreement=450), snapshot_data=text())
    assert not extension.matches(serialized_data=text(engine="coreml"), snapshot_data=text())
    assert not QuantguardExtension().exact


def test_a_damaged_baseline_matches_nothing():
    with pytest.raises(ValueError, match="schema"):
        QuantguardExtension().matches(serialized_data=text(), snapshot_data="{}")


def test_the_diff_is_plain_text():
    lines = list(QuantguardExtension().diff_lines(text(agreement=400), text()))
    assert '-    "top1_agreement": {"count": 449, "total": 450},' in lines
    assert '+    "top1_agreement": {"count": 400, "total": 450},' in lines
    assert not any("\x1b" in line for line in lines)
