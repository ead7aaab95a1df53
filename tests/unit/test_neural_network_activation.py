import math

import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import UnsupportedModelError

X = np.float32([[[-3, -1, -0.5, 0, 0.5, 1, 3]], [[3, 1, 0.5, 0, -0.5, -1, -3]]])


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize(
    "kind, params, expected",
    [
        ("RELU", None, relu),
        ("LEAKYRELU", [0.3], lambda x: np.where(x >= 0, x, 0.3 * x)),
        ("THRESHOLDEDRELU", 0.5, lambda x: np.where(x >= 0.5, x, 0)),
        ("TANH", None, np.tanh),
        ("SCALED_TANH", [1.5, 0.5], lambda x: 1.5 * np.tanh(0.5 * x)),
        ("SIGMOID", None, lambda x: 1 / (1 + np.exp(-x))),
        ("SIGMOID_HARD", [0.2, 0.5], lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("LINEAR", [2.0, -1.0], lambda x: 2 * x - 1),
        ("ELU", 0.7, lambda x: np.where(x >= 0, x, 0.7 * (np.exp(x) - 1))),
        ("SOFTSIGN", None, lambda x: x / (1 + np.abs(x))),
        ("SOFTPLUS", None, lambda x: np.log1p(np.exp(x))),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_activation(kind, params, expected, exact):
    close(run(lambda b: b.add_activation("act", kind, "x", "y", params), {"x": X}, exact=exact), expected(X))


@pytest.mark.parametrize("alpha", [[0.1, 0.4], [0.2]])
def test_prelu_has_a_slope_per_channel_or_one_for_all(alpha):
    y = run(lambda b: b.add_activation("act", "PRELU", "x", "y", np.array(alpha)), {"x": X})
    close(y, np.where(X >= 0, X, np.reshape(alpha, (-1, 1, 1)) * X))


def test_parametric_softplus_has_parameters_per_channel():
    alpha, beta = np.array([0.5, 2.0]), np.array([1.0, 3.0])
    y = run(lambda b: b.add_activation("act", "PARAMETRICSOFTPLUS", "x", "y", [alpha, beta]), {"x": X})
    close(y, alpha.reshape(-1, 1, 1) * np.log1p(np.exp(beta.reshape(-1, 1, 1) * X)))


def test_clamped_relu():
    y = run(lambda b: b.add_clamped_relu("act", "x", "y", alpha=0.5, beta=0.75), {"x": X}, exact=True)
    close(y, np.minimum(0.75, np.where(X >= 0, X, 0.5 * X)))


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("EXACT", lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))),
        ("TANH_APPROXIMATION", lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
        ("SIGMOID_APPROXIMATION", lambda x: x / (1 + np.exp(-1.702 * x))),
    ],
)
def test_gelu(mode, expected):
    close(run(lambda b: b.add_gelu("act", "x", "y", mode=mode), {"x": X}, exact=True), expected(X))


def test_an_activation_that_is_not_set_is_refused():
    builder = make_builder({"x": X})
    builder.add_activation("act", "RELU", "x", "y")
    builder.nn_spec.layers[0].activation.ClearField("ReLU")
    with pytest.raises(UnsupportedModelError, match="layer 'act': activation None"):
        make_engine(builder)


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("sqrt", np.sqrt),
        ("rsqrt", lambda x: 1 / np.sqrt(x + 0.25)),
        ("inverse", lambda x: 1 / (x + 0.25)),
        ("power", lambda x: x**1.5),
        ("exp", np.exp),
        ("log", lambda x: np.log(x + 0.25)),
        ("abs", np.abs),
        ("threshold", lambda x: np.maximum(x, 1.5)),
    ],
)
def test_unary_functions_scale_and_shift_first(mode, expected):
    x = np.abs(numbers(2, 3, 4))

    def layers(builder):
        builder.add_unary("unary", "x", "y", mode, alpha=1.5, shift=0.5, scale=2.0, epsilon=0.25)

    close(run(layers, {"x": x}), expected(2 * x + 0.5))


def test_a_unary_scale_of_zero_stands_for_one_and_an_epsilon_of_zero_for_a_millionth():
    x = np.float32([[[0.0, 4.0]]])
    builder = make_builder({"x": x})
    builder.add_unary("unary", "x", "y", "inverse", scale=0.0, epsilon=0.0)
    close(make_engine(builder).predict({"x": x})["y"][0, 0], 1 / (x + 1e-6), tolerance=1e-4)


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("ceil", np.ceil),
        ("floor", np.floor),
        ("sign", np.sign),
        ("round", np.round),
        ("exp2", np.exp2),
        ("sin", np.sin),
        ("cos", np.cos),
        ("tan", np.tan),
        ("asin", lambda x: np.arcsin(x)),
        ("acos", np.arccos),
        ("atan", np.arctan),
        ("sinh", np.sinh),
        ("cosh", np.cosh),
        ("tanh", np.tanh),
        ("asinh", np.arcsinh),
        ("atanh", np.arctanh),
        ("erf", np.vectorize(math.erf)),
    ],
)
def test_functions_without_parameters(kind, expected):
    x = numbers(3, 4) * 0.9
    close(run(lambda b: getattr(b, f"add_{kind}")("f", "x", "y"), {"x": x}, exact=True), expected(x))


def test_acosh():
    x = np.float32([1, 2, 5])
    close(run(lambda b: b.add_acosh("f", "x", "y"), {"x": x}, exact=True), np.arccosh(x))


def test_round_takes_halves_to_the_even_number():
    x = np.float32([-1.5, -0.5, 0.5, 1.5, 2.5])
    close(run(lambda b: b.add_round("f", "x", "y"), {"x": x}, exact=True), [-2, 0, 0, 2, 2])


def test_clip():
    close(run(lambda b: b.add_clip("clip", "x", "y", -0.5, 1.0), {"x": X}, exact=True), np.clip(X, -0.5, 1))
