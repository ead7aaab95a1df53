import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.neural_network import stepwise


def inner(network):
    """A builder for a branch, a condition or a body."""
    import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    with quiet():
        return NeuralNetworkBuilder(nn_spec=network)


def add(builder, source, target, value):
    builder.add_activation(f"{source}-{target}-{value}", "LINEAR", source, target, [1.0, value])


def constant(builder, name, *values):
    builder.add_load_constant_nd(name, name, np.array(values, np.float32), [len(values)])


def answer(builder, inputs, output="y"):
    return make_engine(builder).predict(inputs)[output]


# Branches


@pytest.mark.parametrize(("condition", "expected"), [(1.0, 10), (-0.5, 10), (0.0, 13), (9e-7, 13), (2e-6, 10)])
def test_a_branch_is_taken_where_the_condition_is_larger_than_a_millionth(condition, expected):
    builder = make_builder({"x": (1,), "flag": (1,)}, exact=True)
    params = builder.add_branch("choose", "flag").branch
    inner(params.ifBranch).add_elementwise("ten", ["x"], "y", mode="MULTIPLY", alpha=3.3333333)
    add(inner(params.elseBranch), "x", "y", 10.0)
    close(answer(builder, {"x": np.float32([3]), "flag": np.float32([condition])}), [expected], 1e-6)


def test_without_else_the_tensors_stay_as_they_are():
    builder = make_builder({"x": (2,), "flag": (1,)}, exact=True)
    builder.add_copy("start", "x", "y")
    branch = inner(builder.add_branch("choose", "flag").branch.ifBranch)
    add(branch, "x", "more", 1.0)
    branch.add_copy("overwrite", "more", "y")
    engine = make_engine(builder)
    x = numbers(2)
    close(engine.predict({"x": x, "flag": np.zeros(1)})["y"], x)
    close(engine.predict({"x": x, "flag": np.ones(1)})["y"], x + 1)


def test_branches_may_give_different_shapes_and_later_layers_fit_both():
    builder = make_builder({"x": (2, 3), "flag": (1,)}, exact=True)
    params = builder.add_branch("choose", "flag").branch
    inner(params.ifBranch).add_transpose("turn", [1, 0], "x", "z")
    inner(params.elseBranch).add_expand_dims("expand", "x", "z", [0])
    builder.add_flatten_to_2d("flat", "z", "y", axis=1)
    engine = make_engine(builder)
    x = numbers(2, 3)
    close(engine.predict({"x": x, "flag": np.ones(1)})["y"], x.T)
    close(engine.predict({"x": x, "flag": np.zeros(1)})["y"], x.reshape(1, 6))


def test_branches_nest():
    builder = make_builder({"x": (1,), "a": (1,), "b": (1,)}, exact=True)
    outer = builder.add_branch("outer", "a").branch
    middle = inner(outer.ifBranch).add_branch("inner", "b").branch
    add(inner(middle.ifBranch), "x", "y", 1.0)
    add(inner(middle.elseBranch), "x", "y", 2.0)
    add(inner(outer.elseBranch), "x", "y", 3.0)
    engine = make_engine(builder)
    for a, b, expected in ((1, 1, 1), (1, 0, 2), (0, 1, 3)):
        y = engine.predict({"x": np.zeros(1), "a": np.float32([a]), "b": np.float32([b])})["y"]
        close(y, [expected])


def test_a_condition_of_several_numbers_is_an_error():
    builder = make_builder({"x": (2,)}, exact=True)
    add(inner(builder.add_branch("choose", "x").branch.ifBranch), "x", "y", 1.0)
    with pytest.raises(PredictionError, match=r"'x' of shape \(2,\) is no single number"):
        answer(builder, {"x": np.ones(2)})


# Loops


def counting_loop(*, limit=None, limit_input=None, condition=None):
    """y and n count iterations, from 0; `condition(builder)` adds the layers that compute `go`."""
    builder = make_builder({"x": (1,)}, ("y", "n"), exact=True)
    constant(builder, "zero", 0.0)
    builder.add_copy("start", "zero", "n")
    builder.add_copy("begin", "x", "y")
    layer = builder.add_loop("loop", input_name=limit_input, max_iterations=limit)
    if condition:
        condition(inner(layer.loop.conditionNetwork))
        layer.loop.conditionVar = "go"
    body = inner(layer.loop.bodyNetwork)
    add(body, "n", "next", 1.0)
    body.add_copy("again", "next", "n")
    add(body, "y", "more", 2.0)
    body.add_copy("sum", "more", "y")
    return builder, body


