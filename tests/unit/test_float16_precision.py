import numpy as np
import pytest

from pytest_quantguard import load_model
from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.mil_types import TensorType
from pytest_quantguard.runtime.portable.ml_program.scope import Scope


def program_of(body, shape, dtype="float16"):
    """An ML program with input `x`, typed float16 (or float32) inside, float32 outside."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    precision = ct.precision.FLOAT16 if dtype == "float16" else ct.precision.FLOAT32
    with quiet():
        program = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS16)(body)
        return ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=precision,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )


def squared_and_scaled_back(x):
    from coremltools.converters.mil.mil import Builder as mb

    return mb.mul(x=mb.mul(x=x, y=x), y=np.float32(0.001), name="y")


def predict(mlmodel, x, **options):
    return load_model(mlmodel, engine="portable", **options).predict({"x": np.asarray(x, np.float32)})["y"]


def test_a_network_whose_activation_passes_65504_overflows_in_float16_only():
    network = program_of(squared_and_scaled_back, (2,))
    np.testing.assert_allclose(predict(network, [300, 100]), [90, 10], rtol=1e-3)
    assert predict(network, [300, 100], precision="float16")[0] == np.inf
    np.testing.assert_allclose(predict(network, [300, 100], precision="float16")[1], 10, rtol=1e-3)


def test_a_tiny_activation_underflows_in_float16_only():
    network = program_of(squared_and_scaled_back, (1,))
    assert predict(network, [1e-4])[0] > 0
    assert predict(network, [1e-4], precision="float16")[0] == 0


def test_every_operation_is_rounded_as_numpy_rounds_it():
    x = np.random.default_rng(0).normal(0, 30, 200).astype(np.float32)
    half = x.astype(np.float16).astype(np.float32)
    squares = (half * half).astype(np.float16).astype(np.float32)
    expected = (squares * np.float16(0.001).astype(np.float32)).astype(np.float16).astype(np.float32)
    given = predict(program_of(squared_and_scaled_back, (200,)), x, precision="float16")
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, expected)


def test_float32_tensors_are_not_rounded():
    x = np.random.default_rng(0).normal(0, 300, 20).astype(np.float32)
    network = program_of(squared_and_scaled_back, (20,), "float32")
    np.testing.assert_array_equal(predict(network, x, precision="float16"), predict(network, x))


def test_results_that_are_known_beforehand_are_rounded_too():
    half, single = TensorType("fp16", (2,)), TensorType("fp32", (2,))
    known = np.array([70000, 1 / 3], np.float32)
    rounding, keeping = Scope(GraphBuilder(), round_float16=True), Scope(GraphBuilder())
    assert rounding.round_array(known, half).tolist() == [np.inf, np.float16(1 / 3)]
    assert rounding.round_array(known, single) is known
    assert keeping.round_array(known, half) is known


def test_another_precision_is_refused():
    network = program_of(squared_and_scaled_back, (1,))
    with pytest.raises(
        UnsupportedModelError, match="precision='int8' does not exist; use one of float32, float16"
    ):
        load_model(network, precision="int8")


def test_repeated_dimensions_of_einsum_keep_their_size_when_rounded():
    """onnxruntime plans the result's memory by the first size of a letter, so one of 1 must be repeated before."""
    from coremltools.converters.mil.mil import Builder as mb

    other = np.random.default_rng(0).normal(0, 1, (4, 5, 3, 2)).astype(np.float16).astype(np.float32)
    network = program_of(
        lambda x: mb.einsum(values=(x, other), equation="nchw,nwhu->nchu", name="y"), (1, 2, 3, 5)
    )
    x = np.random.default_rng(1).normal(0, 1, (1, 2, 3, 5)).astype(np.float16).astype(np.float32)
    for precision in ("float32", "float16"):
        expected = np.einsum("nchw,nwhu->nchu", np.repeat(x, 4, 0), other)
        np.testing.assert_allclose(predict(network, x, precision=precision), expected, rtol=1e-2, atol=1e-2)
