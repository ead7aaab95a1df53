import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError

X, Y, Z = (numbers(2, 3, 4, seed=seed) for seed in range(3))
INPUTS = {"x": X, "y0": Y, "z0": Z}


def elementwise(mode, names, alpha=None):
    return lambda b: b.add_elementwise("e", list(names), "y", mode, alpha=alpha)


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("ADD", X + Y + Z),
        ("MULTIPLY", X * Y * Z),
        ("AVE", (X + Y + Z) / 3),
        ("MAX", np.maximum(np.maximum(X, Y), Z)),
        ("MIN", np.minimum(np.minimum(X, Y), Z)),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_elementwise_layers_take_any_number_of_inputs(mode, expected, exact):
    close(run(elementwise(mode, ["x", "y0", "z0"]), INPUTS, exact=exact), expected)


@pytest.mark.parametrize("mode, expected", [("ADD", X + 1.5), ("MULTIPLY", X * 1.5)])
def test_with_one_input_the_scalar_is_the_other(mode, expected):
    close(run(elementwise(mode, ["x"], alpha=1.5), {"x": X}), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 3, 4)])
def test_legacy_addition_broadcasts(shape):
    small = numbers(*shape, seed=5)
    close(run(elementwise("ADD", ["x", "y0"]), {"x": X, "y0": small}), X + small)


def test_tensors_that_travel_in_different_shapes_are_aligned():
    """A convolution's answer has rank 4 inside, a reshaped input rank 5."""
    x = numbers(1, 2, 3)

    def layers(builder):
        ones = np.ones((1, 1, 1, 1))
        builder.add_convolution(
            "conv", 1, 1, 1, 1, 1, 1, "valid", 1, ones, None, False, input_name="x", output_name="c"
        )
        builder.add_permute("turn", (3, 1, 2, 0), "x", "p")
        builder.add_permute("back", (3, 1, 2, 0), "p", "q")
        builder.add_elementwise("e", ["c", "q"], "y", "ADD")

    close(run(layers, {"x": x}), 2 * x)


def test_dot_product_and_cosine_similarity():
    x, y = numbers(5, 1, 1), numbers(5, 1, 1, seed=1)
    dot = (x * y).sum().reshape(1, 1, 1)
    close(run(elementwise("DOT", ["x", "y0"]), {"x": x, "y0": y}), dot)
    cosine = run(elementwise("COS", ["x", "y0"]), {"x": x, "y0": y})
    close(cosine, dot / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("add", np.add),
        ("subtract", np.subtract),
        ("multiply", np.multiply),
        ("divide", np.divide),
        ("max", np.maximum),
        ("min", np.minimum),
        ("pow", np.power),
        ("floor_div", np.floor_divide),
        ("mod", np.mod),
    ],
)
def test_broadcastable_arithmetic(kind, expected):
    x, y = np.abs(numbers(2, 1, 3)) + 0.1, np.abs(numbers(4, 1, seed=1)) + 0.1
    add = f"add_{kind}_broadcastable"
    result = run(lambda b: getattr(b, add)("e", ["x", "o"], "y"), {"x": x, "o": y}, exact=True)
    close(result, expected(x, y))


def test_the_remainder_has_the_sign_of_the_divisor():
    x, y = np.float32([-7, 7, -7, 7]), np.float32([3, -3, -3, 3])
    result = run(lambda b: b.add_mod_broadcastable("e", ["x", "o"], "y"), {"x": x, "o": y}, exact=True)
    close(result, [2, -2, -1, 1])


@pytest.mark.parametrize(
    "add, expected",
    [
        (lambda b, n: b.add_equal("e", n, "y", alpha=1), np.equal),
        (lambda b, n: b.add_not_equal("e", n, "y", alpha=1), np.not_equal),
        (lambda b, n: b.add_less_than("e", n, "y", alpha=1), np.less),
        (lambda b, n: b.add_less_than("e", n, "y", use_less_than_equal=True, alpha=1), np.less_equal),
        (lambda b, n: b.add_greater_than("e", n, "y", alpha=1), np.greater),
        (lambda b, n: b.add_greater_than("e", n, "y", use_greater_than_equal=True, alpha=1), np.greater_equal),
    ],
)
def test_comparisons_with_a_tensor_or_a_scalar(add, expected):
    x, y = np.float32([0, 1, 2]), np.float32([[1], [2]])
    close(run(lambda b: add(b, ["x", "o"]), {"x": x, "o": y}, exact=True), expected(x, y))
    close(run(lambda b: add(b, ["x"]), {"x": x}, exact=True), expected(x, 1))


@pytest.mark.parametrize(
    "mode, expected", [("AND", np.logical_and), ("OR", np.logical_or), ("XOR", np.logical_xor)]
)
def test_logic_takes_everything_but_zero_as_true(mode, expected):
    x, y = np.float32([0, 0, 0.5, -3]), np.float32([0, 2, 0, 1e-3])
    close(run(lambda b: b.add_logical("e", ["x", "o"], "y", mode), {"x": x, "o": y}, exact=True), expected(x, y))


def test_logical_not():
    x = np.float32([0, -0.5, 2])
    close(run(lambda b: b.add_logical("e", ["x"], "y", "NOT"), {"x": x}, exact=True), [1, 0, 0])


def test_where_selects_by_condition_and_broadcasts():
    condition, x, y = np.float32([[1], [0]]), np.float32([1, 2, 3]), np.float32([-1])
    result = run(
        lambda b: b.add_where_broadcastable("e", ["c", "x", "o"], "y"),
        {"c": condition, "x": x, "o": y},
        exact=True,
    )
    close(result, [[1, 2, 3], [-1, -1, -1]])


def test_shapes_that_do_not_broadcast_are_refused_by_layer():
    builder = make_builder({"x": (2, 3), "o": (2, 4)}, exact=True)
    builder.add_add_broadcastable("sum", ["x", "o"], "y")
    with pytest.raises(UnsupportedModelError, match=r"net\.mlmodel: layer 'sum': .* is not supported"):
        make_engine(builder)
