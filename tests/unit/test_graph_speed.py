"""Graphs are written with the operators that onnxruntime computes fastest, and without what nobody needs."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_spec
from network_runner import close, make_builder, numbers, run

from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program import translator as programs
from pytest_quantguard.runtime.portable.neural_network import translator as networks

ROWS = numbers(5, 1, 16)
GAMMA, BETA = numbers(1, 1, 16, seed=1), numbers(1, 1, 16, seed=2)


def operators(onnx_model):
    from onnx import load_from_string

    return [node.op_type for node in load_from_string(onnx_model).graph.node]


def normalized(rows, epsilon):
    centred = rows - rows.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)


def layer_norm(builder, scale, bias):
    builder.add_mvn("mvn", "x", "middle", across_channels=False, epsilon=1e-3)
    builder.add_scale(
        "scale", scale, bias, bias is not None, "middle", "y", shape_scale=scale.shape, shape_bias=np.shape(bias)
    )


def network_operators(add_layers):
    builder = make_builder({"x": ROWS})
    add_layers(builder)
    return operators(networks.translate(builder.spec, name="net").onnx_model)


def test_the_layer_norm_of_a_converted_network_is_one_operator():
    found = network_operators(lambda b: layer_norm(b, GAMMA, BETA))
    assert found.count("LayerNormalization") == 1
    assert not {"Mul", "Add", "ReduceMean"} & set(found)


@pytest.mark.parametrize(
    ("scale", "bias"),
    [
        (GAMMA, BETA),
        (GAMMA, None),
        (numbers(5), numbers(5, seed=3)),
        (numbers(5, 1, 16), BETA),
        (numbers(1), BETA),
    ],
)
def test_normalized_rows_are_scaled_by_whatever_factors(scale, bias):
    def broadcast(values):
        return 0 if values is None else values.reshape(-1, 1, 1) if values.ndim == 1 else values

    y = run(lambda b: layer_norm(b, scale, bias), {"x": ROWS})
    close(y, normalized(ROWS, 1e-3) * broadcast(scale) + broadcast(bias))


def test_normalized_rows_may_also_be_used_without_their_factors():
    def add_layers(builder):
        layer_norm(builder, GAMMA, BETA)
        builder.add_activation("twice", "LINEAR", "middle", "z", [2.0, 0.0])

    y, z = run(add_layers, {"x": ROWS}, ("y", "z"))
    close(y, normalized(ROWS, 1e-3) * GAMMA + BETA)
    close(z, normalized(ROWS, 1e-3) * 2)


@pytest.mark.parametrize(
    ("axes", "keep", "operator"),
    [
        ([2, 3], True, "GlobalAveragePool"),
        ([-1, -2], True, "GlobalAveragePool"),
        ([2, 3], False, "ReduceMean"),
        ([1, 2], True, "ReduceMean"),
        ([3], True, "ReduceMean"),
    ],
)
def test_a_mean_per_image_and_channel_is_pooling(axes, keep, operator, tmp_path):
    from coremltools.converters.mil import Builder

    inputs = {"x": numbers(2, 3, 4, 5)}
    spec = make_spec(lambda x: Builder.reduce_mean(x=x, axes=axes, keep_dims=keep), inputs, tmp_path)
    assert operator in operators(programs.translate(spec, tmp_path).onnx_model)
    close(run_spec(spec, inputs, tmp_path)[0], inputs["x"].mean(tuple(axes), keepdims=keep))


def test_a_mean_of_whole_numbers_is_no_pooling(tmp_path):
    from coremltools.converters.mil import Builder

    inputs = {"x": np.arange(24, dtype=np.int32).reshape(1, 2, 3, 4)}
    spec = make_spec(lambda x: Builder.reduce_mean(x=x, axes=[2, 3], keep_dims=True), inputs, tmp_path)
    assert "GlobalAveragePool" not in operators(programs.translate(spec, tmp_path).onnx_model)


def test_nodes_that_no_output_depends_on_are_left_out():
    graph = GraphBuilder()
    x = graph.input("x", "float32", (1,))
    graph.node("Exp", [graph.node("Neg", [x])])
    graph.output(graph.node("Relu", [x]), "y", "float32")
    assert operators(graph.build()) == ["Relu", "Identity"]


def test_nodes_that_only_a_body_in_a_body_reads_stay():
    graph = GraphBuilder()
    x, flag = graph.input("x", "float32", (1,)), graph.input("flag", "bool", ())
    outer, value = graph.subgraph("outer"), graph.node("Neg", [x])
    inner = outer.subgraph("inner")
    inner.output(inner.node("Exp", [value]), "result", "float32")
    other = outer.subgraph("other")
    # A body's output may be a value from outside, with no node in between.
    other._graph.output.add(name=graph.node("Abs", [x]))
    outer.output(outer.node("If", [flag], then_branch=inner, else_branch=other), "result", "float32")
    graph.output(graph.node("If", [flag], then_branch=outer, else_branch=outer), "y", "float32")
    assert operators(graph.build()) == ["Neg", "Abs", "If", "Identity"]
