"""A baseline is a measurement: nothing deletes it unasked."""

import pytest

TWO_GATES = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("early error")

@pytest.mark.quantized(bits=16, mode="linear")
def test_first(comparison, accuracy_snapshot{first}):
    assert comparison == accuracy_snapshot

@pytest.mark.quantized(bits=8, mode="linear")
def test_second(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot
"""


def files(project):
    return {path: path.read_bytes() for path in sorted((project.path / "__quantguard__").rglob("*.json"))}


@pytest.fixture
def two_gates(project):
    """A project with two gated tests and their baselines."""
    project.makepyfile(test_app=TWO_GATES.format(first=""))
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=2)
    assert len(files(project)) == 3
    return project


@pytest.mark.parametrize("update", [[], ["--snapshot-update"]], ids=["compare", "update"])
def test_an_early_error_keeps_baselines(two_gates, update, plugin_args):
    before = files(two_gates)
    two_gates.makepyfile(test_app=TWO_GATES.format(first=", broken"))
    two_gates.runpytest_inprocess(*update, *plugin_args).assert_outcomes(errors=1, passed=1)
    assert files(two_gates) == before


def test_stopping_at_the_first_failure_keeps_baselines(two_gates, plugin_args):
    before = files(two_gates)
    two_gates.makepyfile(test_app=TWO_GATES.format(first=", broken"))
    two_gates.runpytest_inprocess("-x", "--snapshot-update", *plugin_args)
    assert files(two_gates) == before


def test_collecting_only_keeps_baselines(two_gates):
    before = files(two_gates)
    result = two_gates.runpytest_inprocess("--collect-only", "--snapshot-update")
    assert result.ret == 0
    assert files(two_gates) == before


@pytest.mark.parametrize(
    "selection", [["-k", "second"], ["--deselect", "test_app.py::test_first"], ["-m", "not x"]]
)
def test_deselection_keeps_baselines(two_gates, selection):
    before = files(two_gates)
    result = two_gates.runpytest_inprocess("--snapshot-update", *selection)
    assert files(two_gates) == before
    assert "without a test" not in result.stdout.str()


def test_deselection_by_another_plugin_keeps_baselines(two_gates, plugin_args):
    before = files(two_gates)
    two_gates.makeconftest(
        """
        def pytest_collection_modifyitems(config, items):
            config.hook.pytest_deselected(items=items[:1])
            del items[:1]
        """
    )
    result = two_gates.runpytest_inprocess("--snapshot-update", *plugin_args)
    result.assert_outcomes(passed=1, deselected=0 if "2" in plugin_args else 1)
    assert files(two_gates) == before
    assert "without a test" not in result.stdout.str()


def test_the_plain_snapshot_fixture_does_not_touch_baselines(two_gates):
    before = files(two_gates)
    two_gates.makepyfile(test_app="def test_other(snapshot): assert 1 == snapshot")
    two_gates.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    assert files(two_gates) == before


def test_orphans_are_listed_and_kept(two_gates, plugin_args):
    before = files(two_gates)
    source = TWO_GATES.format(first="").replace("test_second", "test_renamed")
    two_gates.makepyfile(test_app=source)
    result = two_gates.runpytest_inprocess(*plugin_args)
    result.stdout.fnmatch_lines(["Baselines without a test*", "  __quantguard__/test_app/test_second.json"])
    assert "test_first.json" not in result.stdout.str()
    assert files(two_gates) == before


@pytest.mark.parametrize("selection", [["test_app.py::test_first"], ["--lf"]])
def test_a_run_of_a_part_lists_no_orphans(two_gates, selection):
    result = two_gates.runpytest_inprocess(*selection)
    assert "without a test" not in result.stdout.str()


def test_update_new_only_creates_and_changes_nothing(two_gates):
    before = files(two_gates)
    two_gates.makepyfile(
        test_app=TWO_GATES.format(first="").replace("bits=16", "bits=7")
        + TWO_GATES[TWO_GATES.rindex("@pytest.mark") :].replace("test_second", "test_third")
    )
    two_gates.runpytest_inprocess("--snapshot-update-new-only")
    after = files(two_gates)
    assert {path: after[path] for path in before} == before
    assert [path.name for path in after.keys() - before.keys()] == ["test_third.json"]


def test_two_assertions_in_one_test_have_a_baseline_each(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=8, mode="linear")
        def test_gate(comparison, accuracy_snapshot):
            assert comparison == accuracy_snapshot
            assert comparison == accuracy_snapshot
            assert comparison == accuracy_snapshot(name="named")
        """
    )
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    names = sorted(path.name for path in files(project) if path.parent.name == "test_app")
    assert names == ["test_gate.1.json", "test_gate.json", "test_gate[named].json"]
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert "without a test" not in result.stdout.str()
