"""The assertion inside real pytest sessions, with syrupy and without the rest of the plugin."""

import json
import shlex
from pathlib import Path

import gate_examples
import pytest

from pytest_quantguard.gate import assertion

assert gate_examples and assertion  # imported here once: pytester forgets what its sessions import
pytest_plugins = ["pytester"]

CONFTEST = """
import json, sys
from pathlib import Path
import pytest
sys.path.insert(0, {examples!r})
from gate_examples import comparison, sample_set
from pytest_quantguard.gate.assertion import make_accuracy_snapshot
from pytest_quantguard.gate.limits import Limits

HERE = Path(__file__).parent

def read(name):
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else {{}}

@pytest.fixture
def measured():
    arguments = read("measured.json")
    if "samples" in arguments:
        arguments["samples"] = sample_set(**arguments["samples"])
    return comparison(**arguments)

@pytest.fixture
def accuracy_snapshot(snapshot, request):
    def store(result):
        with (HERE / "results.jsonl").open("a") as stream:
            stream.write(json.dumps(result) + "\\n")
    return make_accuracy_snapshot(
        snapshot, limits=Limits(**read("limits.json")), node_id=request.node.nodeid, on_result=store
    )
"""

TEST = """
def test_gate(measured, accuracy_snapshot):
    assert measured == accuracy_snapshot
"""


