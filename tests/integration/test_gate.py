"""The gate from end to end: create, pass, fail, accept."""

import json
import shutil

import pytest


def baselines(project):
    return sorted(
        path.relative_to(project.path).as_posix() for path in project.path.glob("__quantguard__/**/*.json")
    )


def baseline(project, name="test_gate"):
    return json.loads((project.path / "__quantguard__" / "test_app" / f"{name}.json").read_text())


def test_missing_then_created_then_passed(gate, plugin_args):
    project = gate(bits=8, mode="linear")
    result = project.runpytest_inprocess(*plugin_args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*--snapshot-update*"])
    assert baselines(project) == []

    result = project.runpytest_inprocess("--snapshot-update", *plugin_args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*1 snapshot generated*"])
    manifest, snapshot = baselines(project)
    assert snapshot == "__quantguard__/test_app/test_gate.json"
    assert manifest.startswith("__quantguard__/samples-")

    result = project.runpytest_inprocess(*plugin_args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*= quantguard =*", "model.mlmodel *8-bit linear*passed"])


def test_fewer_bits_fail_and_an_update_accepts(gate, plugin_args):
    gate(bits=8, mode="linear").runpytest_inprocess("--snapshot-update")
    project = gate(bits=1, mode="linear")
    before = baseline(project)
    result = project.runpytest_inprocess(*plugin_args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "1-bit linear: collapsed, the model answers 'apple' for 72 of 72 samples; * metrics fail.",
            "*metric*baseline*threshold*now*change*",
            "*top-1 agreement*",
            "*.png*",
            "*--snapshot-update*",
        ]
    )
    assert "FAILED test_app.py::test_gate - Failed: 1-bit linear" in result.stdout.str()
    assert baseline(project) == before

    result = project.runpytest_inprocess("--snapshot-update", *plugin_args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*now worse*", "*top-1 agreement*->*worse*"])
    project.runpytest_inprocess(*plugin_args).assert_outcomes(passed=1)


def test_a_plain_assertion_explains_itself(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=1, mode="linear")
        def test_app(comparison):
            assert comparison.top1_agreement >= 0.98
        """
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * assert * (* of 72, 95 % interval * to *) >= 0.98"])


def test_every_test_gets_its_own_file(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.parametrize("crop", ["a/b", "ab", "a:b", "A:B"])
        @pytest.mark.quantized(bits=[16, 8], mode="linear")
        def test_gate(comparison, accuracy_snapshot, crop):
            assert comparison == accuracy_snapshot
        """
    )
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=8)
    files = [path for path in baselines(project) if "samples-" not in path]
    assert len({path.lower() for path in files}) == 8
    project.runpytest_inprocess().assert_outcomes(passed=8)


def test_a_changed_sample_set_is_a_failure_of_its_own(gate):
    project = gate()
    project.runpytest_inprocess("--snapshot-update")
    apples = sorted((project.path / "photos" / "apple").iterdir())
    apples[0].rename(apples[0].with_name("renamed.png"))
    shutil.copy(apples[1], apples[2])
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    assert "apple/renamed.png" in output
    assert f"apple/{apples[0].name}" in output
    assert f"apple/{apples[2].name}" in output
    assert all(word in output for word in ("added", "removed", "altered"))


def test_another_crop_is_another_sample_set(gate):
    project = gate()
    project.runpytest_inprocess("--snapshot-update")
    result = project.runpytest_inprocess("--quantguard-crop-and-scale=scale_fill")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*center_crop*scale_fill*"])


def test_another_float_model_is_gated_by_the_same_thresholds_and_named(gate):
    from balanced_network import balanced_network

    project = gate()
    project.runpytest_inprocess("--snapshot-update")
    mlmodel = balanced_network()
    mlmodel.short_description = "the same network, exported again"
    mlmodel.save(str(project.path / "model.mlmodel"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: *float model*"])

    balanced_network(seed=5).save(str(project.path / "model.mlmodel"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*float top-1 accuracy*"])


def test_a_pinned_floor_holds_even_while_updating(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=1, mode="linear", thresholds={"top1_agreement": 0.97})
        def test_gate(comparison, accuracy_snapshot):
            assert comparison == accuracy_snapshot
        """
    )
    result = project.runpytest_inprocess("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*top-1 agreement*97*"])
    assert baselines(project) == []


def test_an_unknown_metric_in_thresholds_is_named(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=8, thresholds={"top1_agreemnt": 0.97})
        def test_gate(comparison, accuracy_snapshot):
            assert comparison == accuracy_snapshot
        """
    )
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown metric 'top1_agreemnt'*did you mean 'top1_agreement'*"])


def test_a_threshold_edited_by_a_person_survives_an_update(gate):
    project = gate()
    project.runpytest_inprocess("--snapshot-update")
    path = project.path / "__quantguard__" / "test_app" / "test_gate.json"
    record = json.loads(path.read_text())
    record["thresholds"]["top1_agreement"] = 0.5
    path.write_text(json.dumps(record))
    gate(bits=6)
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    assert baseline(project)["thresholds"]["top1_agreement"] == 0.5
    assert baseline(project)["comparison"]["scheme"] == "linear:6"


def test_an_update_moves_a_value_inside_the_tolerance(gate):
    project = gate()
    project.runpytest_inprocess("--snapshot-update")
    path = project.path / "__quantguard__" / "test_app" / "test_gate.json"
    record = json.loads(path.read_text())
    record["metrics"]["size_bytes"] += 1
    path.write_text(json.dumps(record))
    project.runpytest_inprocess().assert_outcomes(passed=1)
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    assert baseline(project)["metrics"]["size_bytes"] == record["metrics"]["size_bytes"] - 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "metrics": 3}']
)
@pytest.mark.parametrize("update", [[], ["--snapshot-update"]], ids=["compare", "update"])
def test_a_corrupt_baseline_is_named_and_kept(gate, content, update):
    project = gate()
    path = project.path / "__quantguard__" / "test_app" / "test_gate.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    result = project.runpytest_inprocess(*update)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_gate.json*"])
    assert "During handling" not in result.stdout.str()
    assert path.read_text() == content


def test_a_snapshot_folder_that_cannot_be_made_is_named(gate):
    project = gate()
    (project.path / "__quantguard__").write_text("a file stands in the way")
    result = project.runpytest_inprocess("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["The baseline '*__quantguard__*' cannot be read: Not a directory*"])


def test_workers_give_the_same_bytes_and_the_same_summary(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=[16, 8, 6, 4], mode=["linear", "kmeans_lut"])
        def test_gate(comparison, accuracy_snapshot):
            assert comparison == accuracy_snapshot
        """
    )
    found = []
    for arguments in (["-p", "no:randomly"], ["-n", "2"]):
        output = project.runpytest_inprocess("--snapshot-update", *arguments).stdout.str()
        files = {path: (project.path / path).read_bytes() for path in baselines(project)}
        found.append((files, [line for line in output.splitlines() if line.startswith("model.mlmodel")]))
        shutil.rmtree(project.path / "__quantguard__")
    assert len(found[0][1]) == 8
    assert found[0] == found[1]
