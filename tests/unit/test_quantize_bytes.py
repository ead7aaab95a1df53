"""Neural networks are quantized to the bytes that coremltools' quantize_weights makes, where that works."""

import contextlib
import functools

import numpy as np
import pytest
from model_makers import small_network
from test_quantize_custom_lut import uniform

from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.repairs import repaired
from pytest_quantguard.schemes.scheme import BITS, MODES, Scheme

ct = import_coremltools()
PAIRS = [(bits, mode) for mode in MODES for bits in BITS if mode != "linear_symmetric" or bits == 8]
GATES = {"gru": ("updateGate", "resetGate", "outputGate")}
LSTM_GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")


@contextlib.contextmanager
def coremltools_repaired(outputs=frozenset()):
    """coremltools 9.0 with its k-means table as a row and of float64 weights, right fusions, and one thread."""
    from coremltools.models.neural_network import quantization_utils
    from threadpoolctl import threadpool_limits

    original = quantization_utils._get_kmeans_lookup_table_and_weight

    @functools.wraps(original)
    def flat(bits, weights):
        table, indices = original(bits, weights.astype(np.float64))
        return np.ravel(table), indices

    quantization_utils._get_kmeans_lookup_table_and_weight = flat
    try:
        with quiet(), repaired(outputs), threadpool_limits(1):
            yield
    finally:
        quantization_utils._get_kmeans_lookup_table_and_weight = original


def theirs(mlmodel, scheme, **options):
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    if scheme.lut_function:
        options["lut_function"] = scheme.lut_function
    with coremltools_repaired():
        return serialize(quantize_weights(mlmodel, scheme.bits, scheme.mode, **options))


def ours(mlmodel, scheme):
    return serialize(quantize_model(mlmodel, scheme, name="m").mlmodel)


def scheme_of(bits, mode, **options):
    return Scheme(bits, mode, in_double_precision if mode == "custom_lut" else None, **options)