class Project:
    """A project with one gated test, whose measurement is set from outside."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.folder = pytester.path
        pytester.makeconftest(CONFTEST.format(examples=str(Path(__file__).parent)))
        pytester.makepyfile(test_food=TEST)

    def measure(self, **arguments):
        (self.folder / "measured.json").write_text(json.dumps(arguments))

    def limit(self, **arguments):
        (self.folder / "limits.json").write_text(json.dumps(arguments))

    def run(self, *options):
        (self.folder / "results.jsonl").unlink(missing_ok=True)
        off = [
            word for name in ("quantguard", "hypothesispytest", "cacheprovider") for word in ("-p", f"no:{name}")
        ]
        return self.pytester.runpytest(*off, "-W", "error", *options)

    @property
    def results(self):
        path = self.folder / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def baseline(self):
        return self.folder / "__quantguard__" / "test_food" / "test_gate.json"

    @property
    def files(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("__quantguard__/**/*.json"))

    @property
    def manifests(self):
        return sorted((self.folder / "__quantguard__").glob("samples-*.json"))


@pytest.fixture
def project(pytester):
    return Project(pytester)


def test_the_way_of_a_baseline_from_missing_to_updated(project):
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["8-bit kmeans_lut: there is no baseline yet; create it with: pytest *::test_gate* --snapshot-update"]
    )
    result.stdout.fnmatch_lines(["1 snapshot failed."])
    assert project.files == [] and project.results[0]["outcome"] == "missing"

    result = project.run("--snapshot-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 snapshot generated."])
    assert project.baseline.exists() and len(project.manifests) == 1
    assert project.results[0]["outcome"] == "created" and project.results[0]["changes"] == []

    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 snapshot passed."])
    assert project.results[0]["outcome"] == "passed"

    project.measure(scheme="kmeans_lut:2", agreement=376)
    before = project.baseline.read_text()
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "2-bit kmeans_lut: top-1 agreement is 83.6 % (376 of 450), below the threshold of 98.8 %.",
            "  metric *baseline *threshold *now *change",
            "  top-1 agreement *99.78 % (449 of 450) *<",
            "To accept the change: pytest *test_food.py::test_gate* --snapshot-update",
            "1 snapshot failed.",
            "FAILED test_food.py::test_gate - *: 2-bit kmeans_lut: top-1 agreement is*",
        ]
    )
    assert "assertion.py" not in result.stdout.str() and "Traceback" not in result.stdout.str()
    assert project.baseline.read_text() == before and project.results[0]["outcome"] == "failed"

    result = project.run("--snapshot-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 snapshot updated."])
    assert project.results[0]["outcome"] == "updated"
    assert [change["direction"] for change in project.results[0]["changes"]] == ["worse"]
    project.run().assert_outcomes(passed=1)

    result = project.run("--snapshot-update")
    result.stdout.fnmatch_lines(["1 snapshot passed."])
    assert project.results[0]["outcome"] == "passed"


def test_values_within_the_tolerance_move_with_an_update(project):
    project.run("--snapshot-update")
    project.measure(agreement=446)
    project.run().assert_outcomes(passed=1)
    project.run("--snapshot-update").stdout.fnmatch_lines(["1 snapshot updated."])
    assert json.loads(project.baseline.read_text())["metrics"]["top1_agreement"]["count"] == 446


def test_new_only_creates_what_is_missing_and_changes_nothing(project):
    project.run("--snapshot-update-new-only").assert_outcomes(passed=1)
    assert project.results[0]["outcome"] == "created" and len(project.manifests) == 1
    before = project.baseline.read_text()
    project.measure(agreement=446)
    project.run("--snapshot-update-new-only").assert_outcomes(passed=1)
    project.measure(agreement=376)
    project.run("--snapshot-update-new-only").assert_outcomes(failed=1)
    assert project.baseline.read_text() == before


def test_an_edited_threshold_survives_and_refuses_what_misses_it(project):
    project.run("--snapshot-update")
    text = project.baseline.read_text().replace('"top1_agreement": 0.9877', '"top1_agreement": 0.98')
    project.baseline.write_text(text)
    project.measure(agreement=442)
    project.run("--snapshot-update").assert_outcomes(passed=1)
    assert '"top1_agreement": 0.98,' in project.baseline.read_text()
    before = project.baseline.read_text()
    project.measure(agreement=440)
    result = project.run("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*; change the hand-edited threshold in the baseline first.",
            "  top-1 agreement: 98.00 %, edited by hand in __quantguard__/test_food/test_gate.json",
            "1 snapshot failed.",
        ]
    )
    assert project.baseline.read_text() == before and project.results[0]["outcome"] == "refused"


def test_an_update_that_would_be_refused_is_not_offered(project):
    project.run("--snapshot-update")
    text = project.baseline.read_text().replace('"top1_agreement": 0.9877', '"top1_agreement": 0.98')
    project.baseline.write_text(text)
    for measured in ({"agreement": 440}, {"agreement": 3, "samples": {"names": ["a.png"]}}):
        project.measure(**measured)
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "An update keeps these thresholds. To accept the change, change them first:",
                "  top-1 agreement: 98.00 %, edited by hand in __quantguard__/test_food/test_gate.json",
            ]
        )
        assert "--snapshot-update" not in result.stdout.str()
    project.measure(agreement=445, right=100)
    project.run().stdout.fnmatch_lines(["To accept the change: pytest * --snapshot-update"])


def test_the_command_works_where_pytest_was_called_and_repeats_our_flags(project, monkeypatch):
    conftest = project.folder / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "\n\ndef pytest_addoption(parser):\n"
        + "    parser.addoption('--quantguard-max-drop')\n"
        + "    parser.addoption('--quantguard-allow-unknown-labels', action='store_true', default=None)\n"
    )
    (project.folder / "sub folder").mkdir()
    monkeypatch.chdir(project.folder / "sub folder")
    flags = ("--quantguard-allow-unknown-labels", "--quantguard-max-drop", "a b")
    line = (
        'pytest "../test_food.py::test_gate" --snapshot-update --quantguard-allow-unknown-labels '
        "'--quantguard-max-drop=a b'"
    )
    for more in ((), ("-n", "1", "-W", "ignore::pytest.PytestWarning")):
        result = project.run("..", *flags, *more, f"--rootdir={project.folder}")
        result.stdout.fnmatch_lines([f"*create it with: {line}"])
    accepted = project.run(*shlex.split(line)[1:])
    accepted.assert_outcomes(passed=1)
    assert project.baseline.exists()


def test_a_collapsed_baseline_is_told_when_it_is_created(project):
    project.measure(agreement=60, collapsed_onto="7", most=450)
    project.run("--snapshot-update")
    assert project.results[0]["outcome"] == "created"
    assert project.results[0]["notices"] == ["The model answers '7' nearly always, and this baseline accepts it."]
    project.run()
    assert project.results[0]["notices"] == ["The model answers '7' nearly always, as in the baseline."]


def test_a_pinned_threshold_refuses_creation_and_update(project):
    project.limit(thresholds={"top1_agreement": 0.999})
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "*: there is no baseline yet, and none can be created: top-1 agreement is 99.8 % (449 of 450), "
            "below the pinned threshold of 99.9 %.",
            "  top-1 agreement: 99.90 %, pinned in the marker",
        ]
    )
    assert "--snapshot-update" not in result.stdout.str()
    result = project.run("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*below the pinned threshold of 99.9 %*", "1 snapshot failed."])
    assert project.files == []
    project.limit(thresholds={"top1_agreement": 0.9})
    project.run("--snapshot-update").assert_outcomes(passed=1)
    assert json.loads(project.baseline.read_text())["pinned"] == ["top1_agreement"]


def test_other_samples_are_told_by_name_as_long_as_the_manifest_is_there(project):
    project.measure(samples={"names": ["a.png", "b.png", "c.png"]})
    project.run("--snapshot-update")
    project.measure(samples={"names": ["b.png", "c.png", "d.png"], "altered": ["c.png"]})
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 added (d.png), 1 removed (a.png), 1 altered (c.png)*not comparable."])
    assert project.results[0]["outcome"] == "incomparable"
    project.manifests[0].write_text("{")
    project.run().stdout.fnmatch_lines(["*because the baseline's list of samples is missing*"])
    project.run("--snapshot-update").assert_outcomes(passed=1)
    assert len(project.manifests) == 2  # the old one is an orphan; nothing is deleted
    project.run().assert_outcomes(passed=1)


def test_a_missing_manifest_comes_back_with_an_update(project):
    project.run("--snapshot-update")
    project.manifests[0].unlink()
    project.run().assert_outcomes(passed=1)
    assert project.manifests == []
    project.run("--snapshot-update").stdout.fnmatch_lines(["1 snapshot passed."])
    assert len(project.manifests) == 1


@pytest.mark.parametrize("option", ["--verbose", "--snapshot-update", "--snapshot-update-new-only"])
@pytest.mark.parametrize("text", ["{", '{"schema": 99}'])
def test_a_damaged_baseline_fails_by_name_and_is_never_overwritten(project, option, text):
    project.baseline.parent.mkdir(parents=True)
    project.baseline.write_text(text)
    result = project.run(option)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["The baseline *test_gate.json' *", "1 snapshot failed."])
    assert "Traceback" not in result.stdout.str()
    assert project.baseline.read_text() == text and project.results[0]["outcome"] == "error"


@pytest.mark.parametrize("option", ["--verbose", "--snapshot-update"])
def test_a_folder_that_cannot_be_read_or_written_fails_by_name(project, option):
    (project.folder / "__quantguard__").write_text("a file")
    result = project.run(option)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["The baseline *__quantguard__*cannot be read: Not a directory."])
    assert project.results[0]["outcome"] == "error"


def test_a_folder_that_cannot_be_written_fails_by_name_alone(project):
    (project.folder / "__quantguard__").symlink_to("missing/folder")
    result = project.run("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["___* test_gate *___", "The baseline folder *__quantguard__*cannot be written*"])
    assert "During handling" not in result.stdout.str() and "direct cause" not in result.stdout.str()
    assert project.results[0]["outcome"] == "error"


def test_several_assertions_in_one_test_have_baselines_of_their_own(project):
    project.pytester.makepyfile(
        test_food="""
        def test_gate(measured, accuracy_snapshot):
            assert measured == accuracy_snapshot
            assert measured == accuracy_snapshot(name="night")
            assert accuracy_snapshot == measured
        """
    )
    project.run("--snapshot-update").stdout.fnmatch_lines(["3 snapshots generated."])
    names = ["test_gate.2.json", "test_gate.json", "test_gate[[]night].json"]
    assert [Path(name).name for name in project.files if "samples-" not in name] == [
        name.replace("[[]", "[") for name in names
    ]
    project.run().stdout.fnmatch_lines(["3 snapshots passed."])


def test_use_extension_keeps_limits_and_results(project):
    project.pytester.makepyfile(
        test_food="""
        from pytest_quantguard.gate.extension import QuantguardExtension
        def test_gate(measured, accuracy_snapshot):
            again = accuracy_snapshot.use_extension(QuantguardExtension)
            assert type(again) is type(accuracy_snapshot)
            assert again.limits.max_drop == 0.5
            assert measured == again
        """
    )
    project.limit(max_drop=0.5)
    project.run("--snapshot-update").assert_outcomes(passed=1)
    assert project.results[0]["outcome"] == "created"


def test_other_values_are_a_type_error_at_the_users_line(project):
    project.pytester.makepyfile(
        test_food="""
        def test_gate(accuracy_snapshot):
            assert 0.98 == accuracy_snapshot
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert 0.98 == accuracy_snapshot",
            "E*TypeError: accuracy_snapshot compares with a Comparison, *not with float*",
        ]
    )


