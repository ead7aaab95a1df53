"""Compressed models become the graphs of their decompressed ones, bit for bit.

The yardstick is coremltools: `decompress_weights` for ML programs, `_dequantize_nn_spec` for neural networks.
"""

from pathlib import Path

import numpy as np
import pytest
from network_runner import make_builder, numbers
from test_ml_program_compressed_weights import schemes
from test_neural_network_weights import MODES

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.ml_program import translator as programs
from pytest_quantguard.runtime.portable.neural_network import translator as networks

ct = import_coremltools()
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.models.neural_network import quantization_utils  # noqa: E402

SIZE = 8
RNN = {
    "W_h": 4 * [numbers(SIZE, SIZE)],
    "W_x": 4 * [numbers(SIZE, SIZE, seed=1)],
    "b": 4 * [numbers(SIZE, seed=2)],
}


def add_convolutions(builder):
    names = [("x", "a"), ("a", "b")]
    kernels = [numbers(3, 3, 4, 6), numbers(3, 3, 6, 5)]
    for (source, target), kernel, deconvolution in zip(names, kernels, (False, True), strict=True):
        sizes = (*kernel.shape[2:], 3, 3, 1, 1, "same", 1, kernel, numbers(kernel.shape[3]), True, deconvolution)
        builder.add_convolution(target, *sizes, input_name=source, output_name=target)
    builder.add_scale("scale", numbers(5), numbers(5, seed=1), True, "b", "c", [5], [5])
    builder.add_bias("bias", numbers(5), "c", "d", shape_bias=[5])
    builder.add_load_constant("load", "e", numbers(5 * 6 * 6), [5, 6, 6])
    builder.add_elementwise("y", ["d", "e"], "y", "ADD")


def add_products(builder):
    builder.add_inner_product("dense", numbers(6, 8), numbers(6), 8, 6, True, "x", "a")
    builder.add_batched_mat_mul(
        "product", ["a"], "y", weight_matrix_rows=6, weight_matrix_columns=5, W=numbers(6, 5)
    )


def add_embedding(builder):
    builder.add_embedding_nd("y", "x", "y", vocab_size=7, embedding_size=3, W=numbers(3, 7))


def add_lstm(builder):
    builder.add_unilstm("lstm", *RNN.values(), SIZE, SIZE, ["x", "h", "c"], ["y", "h2", "c2"])


def add_gru(builder):
    builder.add_gru("gru", *[values[:3] for values in RNN.values()], SIZE, SIZE, ["x", "h"], ["y", "h2"])


def add_rnn(builder):
    builder.add_simple_rnn(
        "rnn", *[values[0] for values in RNN.values()], SIZE, SIZE, "TANH", ["x", "h"], ["y", "h2"]
    )


NETWORKS = {
    "convolutions": (add_convolutions, {"x": (4, 6, 6)}, False),
    "products": (add_products, {"x": (2, 8)}, True),
    "embedding": (add_embedding, {"x": (4, 1)}, True),
    "LSTM": (add_lstm, {"x": (SIZE,), "h": (SIZE,), "c": (SIZE,)}, False),
    "GRU": (add_gru, {"x": (SIZE,), "h": (SIZE,)}, False),
    "simple RNN": (add_rnn, {"x": (SIZE,), "h": (SIZE,)}, False),
}
STEPS = [(bits, mode) for mode in ("linear", "linear_lut") for bits in range(1, 9)]


@pytest.mark.parametrize(("bits", "mode"), [*STEPS, (8, "linear_symmetric")])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_quantized_network_becomes_the_graph_of_its_dequantized_one(name, bits, mode):
    add_layers, inputs, exact = NETWORKS[name]
    builder = make_builder(inputs, exact=exact)
    with quiet():
        add_layers(builder)
    with quiet():
        quantization_utils._quantize_nn_spec(builder.spec.neuralNetwork, bits, MODES[mode])
        quantized = builder.spec.SerializeToString()
        graph = networks.translate(builder.spec, name="net").onnx_model
        quantization_utils._dequantize_nn_spec(builder.spec.neuralNetwork)
    assert builder.spec.SerializeToString() != quantized
    assert graph == networks.translate(builder.spec, name="net").onnx_model


def constants(mlmodel):
    """Type, shape and bytes of the constants of a program's graph, in an order that does not depend on names."""
    from onnx import load_from_string

    model = load_from_string(programs.translate(mlmodel.get_spec(), Path(mlmodel.weights_dir)).onnx_model)
    return sorted((tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in model.graph.initializer)


@pytest.fixture(scope="module")
def float_programs():
    """A convolution and a dense layer, by target and precision."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(32, 16, 3, 3)).astype(np.float32)
    dense = rng.normal(size=(32, 32 * 16)).astype(np.float32)

    def convert(target, precision):
        with quiet():

            @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16, 4, 4))], opset_version=getattr(ct.target, target))
            def program(image):
                x = mb.conv(x=image, weight=kernel, pad_type="same")
                return mb.linear(x=mb.reshape(x=x, shape=[1, 32 * 16]), weight=dense, name="result")

            return ct.convert(
                program,
                convert_to="mlprogram",
                compute_precision=getattr(ct.precision, precision),
                minimum_deployment_target=getattr(ct.target, target),
                skip_model_load=True,
            )

    return {
        (target, precision): convert(target, precision)
        for target in schemes()
        for precision in ("FLOAT32", "FLOAT16")
    }


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target, found in schemes().items() for name in found]
)
def test_a_compressed_program_holds_the_constants_of_its_decompressed_one(target, name, precision, float_programs):
    import coremltools.optimize.coreml as cto

    compress, config = schemes()[target][name]
    original = float_programs[target, precision]
    with quiet():
        compressed = compress(original, cto.OptimizationConfig(global_config=config))
        decompressed = cto.decompress_weights(compressed)
    assert constants(compressed) == constants(decompressed)
    assert constants(compressed) != constants(original)
