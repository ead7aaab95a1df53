"""Quantized neural networks answer in the portable engine as what coremltools restores from them."""

import copy

import numpy as np
import pytest
from model_makers import SIZE, small_network
from network_runner import make_builder, numbers
from PIL import Image
from test_quantize_bytes import PAIRS, scheme_of
from test_quantize_neural_network import mlmodel_of

from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.engine import PortableEngine
from pytest_quantguard.schemes.kinds import NETWORKS
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.weight_fields import weight_fields

ct = import_coremltools()


def array_network():
    """Layers that hold weights in other ways: a deconvolution, and layers that cannot be fused into another."""
    builder = make_builder({"x": (4, 6, 6)}, ["y"])
    with quiet():
        builder.add_convolution(
            "deconvolution", 4, 6, 3, 3, 1, 1, "same", 1, numbers(3, 3, 4, 6, seed=1), numbers(6), True,
            is_deconv=True, output_shape=(6, 6), input_name="x", output_name="a",
        )  # fmt: skip
        builder.add_activation("relu", "RELU", "a", "b")
        builder.add_batchnorm("norm", 6, *np.abs(numbers(4, 6, seed=2)) + 0.5, input_name="b", output_name="c")
        builder.add_activation("sigmoid", "SIGMOID", "c", "d")
        builder.add_scale("scale", numbers(6, seed=3), numbers(6, seed=4), True, "d", "e", [6], [6])
        builder.add_activation("tanh", "TANH", "e", "f")
        builder.add_bias("bias", numbers(6, seed=5), "f", "g", [6])
        builder.add_load_constant("constant", "h", numbers(6 * 36, seed=6), [6, 6, 6])
        builder.add_elementwise("add", ["g", "h"], "i", "ADD")
        builder.add_flatten("flatten", 0, "i", "j")
        builder.add_inner_product("dense", numbers(5, 216, seed=7) / 9, numbers(5), 216, 5, True, "j", "y")
    return mlmodel_of(builder.spec)


@pytest.fixture(scope="module", params=[small_network, array_network])
def network(request):
    return request.param()


def fields_of(spec):
    network = getattr(spec, next(kind for kind in NETWORKS if spec.HasField(kind)))
    return list(weight_fields(network, lambda layer, **_: True, lambda _: None))


def restored(spec):
    """The message with float32 weights: those of float16 by numpy, all others by coremltools."""
    from coremltools.models import _QUANTIZATION_MODE_DEQUANTIZE
    from coremltools.models.neural_network.quantization_utils import _quantize_spec_weights

    spec = copy.deepcopy(spec)
    for field in fields_of(spec):
        if field.weights.float16Value:
            values = np.frombuffer(field.weights.float16Value, "<f2").tolist()
            field.weights.Clear()
            field.weights.floatValue.extend(values)
    with quiet():
        return _quantize_spec_weights(spec, None, _QUANTIZATION_MODE_DEQUANTIZE)


def answers(spec):
    outputs = PortableEngine(spec, None, name="net.mlmodel").outputs(inputs_of(spec))
    return outputs.arrays if outputs.scores is None else {**outputs.arrays, "scores": outputs.scores}


def inputs_of(spec):
    feature = spec.description.input[0]
    if feature.type.HasField("imageType"):
        pixels = np.random.default_rng(9).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        return {feature.name: Image.fromarray(pixels)}
    return {feature.name: numbers(*feature.type.multiArrayType.shape, seed=9)}


@pytest.mark.parametrize(("bits", "mode"), PAIRS)
def test_weights_and_answers_are_those_of_the_restored_network(network, bits, mode):
    quantized = quantize_model(network, scheme_of(bits, mode), name="net.mlmodel").mlmodel.get_spec()
    floats = restored(quantized)
    for ours, theirs in zip(fields_of(quantized), fields_of(floats), strict=True):
        assert ours.weights.float16Value or ours.weights.rawValue
        decoded = decode_weights(ours.weights, ours.shape, axis=ours.axis)
        assert decoded.tobytes() == np.array(theirs.weights.floatValue, np.float32).tobytes()
    found, expected = answers(quantized), answers(floats)
    assert found and set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6)
    if bits >= 8:
        for name, value in answers(network.get_spec()).items():
            np.testing.assert_allclose(found[name], value, atol=0.05)
