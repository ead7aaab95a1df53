"""Matrix products of integers in neural networks: the bytes of coremltools, and what they compute."""

import numpy as np
import pytest
from model_makers import small_network
from network_runner import close, make_builder, make_engine, numbers
from test_quantize_neural_network import mlmodel_of

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.quantize import quantize_model
from pytest_quantguard.schemes.scheme import Scheme

ct = import_coremltools()
ONLY_PRODUCTS = "float,activations=int8"


def products(bias=True):
    """Two matrix products in a row, of both kinds, and a convolution before them that is none."""
    builder = make_builder({"x": (5, 6)}, exact=True)
    with quiet():
        builder.add_inner_product("fc", numbers(4, 6, seed=1), numbers(4) if bias else None, 6, 4, bias, "x", "z")
        builder.add_batched_mat_mul(
            "matmul", ["z"], "y", weight_matrix_rows=4, weight_matrix_columns=3, W=numbers(4, 3, seed=2),
            bias=numbers(3) if bias else None,
        )  # fmt: skip
    return builder


def quantize(mlmodel, scheme):
    return quantize_model(mlmodel, Scheme.parse(scheme), name="net.mlmodel")


def activated(spec):
    from coremltools.models.neural_network.quantization_utils import activate_int8_int8_matrix_multiplications

    with quiet():
        return activate_int8_int8_matrix_multiplications(spec)


@pytest.mark.parametrize("make", [small_network, lambda: mlmodel_of(products().spec)])
def test_bytes_are_those_of_coremltools(make):
    theirs = mlmodel_of(activated(make().get_spec()))
    assert serialize(quantize(make(), ONLY_PRODUCTS).mlmodel) == serialize(theirs)


@pytest.mark.parametrize(
    ("bits", "mode"), [(8, "linear_symmetric"), (5, "linear"), (4, "linear_lut"), (16, "linear")]
)
def test_the_other_layers_are_quantized_as_coremltools_does(bits, mode):
    from coremltools.models.neural_network.quantization_utils import quantize_weights

    with quiet():
        theirs = quantize_weights(mlmodel_of(activated(small_network().get_spec())), bits, mode)
    ours = quantize(small_network(), f"{mode}:{bits},activations=int8")
    assert serialize(ours.mlmodel) == serialize(theirs)
    assert ours.compression.skipped == ()


def test_networks_of_a_pipeline_multiply_integers_too():
    spec = ct.proto.Model_pb2.Model(specificationVersion=4)
    spec.description.CopyFrom(small_network().get_spec().description)
    spec.pipelineClassifier.pipeline.models.add().CopyFrom(small_network().get_spec())
    spec.pipelineClassifier.pipeline.names.append("classifier")
    pipeline = quantize(mlmodel_of(spec), ONLY_PRODUCTS).mlmodel.get_spec()
    alone = quantize(small_network(), ONLY_PRODUCTS).mlmodel.get_spec()
    assert pipeline.pipelineClassifier.pipeline.models[0] == alone
    assert pipeline.specificationVersion == alone.specificationVersion == 5


def test_selected_layers_only():
    skipped = quantize(mlmodel_of(products().spec), f"{ONLY_PRODUCTS},skip_layers=fc").mlmodel.get_spec()
    first, second = skipped.neuralNetwork.layers
    assert not first.innerProduct.int8DynamicQuantize and second.batchedMatmul.int8DynamicQuantize


def test_weights_that_are_all_zero_stay_zero():
    builder = products()
    builder.spec.neuralNetwork.layers[0].innerProduct.weights.floatValue[:] = [0.0] * 24
    weights = quantize(mlmodel_of(builder.spec), ONLY_PRODUCTS).mlmodel.get_spec().neuralNetwork.layers[0]
    assert set(weights.innerProduct.weights.int8RawValue) == {0}


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (ONLY_PRODUCTS.replace("int8", "uint8"), "whose activations are int8"),
        (
            f"{ONLY_PRODUCTS},skip_layers=type:innerProduct+type:batchedMatmul",
            "changes nothing in net.mlmodel: it has no",
        ),
        (f"{ONLY_PRODUCTS},activation_mode=linear", "activation_mode=linear is for ML programs"),
    ],
)
def test_what_cannot_be_is_refused(scheme, message):
    with pytest.raises(SchemeError, match=message):
        quantize(mlmodel_of(products().spec), scheme)


def rounded(x):
    scale = np.abs(x).max() / 127
    return np.round(x / scale) * scale


@pytest.mark.parametrize("bias", [True, False])
def test_inputs_are_rounded_to_int8_when_it_runs(bias):
    spec = quantize(mlmodel_of(products(bias).spec), ONLY_PRODUCTS).mlmodel.get_spec()
    fc, matmul = (getattr(layer, layer.WhichOneof("layer")).weights for layer in spec.neuralNetwork.layers)
    first, second = (
        np.frombuffer(weights.int8RawValue, np.int8).reshape(shape)
        * weights.quantization.linearQuantization.scale[0]
        for weights, shape in ((fc, (4, 6)), (matmul, (3, 4)))
    )
    x = numbers(5, 6, seed=3)
    z = rounded(x) @ first.T + (numbers(4) if bias else 0)
    expected = rounded(z) @ second.T + (numbers(3) if bias else 0)
    builder = products(bias)
    before = make_engine(builder).predict({"x": x})["y"]
    builder.spec.CopyFrom(spec)
    y = make_engine(builder).predict({"x": x})["y"]
    close(y, expected, 1e-4)
    assert 0 < np.abs(y - before).max() < 0.05


def test_an_input_of_zeros_gives_the_bias():
    builder = products()
    builder.spec.CopyFrom(quantize(mlmodel_of(builder.spec), ONLY_PRODUCTS).mlmodel.get_spec())
    y = make_engine(builder).predict({"x": np.zeros((5, 6), np.float32)})["y"]
    assert np.isfinite(y).all()
