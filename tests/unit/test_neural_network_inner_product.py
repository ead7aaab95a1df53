import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import quiet

WEIGHTS, BIAS = numbers(4, 6, seed=1), numbers(4, seed=2)


def dense(builder):
    builder.add_inner_product("fc", WEIGHTS, BIAS, 6, 4, True, "x", "y")


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
def test_up_to_rank_three_the_last_dimension_counts(shape):
    x = numbers(*shape)
    close(run(dense, {"x": x}, exact=True), x @ WEIGHTS.T + BIAS)


@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_from_rank_four_on_the_last_three_dimensions_count(lead):
    x = numbers(*lead, 1, 2, 3)
    expected = x.reshape(*lead, 6) @ WEIGHTS.T + BIAS
    close(run(dense, {"x": x}, exact=True), expected[..., None, None])


def test_legacy_inner_product_of_a_vector():
    x = numbers(6)
    close(run(dense, {"x": x}), (WEIGHTS @ x + BIAS)[:, None, None])


def test_an_input_of_another_size_is_refused():
    builder = make_builder({"x": (7,)})
    dense(builder)
    with pytest.raises(UnsupportedModelError, match=r"layer 'fc': .* where 6 channels are needed"):
        make_engine(builder)


def test_dynamically_quantized_weights_are_integers_times_a_scale():
    x, integers = numbers(6), np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
    builder = make_builder({"x": x}, exact=True)
    with quiet():
        builder.add_inner_product(
            "fc",
            integers.tobytes(),
            None,
            6,
            4,
            False,
            "x",
            "y",
            int_8_dynamic_quantize=True,
            quantization_type="linear",
            nbits=8,
            quant_scale=np.array([0.5], np.float32),
        )
    rounded = np.round(x / np.abs(x).max() * 127) * np.abs(x).max() / 127
    close(make_engine(builder).predict({"x": x})["y"], (integers * 0.5) @ rounded)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_matrix_product_with_constant_weights(lead):
    x = numbers(*lead, 6)

    def layers(builder):
        builder.add_batched_mat_mul(
            "mm", ["x"], "y", weight_matrix_rows=6, weight_matrix_columns=4, W=WEIGHTS.T, bias=BIAS
        )

    close(run(layers, {"x": x}, exact=True), x @ WEIGHTS.T + BIAS)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matrix_product_of_two_tensors(transpose_a, transpose_b):
    a, b = numbers(2, 1, 3, 4), numbers(5, 4, 2, seed=1)
    inputs = {"a": a.swapaxes(-1, -2) if transpose_a else a, "b": b.swapaxes(-1, -2) if transpose_b else b}
    y = run(
        lambda n: n.add_batched_mat_mul("mm", ["a", "b"], "y", transpose_a=transpose_a, transpose_b=transpose_b),
        inputs,
        exact=True,
    )
    close(y, a @ b)


def test_vectors_become_matrices_in_a_matrix_product():
    a, b = numbers(4), numbers(4, seed=1)
    y = run(lambda n: n.add_batched_mat_mul("mm", ["a", "b"], "y"), {"a": a, "b": b}, exact=True)
    close(y, [[a @ b]])


def test_embedding_looks_up_columns_and_adds_the_bias():
    words = np.float32([3, 0, 5]).reshape(3, 1, 1, 1)

    def layers(builder):
        builder.add_embedding("e", WEIGHTS, BIAS, 6, 4, True, "x", "y")

    expected = WEIGHTS.T[[3, 0, 5]] + BIAS
    close(run(layers, {"x": words}, exact=True), expected[..., None, None])


def test_embedding_of_any_rank():
    words = np.float32([[[3], [0]]])

    def layers(builder):
        builder.add_embedding_nd("e", "x", "y", 6, 4, W=WEIGHTS)

    close(run(layers, {"x": words}, exact=True), WEIGHTS.T[[[3, 0]]])