def below(limit):
    return lambda builder: builder.add_less_than("below", ["y"], "go", alpha=limit)


def test_a_for_loop_runs_the_given_number_of_times():
    builder, _ = counting_loop(limit=5)
    close(answer(builder, {"x": np.float32([1])}), [11])


@pytest.mark.parametrize("times", [0, 1, 7])
def test_an_input_gives_the_number_of_iterations_and_overrides_the_parameter(times):
    builder, _ = counting_loop(limit=3, limit_input="x")
    close(answer(builder, {"x": np.float32([times])}, "n"), [times])


def test_a_while_loop_runs_as_long_as_its_condition_holds():
    builder, _ = counting_loop(condition=below(10.0))
    engine = make_engine(builder)
    for start, expected in ((0.0, 10), (1.0, 11), (20.0, 20)):
        close(engine.predict({"x": np.float32([start])})["y"], [expected])


@pytest.mark.parametrize(("limit", "expected"), [(3, 6), (100, 10)])
def test_a_loop_with_condition_and_limit_ends_at_the_first_of_both(limit, expected):
    builder, _ = counting_loop(limit=limit, condition=below(10.0))
    close(answer(builder, {"x": np.zeros(1)}), [expected])


def test_the_condition_is_computed_once_more_than_the_body():
    def count(builder):
        add(builder, "checks", "checked", 1.0)
        builder.add_copy("recount", "checked", "checks")
        builder.add_less_than("below", ["checks"], "go", alpha=1000.0)

    builder = make_builder({"x": (1,)}, ("y",), exact=True)
    builder.add_copy("start", "x", "checks")
    layer = builder.add_loop("loop", max_iterations=4)
    count(inner(layer.loop.conditionNetwork))
    layer.loop.conditionVar = "go"
    add(inner(layer.loop.bodyNetwork), "x", "unused", 1.0)
    builder.add_copy("end", "checks", "y")
    close(answer(builder, {"x": np.zeros(1)}), [5])


def test_break_leaves_the_loop_from_within_a_branch():
    builder, body = counting_loop(limit=100)
    body.add_greater_than("stop", ["n"], "stop", alpha=3.5)
    inner(body.add_branch("leave", "stop").branch.ifBranch).add_loop_break("break")
    add(body, "n", "late", 0.5)
    body.add_copy("after", "late", "n")
    # 1.5, 3, 4.5 without the half that comes behind the break
    close(answer(builder, {"x": np.zeros(1)}, "n"), [4])


def test_continue_leaves_out_the_rest_of_an_iteration():
    builder, body = counting_loop(limit=6)
    body.add_greater_than("skip", ["n"], "skip", alpha=2.5)
    inner(body.add_branch("go_on", "skip").branch.ifBranch).add_loop_continue("continue")
    add(body, "y", "extra", 100.0)
    body.add_copy("after", "extra", "y")
    close(answer(builder, {"x": np.zeros(1)}), [212])


def test_break_ends_the_inner_of_two_loops_only():
    builder = make_builder({"x": (1,)}, ("y",), exact=True)
    builder.add_copy("start", "x", "y")
    outer = inner(builder.add_loop("outer", max_iterations=3).loop.bodyNetwork)
    body = inner(outer.add_loop("inner", max_iterations=5).loop.bodyNetwork)
    add(body, "y", "more", 1.0)
    body.add_copy("again", "more", "y")
    body.add_loop_break("break")
    add(outer, "y", "much", 10.0)
    outer.add_copy("last", "much", "y")
    close(answer(builder, {"x": np.zeros(1)}), [33])


def test_a_shape_may_grow_from_iteration_to_iteration():
    builder = make_builder({"x": (1, 2)}, ("y",), exact=True)
    builder.add_copy("start", "x", "z")
    body = inner(builder.add_loop("loop", max_iterations=4).loop.bodyNetwork)
    body.add_concat_nd("grow", ["z", "x"], "grown", axis=0)
    body.add_copy("again", "grown", "z")
    builder.add_inner_product("sum", np.ones((1, 2)), None, 2, 1, False, "z", "y")
    x = numbers(1, 2)
    close(answer(builder, {"x": x}), np.full((5, 1), x.sum()))


def test_a_constant_may_be_overwritten_in_a_loop():
    builder = make_builder({"x": (1,)}, ("y",), exact=True)
    constant(builder, "y", 1.0)
    body = inner(builder.add_loop("loop", max_iterations=3).loop.bodyNetwork)
    constant(body, "two", 2.0)
    body.add_multiply_broadcastable("double", ["y", "two"], "z")
    body.add_copy("again", "z", "y")
    close(answer(builder, {"x": np.zeros(1)}), [8])


