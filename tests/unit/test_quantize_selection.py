"""Which layers of a neural network are quantized, and weights that are float16 or quantized already."""

import numpy as np
import pytest
from model_makers import small_network

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.models.neural_network_weights import decode_weights
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import BITS, Scheme
from pytest_quantguard.schemes.weight_quantizers import TinyRange, quantize_linear, quantize_linear_lut

ct = import_coremltools()
LEFT_OUT = "left out by the scheme"


@pytest.fixture(scope="module")
def network():
    return small_network()


def mlmodel_of(spec):
    with quiet():
        return ct.models.MLModel(spec, skip_model_load=True)


def quantize(mlmodel, *arguments, **options):
    return quantize_model(mlmodel, Scheme(*arguments, **options), name="small.mlmodel")


def left_out(compression):
    assert {reason for _, _, reason in compression.skipped} <= {LEFT_OUT}
    return [name for name, _, _ in compression.skipped]


CONV1, CONV2, DENSE = ([f"{name}.weights", f"{name}.bias"] for name in ("conv1", "conv2", "dense"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"skip_layers": ["conv1"]}, CONV1),
        ({"skip_layers": "conv?"}, CONV1 + CONV2),
        ({"skip_layers": ["type:innerProduct", "conv2"]}, CONV2 + DENSE),
        ({"only_layers": ["*2"]}, CONV1 + DENSE),
        ({"only_layers": ["type:convolution"], "skip_layers": ["conv1"]}, CONV1 + DENSE),
        ({"minimum_weight_count": 217}, CONV1),
        ({"minimum_weight_count": 216}, []),
        ({"minimum_conv_kernel_channels": 4}, CONV1),
        ({"minimum_conv_kernel_channels": 3}, []),
    ],
)
@pytest.mark.parametrize("bits", [16, 4])
def test_layers_are_left_out(network, bits, options, expected):
    assert left_out(quantize(network, bits, **options).compression) == expected


def test_layers_of_every_network_of_a_pipeline_are_left_out(network):
    spec = ct.proto.Model_pb2.Model(specificationVersion=1)
    spec.description.CopyFrom(network.get_spec().description)
    spec.pipeline.models.add().CopyFrom(network.get_spec())
    spec.pipeline.models.add().CopyFrom(small_network(1).get_spec())
    compression = quantize(mlmodel_of(spec), 8, only_layers=["dense"]).compression
    assert left_out(compression) == [f"{at}:{at}/{name}" for at in (0, 1) for name in CONV1 + CONV2]


