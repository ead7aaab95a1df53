"""Where coremltools does right what it does wrong today, its own result is made."""

import numpy as np
import pytest
from model_makers import small_network

from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes import repairs
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme

ct = import_coremltools()


def quantize(scheme, mlmodel=None):
    return quantize_model(mlmodel or small_network(), Scheme.parse(scheme), name="net.mlmodel")


def test_coremltools_gives_a_table_of_k_means_that_protobuf_refuses():
    """If this fails, coremltools has learnt it; then this project gives what coremltools gives."""
    assert not repairs.stores_kmeans_table()


def test_coremltools_takes_small_scales_for_zero():
    """If this fails, coremltools has learnt it, and tensors of a tiny range are quantized."""
    assert repairs.smallest_scale() == 1e-6


def test_a_coremltools_that_stores_the_table_decides_the_type_k_means_computes_with(monkeypatch):
    from coremltools.models.neural_network import quantization_utils
    from threadpoolctl import threadpool_limits

    original = quantization_utils._get_kmeans_lookup_table_and_weight

    def right(bits, weights):
        table, indices = original(bits, weights)
        return table.ravel(), indices

    monkeypatch.setattr(quantization_utils, "_get_kmeans_lookup_table_and_weight", right)
    assert repairs.stores_kmeans_table()
    with quiet(), threadpool_limits(1):
        theirs = quantization_utils.quantize_weights(small_network(), 5, "kmeans_lut")
    assert serialize(quantize("kmeans_lut:5").mlmodel) == serialize(theirs)


@pytest.mark.parametrize("scheme", ["linear:8", "linear_symmetric:8", "linear_lut:6"])
def test_a_coremltools_that_keeps_tiny_values_lets_them_be_quantized(monkeypatch, scheme):
    from coremltools.models.neural_network import quantization_utils

    original = quantization_utils._quantize_channelwise_linear

    def right(weight, nbits, axis=0, symmetric=False):
        quantized, scale, bias = original(np.asarray(weight, np.float64) * 1e9, nbits, axis, symmetric)
        return quantized, scale / 1e9, bias / 1e9

    monkeypatch.setattr(quantization_utils, "_quantize_channelwise_linear", right)
    assert repairs.smallest_scale() == 0
    spec = small_network().get_spec()
    weights = spec.neuralNetworkClassifier.layers[0].convolution.weights
    weights.floatValue[:] = np.array(weights.floatValue) * 1e-7
    before = np.array(weights.floatValue).reshape(8, 3, 3, 3)
    quantized = quantize(scheme, ct.models.MLModel(spec, skip_model_load=True))
    assert quantized.compression.skipped == ()
    layer = quantized.mlmodel.get_spec().neuralNetworkClassifier.layers[0].convolution
    assert np.abs(decode_weights(layer.weights, (8, 3, 3, 3)) - before).max() < np.abs(before).max() / 20
