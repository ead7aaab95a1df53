import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_runner import make_builder, numbers

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.neural_network_weights import decode_weights, holds_values, unpack_integers
from pytest_quantguard.quiet import import_coremltools, quiet

import_coremltools()
from coremltools.models import model as coremltools_model  # noqa: E402
from coremltools.models.neural_network import quantization_utils  # noqa: E402
from coremltools.proto import NeuralNetwork_pb2  # noqa: E402

SHAPE = (6, 4, 3, 3)
MODES = {
    "linear": coremltools_model._QUANTIZATION_MODE_LINEAR_QUANTIZATION,
    "linear_symmetric": coremltools_model._QUANTIZATION_MODE_LINEAR_SYMMETRIC,
    "linear_lut": coremltools_model._QUANTIZATION_MODE_LOOKUP_TABLE_LINEAR,
    "custom_lut": coremltools_model._QUANTIZATION_MODE_CUSTOM_LOOKUP_TABLE,
}


def quantized(bits, mode, shape=SHAPE, axis=0):
    weights = NeuralNetwork_pb2.WeightParams()
    weights.floatValue.extend(numbers(*shape).ravel())
    # coremltools' own k-means returns the table as a column, which current protobuf refuses; any table does here.
    options = {"lut_function": _table} if mode == "custom_lut" else {}
    with quiet():
        quantization_utils._quantize_wp_field(weights, bits, MODES[mode], shape, axis, **options)
    return weights


def _table(bits, values):
    table = np.sort(np.random.default_rng(bits).uniform(-1, 1, 2**bits).astype(np.float32))
    return table, np.abs(values.reshape(-1, 1) - table).argmin(1).astype(np.uint8)


def dequantized(weights, shape=SHAPE, axis=0):
    """coremltools' own answer."""
    copy = NeuralNetwork_pb2.WeightParams.FromString(weights.SerializeToString())
    quantization_utils._dequantize_wp(copy, shape, axis)
    return np.array(copy.floatValue, np.float32).reshape(shape)


@pytest.mark.parametrize("mode", ["linear", "linear_lut", "custom_lut"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_decoding_equals_coremltools_bit_for_bit(bits, mode):
    weights = quantized(bits, mode)
    assert decode_weights(weights, SHAPE).tobytes() == dequantized(weights).tobytes()


def test_symmetric_decoding_equals_coremltools_bit_for_bit():
    weights = quantized(8, "linear_symmetric")
    assert decode_weights(weights, SHAPE).tobytes() == dequantized(weights).tobytes()


@pytest.mark.parametrize("bits", [3, 8])
def test_the_scales_of_a_deconvolution_belong_to_the_second_axis(bits):
    weights = quantized(bits, "linear", axis=1)
    assert len(weights.quantization.linearQuantization.scale) == SHAPE[1]
    assert decode_weights(weights, SHAPE, axis=1).tobytes() == dequantized(weights, axis=1).tobytes()


def test_a_vector_has_one_scale():
    weights = quantized(5, "linear", shape=(7,))
    assert decode_weights(weights, (7,)).tobytes() == dequantized(weights, (7,)).tobytes()


def test_a_tensor_may_have_one_scale_and_bias():
    weights = NeuralNetwork_pb2.WeightParams(rawValue=bytes([0, 1, 2, 3]))
    weights.quantization.numberOfBits = 8
    weights.quantization.linearQuantization.scale.append(0.5)
    weights.quantization.linearQuantization.bias.append(-1.0)
    assert decode_weights(weights, (2, 2)).tolist() == [[-1, -0.5], [0, 0.5]]


def test_half_precision():
    weights = NeuralNetwork_pb2.WeightParams()
    weights.floatValue.extend(numbers(*SHAPE).ravel())
    with quiet():
        quantization_utils._quantize_wp_field(weights, 16, MODES["linear"], SHAPE)
    assert not len(weights.floatValue)
    decoded = decode_weights(weights, SHAPE)
    assert decoded.dtype == np.float32
    assert np.array_equal(decoded, numbers(*SHAPE).astype(np.float16).astype(np.float32))


def test_raw_int8_has_a_scale_and_no_bias():
    weights = NeuralNetwork_pb2.WeightParams(int8RawValue=np.array([-128, 0, 127], np.int8).tobytes())
    weights.quantization.numberOfBits = 8
    weights.quantization.linearQuantization.scale.append(0.25)
    assert decode_weights(weights, (3,)).tolist() == [-32, 0, 31.75]


def test_a_whole_network_decodes_as_coremltools_dequantizes_it():
    builder = make_builder({"x": (6,)}, exact=True)
    builder.add_inner_product("fc", numbers(4, 6), numbers(4), 6, 4, True, "x", "y")
    network = builder.spec.neuralNetwork
    with quiet():
        quantization_utils._quantize_nn_spec(network, 3, MODES["linear"])
        decoded = decode_weights(network.layers[0].innerProduct.weights, (4, 6))
        quantization_utils._dequantize_nn_spec(network)
    assert decoded.ravel().tolist() == list(network.layers[0].innerProduct.weights.floatValue)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_unpacking_undoes_the_packing_of_coremltools(bits, values):
    values = np.array([value % 2**bits for value in values], np.uint8)
    packed = quantization_utils._convert_array_to_nbit_quantized_bytes(values.copy(), bits).tobytes()
    assert unpack_integers(packed[: (len(values) * bits + 7) // 8], len(values), bits).tolist() == values.tolist()


def test_an_empty_message_holds_no_values():
    assert not holds_values(NeuralNetwork_pb2.WeightParams())
    assert holds_values(quantized(4, "linear"))
    with pytest.raises(ModelFileError, match=r"conv: there are no values"):
        decode_weights(NeuralNetwork_pb2.WeightParams(), (3,), name="conv")


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"floatValue": [1.0, 2.0]}, "2 values where the layer needs 3"),
        ({"float16Value": b"\0\0\0\0"}, "2 values where the layer needs 3"),
        ({"float16Value": b"\0\0\0"}, "no whole number of values"),
        ({"int8RawValue": b"\0\0"}, "2 values where the layer needs 3"),
        ({"rawValue": b"\0\0", "quantization": {"numberOfBits": 8}}, "2 bytes do not hold 3 values of 8 bits"),
        ({"rawValue": b"\0\0\0", "quantization": {"numberOfBits": 9}}, "9 bits per value do not exist"),
        ({"rawValue": b"\0\0\0", "quantization": {"numberOfBits": 8}}, "the lookup table has 0 values"),
        (
            {
                "rawValue": b"\0\0\0",
                "quantization": {"numberOfBits": 8, "linearQuantization": {"scale": [1.0, 2.0], "bias": [0.0]}},
            },
            "2 scales or biases do not fit",
        ),
    ],
)
def test_weights_that_contradict_themselves_are_refused(weights, message):
    with pytest.raises(ModelFileError, match=message):
        decode_weights(NeuralNetwork_pb2.WeightParams(**weights), (3,), name="conv")