def test_a_name_with_special_characters_is_a_name_first(network):
    spec = network.get_spec()
    spec.neuralNetworkClassifier.layers[0].name = "conv[1]"
    compression = quantize(mlmodel_of(spec), 8, skip_layers=["conv[1]"]).compression
    assert left_out(compression) == ["conv[1].weights", "conv[1].bias"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip_layers": ["conv3"]}, "skip_layers: 'conv3' matches no layer of .*did you mean conv2, conv1"),
        ({"only_layers": ["dense", "Dens*"]}, "only_layers: 'Dens.*' matches no layer of .*did you mean dense"),
        ({"skip_layers": ["type:conv"]}, "'type:conv' matches no layer of .*did you mean type:convolution"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_closest_names(network, options, message):
    with pytest.raises(SchemeError, match=message):
        quantize(network, 8, **options)


def test_leaving_out_everything_is_refused(network):
    with pytest.raises(SchemeError, match=r"changes nothing in small\.mlmodel.*6 left out by the scheme"):
        quantize(network, 8, skip_layers=["*"])


def test_a_selector_of_a_project_is_asked_for_layers_and_their_biases(network):
    from coremltools.models.neural_network.quantization_utils import QuantizedLayerSelector

    class NoBias(QuantizedLayerSelector):
        def do_quantize(self, layer, weight_param=None):
            return weight_param != "bias" and layer.name != "conv1"

    compression = quantize(network, 8, selector=NoBias()).compression
    assert left_out(compression) == [*CONV1, "conv2.bias", "dense.bias"]


def dense_of(mlmodel):
    layer = next(layer for layer in mlmodel.get_spec().neuralNetworkClassifier.layers if layer.name == "dense")
    return decode_weights(layer.innerProduct.weights, (6, 512))


def restored(mlmodel):
    """The float32 model that a quantized one stands for, by coremltools."""
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    with quiet():
        return quantize_weights(mlmodel, None, "dequantization")


@pytest.mark.parametrize(
    ("bits", "mode"), [(8, "linear"), (6, "kmeans_lut"), (3, "linear_lut"), (8, "linear_symmetric")]
)
def test_requantizing_is_quantizing_what_coremltools_restores(network, bits, mode):
    small = quantize(network, bits, mode).mlmodel
    for again in (16, 8, 2):
        compression = quantize(small, again, requantize=True).compression
        assert compression.compressed == compression.weights == 5638
        ours, theirs = quantize(small, again, requantize=True).mlmodel, quantize(restored(small), again).mlmodel
        assert np.array_equal(dense_of(ours), dense_of(theirs))
        if again < 16:  # coremltools leaves an empty message behind, which 16 bits do not fill again
            assert serialize(ours) == serialize(theirs)


@pytest.mark.parametrize("mode", ["linear", "kmeans_lut"])
def test_float16_weights_are_requantized_from_their_very_values(network, mode):
    half = quantize(network, 16).mlmodel
    spec = network.get_spec()
    for layer in spec.neuralNetworkClassifier.layers:
        for name in ("convolution", "innerProduct"):
            if layer.WhichOneof("layer") == name:
                for weights in (getattr(layer, name).weights, getattr(layer, name).bias):
                    weights.floatValue[:] = np.array(weights.floatValue).astype(np.float16).astype(np.float32)
    expected = quantize(mlmodel_of(spec), 6, mode).mlmodel
    assert serialize(quantize(half, 6, mode, requantize=True).mlmodel) == serialize(expected)


def test_layers_that_are_left_out_keep_what_they_hold_when_others_are_requantized(network):
    half = quantize(network, 16).mlmodel
    compression = quantize(half, 4, requantize=True, skip_layers=["dense"]).compression
    assert compression.skipped == (
        ("dense.weights", 3072, "already float16"),
        ("dense.bias", 6, "already float16"),
    )
    assert np.array_equal(
        dense_of(quantize(half, 4, requantize=True, skip_layers=["dense"]).mlmodel), dense_of(half)
    )


def test_requantizing_float32_weights_changes_nothing_else(network):
    ours = serialize(quantize(network, 5, "linear_lut", requantize=True).mlmodel)
    assert ours == serialize(quantize(network, 5, "linear_lut").mlmodel)


def test_int8_weights_of_a_dynamically_quantized_layer_are_restored():
    spec = ct.proto.Model_pb2.Model(specificationVersion=5)
    dense = spec.neuralNetwork.layers.add(name="dense", input=["x"], output=["y"]).innerProduct
    dense.inputChannels, dense.outputChannels, dense.int8DynamicQuantize = 4, 2, True
    dense.weights.int8RawValue = np.arange(-4, 4, dtype=np.int8).tobytes()
    dense.weights.quantization.numberOfBits = 8
    dense.weights.quantization.linearQuantization.scale.append(0.5)
    quantized = (
        quantize(mlmodel_of(spec), 8, requantize=True).mlmodel.get_spec().neuralNetwork.layers[0].innerProduct
    )
    assert not quantized.int8DynamicQuantize and not quantized.weights.int8RawValue
    values = decode_weights(quantized.weights, (2, 4))
    assert np.allclose(values, np.arange(-4, 4).reshape(2, 4) / 2, atol=0.01)


def tiny_network(scale=1e-7):
    spec = small_network().get_spec()
    weights = spec.neuralNetworkClassifier.layers[0].convolution.weights
    weights.floatValue[:] = np.array(weights.floatValue) * scale
    return mlmodel_of(spec)


@pytest.mark.parametrize(
    ("bits", "mode"), [(8, "linear"), (8, "linear_symmetric"), (4, "linear_lut"), (1, "linear")]
)
def test_weights_of_a_tiny_range_keep_their_values_and_it_is_said(bits, mode):
    quantized = quantize(tiny_network(), bits, mode)
    reason = "kept in float32, as its range is too small for coremltools' scales"
    assert quantized.compression.skipped == (("conv1.weights", 216, reason),)
    assert serialize(quantized.mlmodel)[0] > 216 * 4


def test_coremltools_loses_weights_of_a_tiny_range():
    """The reason for keeping them; if this fails, coremltools has learnt it."""
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    tiny = tiny_network()
    with quiet():
        theirs = quantize_weights(tiny, 8, "linear")
    before, after = (
        decode_weights(model.get_spec().neuralNetworkClassifier.layers[0].convolution.weights, (8, 3, 3, 3))
        for model in (tiny, theirs)
    )
    assert np.abs(after - before).max() > np.abs(before).max()


@pytest.mark.parametrize("bits", [bits for bits in BITS if bits <= 8])
def test_k_means_keeps_weights_of_a_tiny_range(bits):
    assert quantize(tiny_network(), bits, "kmeans_lut").compression.skipped == ()


def test_one_tiny_channel_beside_others_is_no_loss_but_a_large_one_is():
    weights = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    weights[0] *= 1e-9
    quantized = quantize_linear(weights, 8, 0)
    decoded = quantized.indices.reshape(4, 50) * quantized.scale[:, None] + quantized.bias[:, None]
    assert np.abs(decoded - weights).max() <= quantized.scale.max() / 2 * 1.01
    weights[1:] *= 1e-5
    weights[0] *= 1e2
    with pytest.raises(TinyRange):
        quantize_linear(weights * np.float32(1e-1), 8, 0)


def test_constant_weights_are_quantized():
    for value in (0, 0.25, -1e-9):
        constant = np.full((3, 4), value, np.float32)
        assert np.array_equal(quantize_linear(constant, 8, 0).bias, constant[:, 0])
        table = quantize_linear_lut(constant, 2)
        assert np.array_equal(table.table[table.indices], constant.ravel())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    spec = small_network().get_spec()
    spec.neuralNetworkClassifier.layers[0].convolution.bias.floatValue[2] = value
    for scheme in (Scheme(16, "linear"), Scheme(8, "linear"), Scheme(4, "kmeans_lut")):
        with pytest.raises(SchemeError, match=r"small\.mlmodel: conv1\.bias holds values that are not finite"):
            quantize_model(mlmodel_of(spec), scheme, name="small.mlmodel")


def test_weights_that_do_not_fit_their_layer_are_refused():
    spec = small_network().get_spec()
    del spec.neuralNetworkClassifier.layers[0].convolution.weights.floatValue[5:]
    with pytest.raises(SchemeError, match=r"conv1\.weights holds 5 values where the layer needs \(8, 3, 3, 3\)"):
        quantize(mlmodel_of(spec), 8)


def test_optimal_clusters_have_a_lower_error_and_the_same_size(network):
    errors = []
    for kmeans in ("coremltools", "optimal"):
        quantized = quantize(network, 4, "kmeans_lut", kmeans=kmeans)
        assert (
            quantized.compression.bits_per_weight == quantize(network, 4, "linear_lut").compression.bits_per_weight
        )
        errors.append(((dense_of(quantized.mlmodel) - dense_of(network)) ** 2).sum())
    assert errors[1] < errors[0]
