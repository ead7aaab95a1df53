"""The proof that quantization happened: counts of weights and bits."""

import copy

import numpy as np
import pytest
from model_makers import small_network, small_program

from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.files import read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.compression import Compression, list_tensors, measure_compression
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme

ct = import_coremltools()


def mlmodel_of(layers):
    """A network of hand-made layers."""
    spec = ct.proto.Model_pb2.Model(specificationVersion=4)
    spec.neuralNetwork.layers.extend(layers)
    with quiet():
        return ct.models.MLModel(spec, skip_model_load=True)


def layer(kind, name, **weights):
    """A layer whose `WeightParams` fields hold as many values as given."""
    message = ct.proto.NeuralNetwork_pb2.NeuralNetworkLayer(name=name)
    getattr(message, kind).SetInParent()
    for field, count in weights.items():
        getattr(getattr(message, kind), field).floatValue.extend(np.linspace(-1, 1, count))
    return message


def inner_product(name, inputs=20, outputs=10):
    message = layer("innerProduct", name, weights=inputs * outputs, bias=outputs)
    message.innerProduct.inputChannels, message.innerProduct.outputChannels = inputs, outputs
    message.innerProduct.hasBias = True
    return message


def test_the_share_is_compressed_of_all():
    assert Compression(weights=200, compressed=50, bits_per_weight=8).share == 0.25
    assert Compression(weights=0, compressed=0, bits_per_weight=0).share == 0


def test_names_and_counts_of_a_network():
    tensors = {tensor.name: tensor.weights for tensor in list_tensors(small_network().get_spec())}
    assert tensors == {
        "conv1.weights": 216,
        "conv1.bias": 8,
        "conv2.weights": 2304,
        "conv2.bias": 32,
        "dense.weights": 3072,
        "dense.bias": 6,
    }