def test_a_plain_snapshot_may_stand_beside_it(project):
    project.pytester.makepyfile(
        test_food="""
        def test_gate(measured, accuracy_snapshot, snapshot):
            assert measured == accuracy_snapshot
            assert "text" == snapshot
        """
    )
    project.run("--snapshot-update").stdout.fnmatch_lines(["2 snapshots generated."])
    project.run().stdout.fnmatch_lines(["2 snapshots passed."])
    assert len(project.files) == 2 and (project.folder / "__snapshots__" / "test_food.ambr").exists()


TWO_TESTS = """
import pytest

@pytest.mark.parametrize("name", ["a/b", "ab", "a:b", "AB"])
def test_gate(name, measured, accuracy_snapshot):
    assert measured == accuracy_snapshot

def test_late(measured, accuracy_snapshot):
    if {broken}:
        raise RuntimeError("before the assertion")
    assert measured == accuracy_snapshot
"""


OPTIONS = ((), ("-x",), ("--collect-only",), ("-k", "late"), ("--deselect", "test_food.py::test_late"))


def test_no_run_deletes_a_baseline(project):
    project.pytester.makepyfile(test_food=TWO_TESTS.format(broken=False))
    project.run("--snapshot-update").assert_outcomes(passed=5)
    files = project.files
    assert len(files) == 6  # five baselines and the sample manifest
    project.pytester.makepyfile(test_food=TWO_TESTS.format(broken=True))
    for options in OPTIONS:
        project.run("--snapshot-update", *options)
        assert project.files == files, options
    project.pytester.makepyfile(test_food="def test_other(): pass")
    project.run("--snapshot-update").assert_outcomes(passed=1)
    assert project.files == files


def test_two_workers_write_every_baseline_and_delete_none(project):
    project.pytester.makepyfile(test_food=TWO_TESTS.format(broken=False))
    workers = ("-n", "2", "-W", "ignore::pytest.PytestWarning")  # syrupy 6 warns of plain snapshots with xdist
    result = project.run("--snapshot-update", *workers)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["5 snapshots generated."])
    files = project.files
    assert len(files) == 6
    project.pytester.makepyfile(test_food=TWO_TESTS.format(broken=True))
    project.run("--snapshot-update", *workers).assert_outcomes(failed=1, passed=4)
    assert project.files == files
