import json

import expected
import numpy as np
import pytest
from families import SLOW, family, in_sample, in_shard
from precision import finer_than_float16
from results import EXPECTED, FAILED, NOT_APPLICABLE, PASSED, Result, as_line, general, markdown, read_journal

OPERATIONS = "converters/mil/mil/ops/tests/iOS14/test_linear.py"
LAYERS = "test/neural_network/test_numpy_nn_layers.py"


def operation(function, backend, number):
    return f"{OPERATIONS}::TestLinear::{function}[backend=BackendConfig({backend}, opset_version=6)-rank={number}]"


FLOAT16 = "backend='mlprogram', precision='fp16'"
NETWORK = "backend='neuralnetwork', precision='fp32'"
TESTS = [operation(name, backend, n) for name in ("a", "b") for backend in (FLOAT16, NETWORK) for n in range(9)]


@pytest.mark.parametrize(
    ("test", "name"),
    [
        (TESTS[0], "MIL operations, float16"),
        (TESTS[9], "MIL operations, neural network"),
        (f"{OPERATIONS}::TestLinear::test_shape", "MIL operations, other"),
        ("x/test_torch_ops.py::T::f[backend=('mlprogram', 'fp32')-rank=1]", "PyTorch operations, float32"),
        ("x/test_torch_ops.py::T::f[backend=('neuralnetwork', 'fp32')]", "PyTorch operations, neural network"),
        (f"{LAYERS}::SimpleTest::test_tiny", "layers"),
        ("test/neural_network/test_model.py::T::f", "neural network models"),
    ],
)
def test_each_test_has_a_family(test, name):
    assert family(test) == name


def test_the_sample_has_as_many_of_every_function_and_family():
    sample = in_sample(TESTS, 2)
    assert len(sample) == 8
    assert {(test.partition("[")[0], family(test)) for test in sample} == {
        (test.partition("[")[0], family(test)) for test in TESTS
    }


def test_a_test_stays_in_the_sample_when_later_ones_go():
    sample = in_sample(TESTS, 3)
    assert in_sample([test for test in TESTS if test in sample], 3) == sample


def test_the_sample_has_all_layers_but_the_slow_ones():
    tests = [f"{LAYERS}::NewLayersSimpleTest::test_{number}[x]" for number in range(5)]
    assert in_sample([*tests, *(f"{LAYERS}::{name}" for name in SLOW)], 1) == set(tests)


def test_shards_are_a_partition():
    parts = [{test for test in TESTS if in_shard(test, f"{part}/3")} for part in (1, 2, 3)]
    assert set.union(*parts) == set(TESTS)
    assert sum(map(len, parts)) == len(TESTS)


def test_in_an_expected_failure_only_the_star_is_special():
    entry = expected.Expected("file.py::T::f[rank=*]", "why")
    assert entry.matches("file.py::T::f[rank=1-mode=[2]]")
    assert not entry.matches("file.py::T::fr")
    assert not entry.matches("file+py::T::f[rank=1]")


def test_expected_failures_need_a_reason(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# comment\n\na::b[c]  # no such layer\n")
    assert expected.read(path) == [expected.Expected("a::b[c]", "no such layer")]
    path.write_text("a::b[c]\n")
    with pytest.raises(ValueError, match="line 1: give the reason"):
        expected.read(path)


def test_the_list_of_expected_failures_can_be_read():
    assert all(entry.pattern and entry.reason for entry in expected.read())


def test_a_journal_that_a_crash_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "journal"
    result = Result("a", FAILED, "why", 1.0)
    path.write_text(as_line(result) + json.dumps({"test": "b"})[:5])
    assert read_journal(path) == {"a": result}
    assert read_journal(tmp_path / "none") == {}


def test_the_table_counts_expected_failures_as_failed():
    outcomes = [(PASSED, "")] * 7 + [(FAILED, "x"), (EXPECTED, "y"), (NOT_APPLICABLE, "z"), (NOT_APPLICABLE, "z")]
    results = [Result(TESTS[n], outcome, reason, 0) for n, (outcome, reason) in enumerate(outcomes)]
    table = markdown(results).splitlines()
    assert "| all | 7 | 2 | 1 | 77.78 % | 2 |" in table
    assert "| z | 2 |" in table


def test_reasons_that_differ_in_names_and_numbers_only_are_one():
    one = "tmpab12.mlmodel: layer 'x' of 1.5e-05"
    other = "tmpzz9_.mlmodel: layer 'x' of -33"
    assert general(one) == general(other) == "the model: layer 'x' of N"


def test_a_tolerance_finer_than_float16_is_told_from_an_error():
    desired = np.linspace(0.1, 1, 9, dtype=np.float32)
    half = desired.astype(np.float16).astype(np.float32)
    assert finer_than_float16(half, desired, 1e-5, 1e-6)
    assert not finer_than_float16(half, desired, 1e-2, 1e-6), "float16 passes, so a failure is a failure"
    assert not finer_than_float16(desired + np.float32(1e-5), desired, 1e-5, 1e-6), "this answer is no float16"
    assert finer_than_float16(desired + np.float32(1e-3), desired, 1e-5, 1e-6, stored=True), "its weights are"
    assert not finer_than_float16(desired + np.float32(0.125), desired, 1e-5, 1e-6, stored=True), "this is wrong"
    assert not finer_than_float16(half + np.float16(0.125), desired, 1e-5, 1e-6), "this answer is wrong"
    assert finer_than_float16(desired, half, 1e-5, 1e-6), "the expected values are float16"
    assert not finer_than_float16(half[:3], desired, 1e-5, 1e-6), "another shape is wrong"
