from gate_examples import comparison, sample_set

from pytest_quantguard.gate.baseline import dumps
from pytest_quantguard.gate.extension import file_name
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.manifest import manifest_path, write_manifest
from pytest_quantguard.gate.orphans import find_orphans, orphan_lines, snapshot_names
from pytest_quantguard.gate.record import make_record


def baseline(folder, test_file, name, samples=None):
    path = folder / "__quantguard__" / test_file / f"{file_name(name)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(make_record(comparison(samples=samples), Limits())), encoding="utf-8")
    return path


def test_baselines_of_collected_tests_are_no_orphans(tmp_path):
    test_file = tmp_path / "test_a.py"
    test_file.touch()
    long = "test_z[" + "y" * 300 + "]"
    for name in (
        "test_x[8-linear]",
        "test_x[8-linear].1",
        "test_x[8-linear][night]",
        "test_x[8-linear][At Night]",
    ):
        baseline(tmp_path, "test_a", name)
    for name in ("TestFood.test_y", "test_y[hot dog]", "test_y[hot dog].2", long, f"{long}.1"):
        baseline(tmp_path, "test_a", name)
    tests = ["test_x[8-linear]", "TestFood.test_y", "test_y[hot dog]", long]
    assert find_orphans([tmp_path], {test_file: tests}) == []


def test_a_removed_parameter_and_a_removed_test_leave_orphans(tmp_path):
    test_file = tmp_path / "test_a.py"
    test_file.touch()
    baseline(tmp_path, "test_a", "test_x[8-linear]")
    gone = [baseline(tmp_path, "test_a", name) for name in ("test_old", "test_x[4-linear]", "test_x[Hot Dog]")]
    found = find_orphans([tmp_path], {test_file: ["test_x[8-linear]"]})
    assert found == sorted(gone) and all(path.exists() for path in gone)


def test_a_removed_test_file_leaves_orphans(tmp_path):
    path = baseline(tmp_path, "test_gone", "test_x")
    assert find_orphans([tmp_path], {}) == [path]


def test_baselines_of_test_files_that_were_not_collected_are_left_alone(tmp_path):
    (tmp_path / "test_other.py").touch()
    baseline(tmp_path, "test_other", "test_x")
    assert find_orphans([tmp_path], {}) == []


def test_relative_folders_work_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    Path("test_a.py").touch()
    path = baseline(tmp_path, "test_a", "test_old")
    assert find_orphans([Path()], {Path("test_a.py"): ["test_x"]}) == [path]


def test_sample_manifests_that_no_baseline_names_are_orphans(tmp_path):
    (tmp_path / "test_a.py").touch()
    used, unused = sample_set(["a.png"]), sample_set(["b.png"])
    damaged = baseline(tmp_path, "test_a", "test_x", used)
    for samples in (used, unused):
        write_manifest(tmp_path / "__quantguard__", samples)
    collected = {tmp_path / "test_a.py": ["test_x"]}
    assert find_orphans([tmp_path], collected) == [manifest_path(tmp_path / "__quantguard__", unused.digest)]
    damaged.write_text("{")
    assert find_orphans([tmp_path], collected) == []


def test_orphaned_baselines_and_lists_of_samples_are_listed_apart(tmp_path):
    path = baseline(tmp_path, "samples-gone", "samples-1")
    manifest = manifest_path(tmp_path / "__quantguard__", sample_set(["b.png"]).digest)
    assert orphan_lines([path, manifest], tmp_path) == [
        "Baselines without a test; delete them if that is meant, nothing else does:",
        "  __quantguard__/samples-gone/samples-1.json",
        "Lists of samples that no baseline names; delete them if that is meant, nothing else does:",
        f"  __quantguard__/{manifest.name}",
    ]
    assert orphan_lines([manifest], tmp_path / "elsewhere")[1:] == [f"  {manifest}"]
    assert orphan_lines([], tmp_path) == []


def test_folders_without_baselines_have_no_orphans(tmp_path):
    assert find_orphans([tmp_path, tmp_path / "missing"], {}) == []


def test_snapshot_names_are_those_of_the_collected_functions(request):
    (name,) = snapshot_names([request.node])[request.node.path]
    assert name == "test_snapshot_names_are_those_of_the_collected_functions"
