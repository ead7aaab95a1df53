import numpy as np
import pytest

from pytest_quantguard.runtime.portable.graph import GraphBuilder


def _run(graph, feeds):
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.build(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize(("condition", "answer"), [(True, 6.0), (False, -3.0)])
def test_an_if_takes_its_branches_from_builders_that_see_the_outer_values(condition, answer):
    graph = GraphBuilder()
    x = graph.input("x", "float32", (1,))
    flag = graph.input("flag", "bool", ())
    double, negate = graph.subgraph("double"), graph.subgraph("negate")
    double.output(double.node("Mul", [x, double.constant(2.0)]), "result", "float32")
    negate.output(negate.node("Neg", [x]), "result", "float32")
    graph.output(graph.node("If", [flag], then_branch=double, else_branch=negate), "y", "float32")
    (y,) = _run(graph, {"x": np.array([3], np.float32), "flag": np.array(condition)})
    assert y == [answer]


def test_a_loop_carries_values_whose_shape_changes():
    graph = GraphBuilder()
    count = graph.input("count", "int64", ())
    start = graph.input("start", "float32", (1,))
    body = graph.subgraph("body")
    body.input("index", "int64", ())
    go_on = body.input("go_on", "bool", ())
    carried = body.input("carried", "float32", None)
    body.output(go_on, "go_on", "bool")
    body.output(body.node("Concat", [carried, start], axis=0), "carried", "float32")
    value = graph.node("Loop", [count, graph.constant(np.array(True)), start], body=body)
    graph.output(value, "y", "float32")
    (y,) = _run(graph, {"count": np.array(3), "start": np.array([7], np.float32)})
    np.testing.assert_array_equal(y, [7, 7, 7, 7])


def test_names_are_unique_over_the_graph_and_its_bodies():
    graph = GraphBuilder()
    body = graph.subgraph("body")
    names = [graph.unique("x"), body.unique("x"), body.subgraph("inner").unique("x"), graph.unique("x")]
    assert len(set(names)) == 4


def test_constants_of_a_body_lie_in_the_outermost_graph():
    from onnx import load_from_string

    graph = GraphBuilder()
    name = graph.subgraph("body").subgraph("inner").constant(np.ones(3, np.float32), "weights")
    model = load_from_string(graph.build())
    assert [tensor.name for tensor in model.graph.initializer] == [name]


def test_each_node_has_a_name_of_its_own_so_that_onnxruntime_can_split_several_tensors():
    graph = GraphBuilder()
    parts = []
    for name in ("x", "y"):
        value = graph.input(name, "float32", (2, 3))
        parts += [graph.node("Gather", [value, graph.constant(index)], axis=0) for index in (0, 1)]
    graph.output(graph.node("Sum", parts), "sum", "float32")
    ones = np.ones((2, 3), np.float32)
    (total,) = _run(graph, {"x": ones, "y": 2 * ones})
    np.testing.assert_array_equal(total, [6, 6, 6])
