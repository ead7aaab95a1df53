"""Builds small neural networks with coremltools' builder and runs them with the portable engine."""

import numpy as np

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine

CLASSES = ("cat", "dog", "hen")


def make_builder(inputs, outputs=("y",), *, exact=False, mode=None):
    """A `NeuralNetworkBuilder`; inputs are shapes or arrays by name, outputs have no declared shape."""
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    features = [(name, ct.models.datatypes.Array(*np.shape(_array(value)))) for name, value in inputs.items()]
    with quiet():
        return NeuralNetworkBuilder(
            features, [(name, None) for name in outputs], mode=mode, disable_rank5_shape_mapping=exact
        )


def _array(value):
    return np.zeros(value) if isinstance(value, tuple) else value


def make_engine(builder):
    return PortableEngine(builder.spec, None, name="net.mlmodel")


def run(add_layers, inputs, outputs=("y",), *, exact=False):
    """Predict with a network whose layers `add_layers(builder)` adds; one output comes back as its array.

    In rank 5 mode (not `exact`) a leading (1, 1) of the answer is dropped.
    """
    builder = make_builder(inputs, outputs, exact=exact)
    with quiet():
        add_layers(builder)
    answer = make_engine(builder).predict(inputs)
    arrays = [answer[name] for name in outputs]
    if not exact:
        arrays = [array[0, 0] if array.shape[:2] == (1, 1) else array for array in arrays]
    return arrays[0] if len(arrays) == 1 else arrays


def numbers(*shape, seed=0):
    """Reproducible float32 numbers between -1 and 1."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def counting(*shape):
    """0, 1, 2, ... in a shape."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def close(actual, expected, tolerance=1e-5):
    """Assert equal shapes and nearly equal values."""
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
