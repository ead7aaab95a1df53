import json

import numpy as np
import pytest

from pytest_quantguard.quiet import import_coremltools, quiet

TEST = """
import numpy as np
import pytest

@pytest.fixture
def quantguard_samples():
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(0, 1, (1, 512)).astype(np.float32)} for _ in range(8)]

@pytest.mark.quantized(bits=8, mode="linear_symmetric")
def test_gate(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot
"""


def save_program(path, factor):
    """A float16 program that multiplies by a matrix, by `factor`, and by its inverse."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    weights = np.random.default_rng(0).normal(0, 1, (64, 512)).astype(np.float32)
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 512))], opset_version=ct.target.iOS16)
        def program(x):
            large = mb.mul(x=mb.linear(x=x, weight=weights), y=np.float32(factor))
            return mb.mul(x=large, y=np.float32(1 / factor), name="y")

        ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16, skip_model_load=True
        ).save(str(path))


@pytest.fixture
def half_project(libraries, pytester):
    save_program(pytester.path / "model.mlpackage", 1.5)
    pytester.makeini("[pytest]\nquantguard-model = model.mlpackage\n")
    pytester.makepyfile(test_app=TEST)
    return pytester


def engine_of(project):
    return json.loads((project.path / "__quantguard__/test_app/test_gate.json").read_text())["comparison"][
        "engine"
    ]


def test_the_baseline_says_in_which_precision_it_was_measured(half_project):
    half_project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    assert engine_of(half_project) == "portable"
    half = "--quantguard-precision=float16"
    result = half_project.runpytest_inprocess(half)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*engine*portable*portable in float16*"])
    half_project.runpytest_inprocess(half, "--snapshot-update").assert_outcomes(passed=1)
    assert engine_of(half_project) == "portable in float16"


def test_a_network_that_overflows_in_float16_stops_the_gate(half_project):
    save_program(half_project.path / "large.mlpackage", 30000)
    arguments = ["--quantguard-model=large.mlpackage", "--snapshot-update"]
    result = half_project.runpytest_inprocess(*arguments, "--quantguard-precision=float16")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*model large.mlpackage*inf*"])
    half_project.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


def test_a_wrong_precision_stops_the_run(half_project):
    result = half_project.runpytest_inprocess("--quantguard-precision=half")
    result.stderr.fnmatch_lines(["*--quantguard-precision='half' does not exist; use one of float32, float16."])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
