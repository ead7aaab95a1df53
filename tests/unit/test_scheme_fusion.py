"""Fusing layers before quantization must not change what a network computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.repairs import _fuses_batchnorm_right, repaired

C = 3
"""Channels of every blob."""


@pytest.fixture(scope="module", autouse=True)
def coremltools():
    return import_coremltools()


def network(layers):
    """A network of layers on vectors of C channels; each is (kind, options)."""
    from coremltools.proto import NeuralNetwork_pb2

    rng = np.random.default_rng(len(layers))
    result = NeuralNetwork_pb2.NeuralNetwork()
    for index, (kind, options) in enumerate(layers):
        field = "convolution" if kind == "deconvolution" else kind
        layer = result.layers.add(name=f"{kind}{index}", input=[f"blob{index}"], output=[f"blob{index + 1}"])
        FILL[field](getattr(layer, field), rng, options)
        if kind == "deconvolution":
            layer.convolution.isDeconvolution = True
    return result


def fill(weights, values):
    weights.floatValue.extend(np.ravel(values).astype(np.float32))


def fill_convolution(params, rng, options):
    params.outputChannels = params.kernelChannels = C
    params.kernelSize.extend([1, 1])
    fill_inner_product(params, rng, options)


def fill_inner_product(params, rng, options):
    params.outputChannels = C
    params.hasBias = "bias" in options
    fill(params.weights, rng.normal(size=(C, C)))
    if params.hasBias:
        fill(params.bias, rng.normal(size=C))


def fill_batchnorm(params, rng, options):
    params.channels, params.epsilon = C, 0.1
    for name in ("gamma", "beta", "mean"):
        fill(getattr(params, name), rng.normal(size=C))
    fill(params.variance, rng.uniform(0.5, 2, size=C))


def fill_scale(params, rng, options):
    shape = [1] if "scalar" in options else [C, 1, 1] if "rank 3" in options else [C]
    params.shapeScale.extend(shape)
    fill(params.scale, rng.normal(size=shape))
    if "bias" in options:
        params.hasBias = True
        params.shapeBias.extend(shape)
        fill(params.bias, rng.normal(size=shape))


def fill_bias(params, rng, options):
    shape = [1] if "scalar" in options else [C]
    params.shape.extend(shape)
    fill(params.bias, rng.normal(size=shape))


FILL = {
    "convolution": fill_convolution,
    "innerProduct": fill_inner_product,
    "batchnorm": fill_batchnorm,
    "scale": fill_scale,
    "bias": fill_bias,
}


def run(layers, x):
    """What a network computes for a vector, by the definitions of NeuralNetwork.proto."""
    blobs = {"blob0": x}
    for layer in layers:
        kind = layer.WhichOneof("layer")
        params, x = getattr(layer, kind), blobs[layer.input[0]]
        if kind in ("convolution", "innerProduct"):
            weights = np.array(params.weights.floatValue, np.float64).reshape(C, C)
            if kind == "convolution" and params.isDeconvolution:
                weights = weights.T
            x = weights @ x + (np.array(params.bias.floatValue, np.float64) if params.hasBias else 0)
        elif kind == "batchnorm":
            gamma, beta, mean, variance = (
                np.array(getattr(params, name).floatValue, np.float64)
                for name in ("gamma", "beta", "mean", "variance")
            )
            x = gamma * (x - mean) / np.sqrt(variance + params.epsilon) + beta
        elif kind == "scale":
            x = x * np.array(params.scale.floatValue) + (np.array(params.bias.floatValue) if params.hasBias else 0)
        else:
            x = x + np.array(params.bias.floatValue, np.float64)
        blobs[layer.output[0]] = x
    return blobs


def optimized(layers, outputs=frozenset()):
    from coremltools.models.neural_network import optimization_utils

    result = network(layers)
    with quiet(), repaired(outputs):
        optimization_utils._optimize_nn(result.layers)
    return result.layers


def kinds(layers):
    return [layer.WhichOneof("layer") for layer in layers]


layer_lists = st.lists(
    st.tuples(
        st.sampled_from(["convolution", "deconvolution", "innerProduct", "batchnorm", "scale", "bias"]),
        st.sets(st.sampled_from(["bias", "scalar", "rank 3"])),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(layers=layer_lists, data=st.data())
def test_fusing_keeps_what_any_chain_of_layers_computes(layers, data):
    outputs = data.draw(st.sets(st.integers(1, len(layers))).map(lambda found: {f"blob{i}" for i in found}))
    outputs.add(f"blob{len(layers)}")
    x = np.linspace(-1, 2, C)
    expected = run(network(layers).layers, x)
    actual = run(optimized(layers, frozenset(outputs)), x)
    for name in outputs:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([("convolution", ()), ("batchnorm", ())], ["convolution"]),
        ([("convolution", ("bias",)), ("batchnorm", ()), ("scale", ("bias",))], ["convolution"]),
        ([("convolution", ()), ("scale", ("rank 3",))], ["convolution"]),
        ([("convolution", ("bias",)), ("bias", ())], ["convolution"]),
        ([("innerProduct", ("bias",)), ("scale", ("bias",))], ["innerProduct"]),
        ([("batchnorm", ()), ("scale", ())], ["batchnorm"]),
        ([("deconvolution", ()), ("bias", ())], ["convolution"]),
    ],
)
def test_what_coremltools_fuses_right_is_still_fused(layers, left):
    assert kinds(optimized(layers)) == left


@pytest.mark.parametrize(
    "layers",
    [
        [("deconvolution", ()), ("batchnorm", ())],
        [("deconvolution", ()), ("scale", ("bias",))],
        [("convolution", ("bias",)), ("scale", ())],
        [("convolution", ()), ("bias", ("scalar",))],
    ],
)
def test_what_coremltools_fuses_wrong_is_left_alone(layers):
    assert len(optimized(layers)) == 2


@pytest.mark.parametrize("flag", ["computeMeanVar", "instanceNormalization"])
def test_a_batchnorm_that_measures_its_input_is_not_fused(flag):
    from coremltools.models.neural_network import optimization_utils

    found = network([("convolution", ()), ("batchnorm", ())])
    setattr(found.layers[1].batchnorm, flag, True)
    with quiet(), repaired(frozenset()):
        optimization_utils._optimize_nn(found.layers)
    assert len(found.layers) == 2


def test_float16_layers_are_not_fused():
    from coremltools.models.neural_network import optimization_utils
    from coremltools.models.utils import _wp_to_fp16wp

    found = network([("convolution", ("bias",)), ("batchnorm", ())])
    _wp_to_fp16wp(found.layers[0].convolution.weights)
    before = found.SerializeToString()
    with quiet(), repaired(frozenset()):
        optimization_utils._optimize_nn(found.layers)
    assert found.SerializeToString() == before


def test_the_repair_of_batchnorm_steps_aside_exactly_where_coremltools_is_right():
    from coremltools.models.neural_network import optimization_utils

    layers = network([("convolution", ("bias",)), ("batchnorm", ())]).layers
    expected = run(layers, np.ones(C))["blob2"]
    try:
        with quiet():
            optimization_utils._conv_bn_fusion(0, 1, layers)
        right = np.allclose(run(layers, np.ones(C))["blob2"], expected, atol=1e-5)
    except (TypeError, ValueError):
        right = False
    with quiet():
        assert _fuses_batchnorm_right(optimization_utils._conv_bn_fusion) == right


def test_a_right_function_is_recognized_as_right():
    from pytest_quantguard.schemes.fusion import fuse_batchnorm

    def right(convolution, batchnorm, layers):
        fuse_batchnorm(layers[convolution].convolution, layers[batchnorm].batchnorm)

    assert _fuses_batchnorm_right(right)
    assert not _fuses_batchnorm_right(lambda convolution, batchnorm, layers: None)


def test_coremltools_is_as_before_after_a_repair():
    from coremltools.models.neural_network import optimization_utils, quantization_utils

    def functions():
        return (
            optimization_utils._conv_bn_fusion,
            optimization_utils._get_nn_mappings,
            quantization_utils._get_kmeans_lookup_table_and_weight,
        )

    before = functions()
    with pytest.raises(ZeroDivisionError), quiet(), repaired(frozenset()):
        assert functions() != before
        raise ZeroDivisionError
    assert functions() == before