def in_double_precision(bits, weights):
    """Schemes give a function float64 weights; coremltools gives it the type that protobuf chose."""
    return uniform(bits, weights.astype(np.float64))


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def every_layer():
    """One layer of every kind that holds weights, networks in a loop and in a branch included."""
    rng = np.random.default_rng(0)
    spec = ct.proto.Model_pb2.Model(specificationVersion=4)
    layers = spec.neuralNetwork.layers

    def fill(weights, *shape):
        weights.floatValue.extend((rng.normal(size=int(np.prod(shape))) * 0.3).tolist())

    def add(kind, to=layers, **fields):
        layer = to.add(name=f"{kind}{len(to)}", input=[f"{kind}{len(to)}.in"], output=[f"{kind}{len(to)}.out"])
        parameters = getattr(layer, kind)
        parameters.SetInParent()
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(parameters, name).extend(value)
            else:
                setattr(parameters, name, value)
        return parameters

    for transposed in (False, True):
        conv = add("convolution", outputChannels=6, kernelChannels=2, nGroups=2, kernelSize=[3, 2], hasBias=True)
        conv.isDeconvolution = transposed
        fill(conv.weights, 6 * 2 * 6 // (2 if transposed else 1))
        fill(conv.bias, 6)
    dense = add("innerProduct", inputChannels=7, outputChannels=5, hasBias=True)
    matmul = add("batchedMatmul", weightMatrixFirstDimension=7, weightMatrixSecondDimension=5, hasBias=True)
    embedding = add("embedding", inputDim=7, outputChannels=5, hasBias=True)
    embedding_nd = add("embeddingND", vocabSize=7, embeddingSize=5, hasBias=True)
    for layer in (dense, matmul, embedding, embedding_nd):
        fill(layer.weights, 35)
        fill(layer.bias, 5)
    norm = add("batchnorm", channels=9)
    for field in (norm.gamma, norm.beta, norm.mean, norm.variance):
        fill(field, 9)
    scale = add("scale", shapeScale=[4], shapeBias=[4, 1, 1], hasBias=True)
    fill(scale.scale, 4)
    fill(scale.bias, 4)
    fill(add("bias", shape=[3]).bias, 3)
    fill(add("loadConstant", shape=[2, 3, 4]).data, 24)
    fill(add("loadConstantND", shape=[2, 3, 4, 2]).data, 48)
    simple = add("simpleRecurrent", inputVectorSize=3, outputVectorSize=4, hasBiasVector=True)
    fill(simple.weightMatrix, 12)
    fill(simple.recursionMatrix, 16)
    fill(simple.biasVector, 4)
    gru = add("gru", inputVectorSize=3, outputVectorSize=4, hasBiasVectors=True)
    one = add("uniDirectionalLSTM", inputVectorSize=3, outputVectorSize=4)
    two = add("biDirectionalLSTM", inputVectorSize=3, outputVectorSize=4)
    one.params.hasPeepholeVectors = True
    for part, gates in ((gru, GATES["gru"]), (one.weightParams, LSTM_GATES),
                        (two.weightParams.add(), LSTM_GATES), (two.weightParams.add(), LSTM_GATES)):  # fmt: skip
        for gate in gates:
            fill(getattr(part, f"{gate}WeightMatrix"), 12)
            fill(getattr(part, f"{gate}RecursionMatrix"), 16)
            fill(getattr(part, f"{gate}BiasVector"), 4)
    for gate in ("inputGate", "forgetGate", "outputGate"):
        fill(getattr(one.weightParams, f"{gate}PeepholeVector"), 4)
    branch, loop = add("branch"), add("loop")
    for nested in (branch.ifBranch, branch.elseBranch, loop.conditionNetwork, loop.bodyNetwork):
        inner = add("innerProduct", nested.layers, inputChannels=5, outputChannels=4)
        fill(inner.weights, 20)
        bias = add("bias", nested.layers, shape=[4])
        nested.layers[1].input[:] = nested.layers[0].output
        fill(bias.bias, 4)
    add("activation").ReLU.SetInParent()
    add("softmax")
    with quiet():
        return ct.models.MLModel(spec, skip_model_load=True)


@pytest.mark.parametrize(("bits", "mode"), PAIRS)
def test_a_classifier_has_the_bytes_of_coremltools(network, bits, mode):
    scheme = scheme_of(bits, mode)
    assert ours(network, scheme) == theirs(network, scheme)


@pytest.mark.parametrize(("bits", "mode"), PAIRS)
def test_every_kind_of_layer_has_the_bytes_of_coremltools(every_layer, bits, mode):
    scheme = scheme_of(bits, mode)
    assert ours(every_layer, scheme) == theirs(every_layer, scheme)


def test_every_kind_of_layer_that_coremltools_quantizes_was_tried(every_layer):
    from coremltools.models.neural_network.quantization_utils import QuantizedLayerSelector

    from pytest_quantguard.schemes.weight_fields import QUANTIZABLE

    tried = {layer.WhichOneof("layer") for layer in every_layer.get_spec().neuralNetwork.layers}
    # There is no layer of the type depthwiseConv.
    assert (
        QuantizedLayerSelector().quantizable_layer_types - {"depthwiseConv"} == QUANTIZABLE == tried & QUANTIZABLE
    )
    compression = quantize_model(every_layer, Scheme(8, "linear"), name="m").compression
    assert compression.skipped == tuple(
        (f"{part}.bias1.bias.bias", 4, "fused into the layer before it")
        for part in ("branch15.ifBranch", "branch15.elseBranch", "loop16.conditionNetwork", "loop16.bodyNetwork")
    )


@pytest.mark.parametrize("options", [{}, {"skip_layer_types": ["bias", "batchnorm"]}])
def test_a_selector_of_coremltools_gives_the_bytes_of_coremltools(every_layer, options):
    from coremltools.models.neural_network.quantization_utils import AdvancedQuantizedLayerSelector

    selector = AdvancedQuantizedLayerSelector(
        minimum_conv_weight_count=40, minimum_conv_kernel_channels=2, **options
    )
    scheme = Scheme(4, "linear_lut", selector=selector)
    assert ours(every_layer, scheme) == theirs(every_layer, Scheme(4, "linear_lut"), selector=selector)


def test_a_selector_of_matrix_layers_gives_the_bytes_of_coremltools(every_layer):
    from coremltools.models.neural_network.quantization_utils import MatrixMultiplyLayerSelector

    selector = MatrixMultiplyLayerSelector(minimum_weight_count=30)
    scheme = Scheme(6, "linear", selector=selector)
    assert ours(every_layer, scheme) == theirs(every_layer, Scheme(6, "linear"), selector=selector)


@pytest.mark.parametrize("cores", [1, 7])
def test_bytes_do_not_depend_on_the_number_of_cores(monkeypatch, every_layer, cores):
    from pytest_quantguard.schemes import neural_network

    expected = ours(every_layer, Scheme(5, "kmeans_lut"))
    monkeypatch.setattr(neural_network, "available_cores", lambda: cores)
    assert ours(every_layer, Scheme(5, "kmeans_lut")) == expected


@pytest.mark.skipif(
    ct.__version__ < "9", reason="coremltools 8 does not fail, and fuses in the precision of protobuf"
)
@pytest.mark.parametrize(
    ("bits", "mode"), [(8, "linear"), (8, "linear_symmetric"), (5, "linear"), (3, "linear_lut")]
)
def test_where_coremltools_fails_to_fuse_its_numbers_are_those_of_protobuf_5(monkeypatch, bits, mode):
    """What coremltools 8.2 with protobuf 5.29 gives: float64 in every step."""
    from coremltools.models.neural_network import quantization_utils
    from coremltools.models.neural_network.builder import NeuralNetworkBuilder

    rng = np.random.default_rng(0)
    with quiet():
        features = ct.models.datatypes.Array(2, 4, 4)
        builder = NeuralNetworkBuilder([("x", features)], [("y", None)], disable_rank5_shape_mapping=True)
        weights, sizes = rng.normal(size=(3, 3, 2, 8)), (2, 8, 3, 3, 1, 1, "same", 1)
        builder.add_convolution("conv", *sizes, weights, None, False, input_name="x", output_name="z")
        builder.add_batchnorm("norm", 8, *rng.random((4, 8)) + 0.5, input_name="z", output_name="y")
        mlmodel = ct.models.MLModel(builder.spec, skip_model_load=True)
    original = quantization_utils._quantize_wp
    quantized = ours(mlmodel, Scheme(bits, mode))
    monkeypatch.setattr(
        quantization_utils, "_quantize_wp", lambda weights, *rest: original(weights.astype(np.float64), *rest)
    )
    assert quantized == theirs(mlmodel, Scheme(bits, mode))


def test_a_dead_channel_beside_live_ones_is_stored_as_coremltools_stores_it():
    spec = small_network().get_spec()
    weights = spec.neuralNetworkClassifier.layers[0].convolution.weights.floatValue
    weights[:27] = [1e-10 * value for value in weights[:27]]
    with quiet():
        mlmodel = ct.models.MLModel(spec, skip_model_load=True)
    assert ours(mlmodel, Scheme(8, "linear")) == theirs(mlmodel, Scheme(8, "linear"))