@pytest.mark.parametrize("bits", [16, 8, 7, 3, 1])
def test_bits_per_weight_count_packed_weights_and_scales(bits):
    compression = quantize_model(
        mlmodel_of([inner_product("dense")]), Scheme(bits, "linear"), name="m"
    ).compression
    scales = 32 * 2 * (10 + 1) if bits < 16 else 0
    packed = 8 * (-(-200 * bits // 8) + -(-10 * bits // 8))
    assert compression.bits_per_weight == (packed + scales) / 210


def test_bits_per_weight_count_tables():
    compression = quantize_model(
        mlmodel_of([inner_product("dense")]), Scheme(4, "linear_lut"), name="m"
    ).compression
    assert compression.bits_per_weight == (4 * 210 + 2 * 16 * 32) / 210


def test_layers_that_coremltools_does_not_quantize_are_listed():
    layers = [inner_product("dense"), layer("layerNormalization", "norm", gamma=10, beta=10)]
    prelu = ct.proto.NeuralNetwork_pb2.NeuralNetworkLayer(name="relu")
    prelu.activation.PReLU.alpha.floatValue.append(0.1)
    compression = quantize_model(mlmodel_of([*layers, prelu]), Scheme(8, "linear"), name="m").compression
    reason = "layer of a kind that coremltools does not quantize"
    assert compression.skipped == (
        ("norm.gamma", 10, reason),
        ("norm.beta", 10, reason),
        ("relu.PReLU.alpha", 1, reason),
    )
    assert (compression.weights, compression.compressed) == (231, 210)


def test_weights_of_a_custom_layer_are_listed():
    custom = ct.proto.NeuralNetwork_pb2.NeuralNetworkLayer(name="mine")
    custom.custom.weights.add().floatValue.extend([1, 2, 3])
    compression = quantize_model(
        mlmodel_of([inner_product("dense"), custom]), Scheme(8, "linear"), name="m"
    ).compression
    assert [(name, weights) for name, weights, _ in compression.skipped] == [("mine.weights[0]", 3)]


def test_networks_in_loops_and_branches_are_counted_and_quantized():
    loop = ct.proto.NeuralNetwork_pb2.NeuralNetworkLayer(name="loop")
    loop.loop.bodyNetwork.layers.append(inner_product("body"))
    branch = ct.proto.NeuralNetwork_pb2.NeuralNetworkLayer(name="branch")
    branch.branch.ifBranch.layers.append(inner_product("then"))
    branch.branch.elseBranch.layers.append(inner_product("else", outputs=5))
    compression = quantize_model(mlmodel_of([loop, branch]), Scheme(4, "kmeans_lut"), name="m").compression
    assert compression.compressed == compression.weights == 210 + 210 + 105


def test_layers_that_share_a_name_are_all_counted():
    tensors = list_tensors(mlmodel_of([inner_product("same"), inner_product("same")]).get_spec())
    assert len({tensor.name for tensor in tensors}) == 4


def test_what_is_fused_is_listed_and_the_new_bias_counted():
    convolution = layer("convolution", "conv", weights=7 * 4 * 9)
    params = convolution.convolution
    params.outputChannels, params.kernelChannels, params.nGroups = 7, 4, 1
    params.kernelSize.extend([3, 3])
    convolution.output.append("y")
    norm = layer("batchnorm", "norm", gamma=7, beta=7, mean=7)
    norm.batchnorm.variance.floatValue.extend([1] * 7)
    norm.batchnorm.channels = 7
    norm.input.append("y")
    compression = quantize_model(mlmodel_of([convolution, norm]), Scheme(1, "linear_lut"), name="m").compression
    assert [name for name, _, reason in compression.skipped if reason == "fused into the layer before it"] == [
        "norm.gamma",
        "norm.beta",
        "norm.mean",
        "norm.variance",
    ]
    assert compression.weights == 7 * 4 * 9 + 4 * 7
    assert compression.compressed == 7 * 4 * 9 + 7


def test_int8_weights_of_a_dynamically_quantized_layer_are_counted_as_quantized():
    dense = inner_product("dense")
    del dense.innerProduct.weights.floatValue[:]
    dense.innerProduct.weights.int8RawValue = bytes(200)
    tensor = list_tensors(mlmodel_of([dense]).get_spec())[0]
    assert (tensor.weights, tensor.bits, tensor.reason) == (200, 1600, "already quantized")


def test_equal_models_have_nothing_compressed():
    for model in (small_network(), small_program()):
        compression = measure_compression(model.get_spec(), copy.deepcopy(model.get_spec()))
        assert (compression.compressed, compression.bits_per_weight) == (0, 0)
        assert sum(weights for _, weights, _ in compression.skipped) == compression.weights == 5638


def test_names_and_counts_of_a_program():
    tensors = {tensor.name: tensor.weights for tensor in list_tensors(small_program().get_spec())}
    assert tensors == {
        "conv_0_weight_0_to_fp16": 216,
        "conv_0_bias_0_to_fp16": 8,
        "conv_1_weight_0_to_fp16": 2304,
        "conv_1_bias_0_to_fp16": 32,
        "linear_0_weight_0_to_fp16": 3072,
        "linear_0_bias_0_to_fp16": 6,
    }


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
@pytest.mark.parametrize("scheme", [Scheme(8, "linear"), Scheme(8, "linear_symmetric"), Scheme(6, "kmeans_lut")])
def test_the_bits_of_a_program_are_those_in_its_weight_file(tmp_path, target, scheme):
    quantized = quantize_model(small_program(ct.target[target]), scheme, name="m")
    file = read_model_file(save_model(quantized.mlmodel, tmp_path / "q.mlpackage"))
    stored = (file.weights_dir / "weight.bin").stat().st_size
    tensors = list_tensors(file.spec)
    counted = sum(tensor.bits for tensor in tensors) / 8
    # Each value in the file has 64 bytes that describe it and up to 63 that align it; at most three per tensor.
    assert counted <= stored <= counted + 64 + 3 * len(tensors) * 127
    assert sum(tensor.bits for tensor in tensors if tensor.storage == "quantized") == pytest.approx(
        quantized.compression.bits_per_weight * quantized.compression.compressed
    )


def test_chained_compression_counts_once_with_the_bits_of_the_whole_chain():
    from coremltools.optimize import coreml as cto

    model = small_program(ct.target.iOS18)
    prune = cto.OptimizationConfig(global_config=cto.OpMagnitudePrunerConfig(target_sparsity=0.75))
    palettize = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="kmeans", nbits=4))
    with quiet():
        joint = cto.palettize_weights(cto.prune_weights(model, prune), palettize, joint_compression=True)
    compression = measure_compression(model.get_spec(), joint.get_spec())
    assert compression.compressed == 2304 + 3072
    # 4 bits for each fourth weight, the tables, and a mask of 1 bit per weight; coremltools 8.0 stores two masks.
    masks = compression.bits_per_weight - 4 / 4 - 2 * 16 * 16 / 5376
    assert masks == pytest.approx(round(masks), abs=0.01)
    assert round(masks) in (1, 2)


def test_a_float32_program_counts_32_bits():
    from coremltools.converters.mil.mil import Builder

    with quiet():

        @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 64))], opset_version=ct.target.iOS16)
        def program(x):
            return Builder.linear(x=x, weight=np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))

        precision = ct.precision.FLOAT32
        model = ct.convert(program, convert_to="mlprogram", compute_precision=precision, skip_model_load=True)
    tensor = list_tensors(model.get_spec())[0]
    assert (tensor.weights, tensor.bits, tensor.storage) == (4096, 4096 * 32, "float32")
    assert quantize_model(model, Scheme(8, "linear"), name="m").compression.compressed == 4096


def test_the_model_gets_smaller_by_the_bits_that_were_saved():
    network = small_network()
    quantized = quantize_model(network, Scheme(4, "linear"), name="m")
    saved = (32 - quantized.compression.bits_per_weight) * quantized.compression.compressed / 8
    assert serialize(network)[0] - serialize(quantized.mlmodel)[0] == pytest.approx(saved, abs=150)
