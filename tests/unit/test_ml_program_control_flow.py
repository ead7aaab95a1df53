"""Branches and loops of ML programs against the same in Python."""

import numpy as np
import pytest
from ml_program_makers import make_spec, run_program, run_spec

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program import block
from pytest_quantguard.runtime.portable.ml_program.ops import control_flow
from pytest_quantguard.runtime.portable.ml_program.translator import translate

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

VECTOR = np.float32([1, -2, 3])


def number(value):
    return np.float32([value])


def block_of(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def operation_of(block, kind):
    return next(entry for entry in block.operations if entry.type == kind)


def positive(x):
    return mb.squeeze(x=mb.greater(x=mb.reduce_sum(x=x, keep_dims=True), y=0.0))


@pytest.mark.parametrize("x", [VECTOR, -VECTOR])
def test_a_branch_is_taken_by_its_condition(x, tmp_path):
    weights = np.float32([2, 3, 4])

    def build(x):
        outside = mb.mul(x=x, y=weights)
        return mb.cond(
            pred=positive(x),
            _true_fn=lambda: (mb.add(x=outside, y=weights), mb.relu(x=x)),
            _false_fn=lambda: (mb.sub(x=x, y=np.float32(7)), mb.identity(x=outside)),
        )

    expected = [x * weights + weights, np.maximum(x, 0)] if x.sum() > 0 else [x - 7, x * weights]
    for found, wanted in zip(run_program(build, {"x": x.copy()}, tmp_path), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("x", [VECTOR, -VECTOR])
def test_branches_give_outer_values_constants_and_results_of_inner_branches(x, tmp_path):
    def build(x):
        def inner():
            return mb.cond(
                pred=mb.squeeze(x=mb.greater(x=mb.reduce_max(x=x, keep_dims=True), y=2.0)),
                _true_fn=lambda: mb.exp(x=x),
                _false_fn=lambda: mb.const(val=np.float32([5, 6, 7])),
            )

        return mb.cond(pred=positive(x), _true_fn=lambda: x, _false_fn=inner)

    expected = x if x.sum() > 0 else np.float32([5, 6, 7])
    np.testing.assert_array_equal(run_program(build, {"x": x.copy()}, tmp_path), expected)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_loop_runs_while_its_condition_holds(turns, tmp_path):
    # Powers of x: x comes from outside of the loop, the other two variables are carried.
    def build(x, n):
        return mb.while_loop(
            _cond=lambda power, i: mb.less(x=i, y=n),
            _body=lambda power, i: (mb.mul(x=power, y=x), mb.add(x=i, y=number(1))),
            loop_vars=(np.ones(3, np.float32), number(0)),
        )

    power, i = run_program(build, {"x": VECTOR.copy(), "n": number(turns)}, tmp_path)
    np.testing.assert_array_equal(power, VECTOR**turns)
    assert i == [turns]


def test_loops_and_branches_nest(tmp_path):
    def build(x):
        two, one = mb.const(val=number(2)), mb.const(val=number(1))

        def inner(i):
            return mb.while_loop(
                _cond=lambda k: mb.less(x=mb.mul(x=two, y=k), y=mb.add(x=i, y=two)),
                _body=lambda k: mb.add(x=k, y=one),
                loop_vars=(i,),
            )

        def body(i, total):
            new = inner(i)
            gain = mb.cond(
                pred=mb.squeeze(x=mb.greater(x=new, y=number(4))),
                _true_fn=lambda: mb.mul(x=new, y=two),
                _false_fn=lambda: mb.add(x=total, y=one),
            )
            return mb.add(x=new, y=one), mb.add(x=total, y=gain)

        return mb.while_loop(
            _cond=lambda i, total: mb.less(x=i, y=x), _body=body, loop_vars=(number(0), number(0))
        )

    i = total = 0
    while i < 9:
        k = i
        while 2 * k < i + 2:
            k += 1
        total += 2 * k if k > 4 else total + 1
        i = k + 1
    found = run_program(build, {"x": number(9)}, tmp_path)
    assert [array.item() for array in found] == [i, total]


def test_a_loop_variable_may_change_its_shape(tmp_path):
    def build(x):
        return mb.while_loop(
            _cond=lambda grown: mb.less(x=mb.reduce_sum(x=grown), y=40.0),
            _body=lambda grown: mb.concat(values=[grown, x], axis=0),
            loop_vars=(x,),
        )

    x = np.float32([4, 5])
    found = run_program(build, {"x": x}, tmp_path)
    np.testing.assert_array_equal(found, np.tile(x, 5))


def test_int_and_truth_values_are_carried(tmp_path):
    def build(x):
        return mb.while_loop(
            _cond=lambda i, go: go,
            _body=lambda i, go: (mb.add(x=i, y=np.int32(1)), mb.less(x=mb.add(x=i, y=np.int32(1)), y=np.int32(6))),
            loop_vars=(x, np.array([True])),
        )

    i, go = run_program(build, {"x": np.int32([3])}, tmp_path)
    assert (i, go) == ([6], [False])


def test_a_loop_at_half_precision_rounds_each_turn(tmp_path):
    def build(x):
        return mb.while_loop(
            _cond=lambda y, i: mb.less(x=i, y=np.int32(3)),
            _body=lambda y, i: (mb.mul(x=y, y=np.float16(100)), mb.add(x=i, y=np.int32(1))),
            loop_vars=(x, np.int32(0)),
        )

    spec = make_spec(build, {"x": ((1,), np.float16)}, tmp_path)
    import onnxruntime

    for precision, expected in (("float32", 1e6), ("float16", np.inf)):
        translation = translate(spec, tmp_path, precision=precision)
        session = onnxruntime.InferenceSession(translation.onnx_model)
        assert session.run([*translation.outputs.values()][:1], {translation.inputs["x"]: number(1)})[0] == [
            expected
        ]


def test_large_weights_of_a_body_are_kept_once(tmp_path):
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)

    def build(x):
        outside = mb.const(val=weights)

        def body(y, i):
            return mb.matmul(x=y, y=outside), mb.add(x=i, y=np.int32(1))

        y, _ = mb.while_loop(
            _cond=lambda y, i: mb.less(x=i, y=np.int32(2)), _body=body, loop_vars=(x, np.int32(0))
        )
        return mb.add(x=y, y=mb.matmul(x=x, y=outside))

    spec = make_spec(build, {"x": ((1, 64), np.float32)}, tmp_path)
    assert len(translate(spec, tmp_path).onnx_model) < 1.5 * weights.nbytes
    x = np.ones((1, 64), np.float32)
    np.testing.assert_allclose(
        run_spec(spec, {"x": x}, tmp_path)[0], x @ weights @ weights + x @ weights, rtol=1e-4
    )


def test_a_loop_without_an_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(control_flow, "MOST_TURNS", 50)

    def build(x):
        return mb.while_loop(
            _cond=lambda i, total: mb.less(x=i, y=x),
            _body=lambda i, total: (mb.add(x=i, y=number(1)), mb.add(x=total, y=np.int32(2))),
            loop_vars=(number(0), np.int32([0])),
            name="endless",
        )

    assert [array.item() for array in run_program(build, {"x": number(50)}, tmp_path)] == [50, 100]
    with pytest.raises(Exception, match=r"the loop of 'endless_0' did not end within 50 turns"):
        run_program(build, {"x": number(51)}, tmp_path)


def test_loops_in_conditions_of_loops_end_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(block, "MAX_OPERATIONS", 500)

    def nested(depth):
        def condition(i):
            if depth:
                i = mb.while_loop(
                    _cond=nested(depth - 1), _body=lambda k: mb.add(x=k, y=number(1)), loop_vars=(i,)
                )
            return mb.less(x=i, y=number(3))

        return condition

    def build(depth):
        return lambda x: mb.while_loop(
            _cond=nested(depth), _body=lambda k: mb.add(x=k, y=number(1)), loop_vars=(x,)
        )

    # Loops of even depth count to 3, those of odd depth find the loop in their condition at 3 already.
    assert run_program(build(1), {"x": number(0)}, tmp_path) == [0]
    assert run_program(build(2), {"x": number(0)}, tmp_path) == [3]
    with pytest.raises(UnsupportedModelError, match="A program of more than 500 operations"):
        run_program(build(8), {"x": number(0)}, tmp_path)


def make_branch(tmp_path):
    def build(x):
        return mb.cond(
            pred=positive(x), _true_fn=lambda: mb.relu(x=x, name="inner"), _false_fn=lambda: mb.exp(x=x)
        )

    return make_spec(build, {"x": VECTOR}, tmp_path)


def test_an_unknown_operation_in_a_branch_is_refused_by_name(tmp_path):
    spec = make_branch(tmp_path)
    operation_of(operation_of(block_of(spec), "cond").blocks[0], "relu").type = "swirl"
    with pytest.raises(UnsupportedModelError, match=r"operation 'swirl' \(output 'inner'\) is not supported"):
        translate(spec, tmp_path)


def test_values_of_a_branch_stay_inside(tmp_path):
    spec = make_branch(tmp_path)
    spec.description.output[0].name = "inner"
    block_of(spec).outputs[:] = ["inner"]
    with pytest.raises(ModelFileError, match="does not compute the model's output 'inner'"):
        translate(spec, tmp_path)


def test_a_classifier_inside_of_a_branch_is_refused(tmp_path):
    spec = make_branch(tmp_path)
    branch = operation_of(block_of(spec), "cond").blocks[0]
    classify = branch.operations.add(type="classify")
    classify.inputs["probabilities"].arguments.add(name="inner")
    with pytest.raises(UnsupportedModelError, match="classifies or writes states in a branch or loop"):
        translate(spec, tmp_path)


def test_a_loop_without_its_blocks_is_called_damaged(tmp_path):
    spec = make_branch(tmp_path)
    del operation_of(block_of(spec), "cond").blocks[1]
    with pytest.raises(ModelFileError, match=r"operation 'cond' .* has 1 blocks; the model is damaged"):
        translate(spec, tmp_path)


def test_blocks_where_none_belong_are_called_damaged(tmp_path):
    spec = make_branch(tmp_path)
    operation_of(block_of(spec), "squeeze").blocks.add()
    with pytest.raises(ModelFileError, match=r"operation 'squeeze' .* has 1 blocks; the model is damaged"):
        translate(spec, tmp_path)


def test_a_branch_without_results_is_called_damaged(tmp_path):
    spec = make_branch(tmp_path)
    del operation_of(block_of(spec), "cond").blocks[1].outputs[:]
    with pytest.raises(ModelFileError, match=r"operation 'cond' .* do not fit together"):
        translate(spec, tmp_path)