def test_a_constant_may_be_a_condition():
    builder = make_builder({"x": (1,)}, ("y",), exact=True)
    constant(builder, "three", 3.0)
    constant(builder, "one", 1.0)
    builder.add_copy("start", "x", "y")
    layer = builder.add_loop("loop", input_name="three")
    layer.loop.conditionVar = "one"
    body = inner(layer.loop.bodyNetwork)
    add(body, "y", "more", 1.0)
    body.add_copy("again", "more", "y")
    close(answer(builder, {"x": np.zeros(1)}), [3])


def test_a_classifier_may_end_in_a_loop():
    builder = make_builder({"x": (3,)}, ("p",), exact=True, mode="classifier")
    builder.add_copy("start", "x", "p")
    body = inner(builder.add_loop("loop", max_iterations=1).loop.bodyNetwork)
    body.add_softmax_nd("softmax", "p", "scores", axis=-1)
    body.add_copy("again", "scores", "p")
    builder.set_class_labels(["a", "b", "c"], predicted_feature_name="label", prediction_blob="p")
    answer = make_engine(builder).predict({"x": np.float32([0, 2, 1])})
    assert answer["label"] == "b"
    assert sum(answer["p"].values()) == pytest.approx(1)


def test_a_loop_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr(stepwise, "_MOST_ITERATIONS", 50)
    builder, _ = counting_loop(condition=lambda b: b.add_greater_than("up", ["y"], "go", alpha=-1.0))
    with pytest.raises(PredictionError, match=r"layer 'loop': the loops ran for 50 iterations without an end"):
        answer(builder, {"x": np.zeros(1)})


def test_a_loop_with_neither_limit_nor_condition_is_refused():
    builder, _ = counting_loop()
    with pytest.raises(UnsupportedModelError, match="layer 'loop': a loop with 0 inputs and no end"):
        make_engine(builder)


@pytest.mark.parametrize("kind", ["add_loop_break", "add_loop_continue"])
def test_a_jump_outside_of_a_loop_is_refused(kind):
    builder = make_builder({"x": (1,)}, exact=True)
    add(builder, "x", "y", 1.0)
    getattr(builder, kind)("jump")
    with pytest.raises(UnsupportedModelError, match="outside of a loop"):
        make_engine(builder)


def test_a_layer_in_a_body_that_cannot_run_is_refused_when_the_model_is_loaded():
    builder, body = counting_loop(limit=3)
    body.add_custom("own", ["y"], ["z"])
    with pytest.raises(UnsupportedModelError, match="layer 'own': a custom layer of class ''"):
        make_engine(builder)


def test_a_tensor_that_no_taken_branch_has_computed_is_named():
    builder = make_builder({"x": (1,)}, exact=True)
    add(inner(builder.add_branch("choose", "x").branch.ifBranch), "x", "z", 1.0)
    add(builder, "z", "y", 1.0)
    engine = make_engine(builder)
    close(engine.predict({"x": np.ones(1)})["y"], [3])
    with pytest.raises(UnsupportedModelError, match="input 'z', which no earlier layer produces"):
        engine.predict({"x": np.zeros(1)})


# Shapes that depend on values


def test_a_layer_that_has_to_know_a_shape_gets_it_from_the_values():
    builder = make_builder({"x": (2, 6), "shape": (2,)}, exact=True)
    builder.add_reshape_dynamic("reshape", ["x", "shape"], "z")
    builder.add_sliding_windows("windows", "z", "w", axis=1, window_size=2, step=1)
    builder.add_reduce_sum("sum", "w", "y", axes=[2], keepdims=False)
    engine = make_engine(builder)
    x = numbers(2, 6)
    for shape in ((3, 4), (4, 3)):
        z = x.reshape(shape)
        close(engine.predict({"x": x, "shape": np.float32(shape)})["y"], z[:, :-1] + z[:, 1:])


def test_a_shape_that_does_not_fit_is_refused_when_it_is_known():
    builder = make_builder({"x": (2, 6), "shape": (2,)}, exact=True)
    builder.add_reshape_dynamic("reshape", ["x", "shape"], "z")
    builder.add_inner_product("product", np.ones((1, 4)), None, 4, 1, False, "z", "y")
    engine = make_engine(builder)
    close(engine.predict({"x": np.ones((2, 6)), "shape": np.float32([3, 4])})["y"], np.full((3, 1), 4))
    with pytest.raises(UnsupportedModelError, match=r"layer 'product': an input of shape \(4, 3\)"):
        engine.predict({"x": np.ones((2, 6)), "shape": np.float32([4, 3])})
