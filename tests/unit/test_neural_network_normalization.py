import numpy as np
import pytest
from network_runner import close, make_builder, make_engine, numbers, run

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError

X = numbers(3, 4, 5)
GAMMA, BETA, MEAN = numbers(3, seed=1), numbers(3, seed=2), numbers(3, seed=3)
VARIANCE = np.abs(numbers(3, seed=4))


def per_channel(values):
    return values[:, None, None]


def normalized(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def batchnorm(**options):
    return lambda b: b.add_batchnorm("bn", 3, GAMMA, BETA, input_name="x", output_name="y", **options)


def test_batch_normalization_with_stored_statistics():
    y = run(batchnorm(mean=MEAN, variance=VARIANCE, epsilon=1e-2), {"x": X})
    scale = per_channel(GAMMA / np.sqrt(VARIANCE + 1e-2))
    close(y, scale * (X - per_channel(MEAN)) + per_channel(BETA))


def test_an_epsilon_of_zero_stands_for_a_hundred_thousandth():
    zeros = np.zeros(3)
    y = run(batchnorm(mean=zeros, variance=zeros, epsilon=0.0), {"x": X})
    close(y, per_channel(GAMMA) * X / np.sqrt(1e-5) + per_channel(BETA), tolerance=1e-4)


def test_instance_normalization():
    y = run(batchnorm(compute_mean_var=True, instance_normalization=True, epsilon=1e-3), {"x": X})
    close(y, per_channel(GAMMA) * normalized(X, (1, 2), 1e-3) + per_channel(BETA))


@pytest.mark.parametrize("instance, axes", [(True, (2, 3)), (False, (0, 2, 3))])
def test_statistics_are_of_each_instance_or_of_the_batch(instance, axes):
    x = numbers(2, 3, 4, 5)

    def layers(builder):
        batchnorm(compute_mean_var=True, instance_normalization=True, epsilon=1e-3)(builder)
        builder.nn_spec.layers[0].batchnorm.instanceNormalization = instance

    y = run(layers, {"x": x}, exact=True)
    close(y, per_channel(GAMMA) * normalized(x, axes, 1e-3) + per_channel(BETA))


def test_normalizing_keeps_rank_three():
    y = run(batchnorm(mean=MEAN, variance=VARIANCE), {"x": X}, exact=True)
    assert y.shape == X.shape


@pytest.mark.parametrize("across, axes", [(True, (0, 1, 2)), (False, (1, 2))])
def test_mean_and_variance_normalization(across, axes):
    y = run(lambda b: b.add_mvn("mvn", "x", "y", across_channels=across, epsilon=1e-3), {"x": X})
    close(y, normalized(X, axes, 1e-3))


def test_mean_normalization_alone():
    y = run(lambda b: b.add_mvn("mvn", "x", "y", across_channels=False, normalize_variance=False), {"x": X})
    close(y, X - X.mean((1, 2), keepdims=True))


def test_l2_normalization_is_over_all_of_an_image():
    y = run(lambda b: b.add_l2_normalize("l2", "x", "y", epsilon=1e-2), {"x": X})
    close(y, X / np.sqrt((X**2).sum() + 1e-2))


def test_local_response_normalization():
    x = numbers(5, 2, 2)
    y = run(lambda b: b.add_lrn("lrn", "x", "y", alpha=2.0, beta=0.75, local_size=3, k=1.5), {"x": x})
    squares = np.pad(x**2, ((1, 1), (0, 0), (0, 0)))
    window = squares[:-2] + squares[1:-1] + squares[2:]
    close(y, x / (1.5 + 2.0 / 3 * window) ** 0.75)


def test_an_even_window_of_channels_has_one_more_behind_than_before():
    x = numbers(5, 2, 3)
    y = run(lambda b: b.add_lrn("lrn", "x", "y", alpha=2.0, beta=0.75, local_size=4, k=1.5), {"x": x})
    squares = np.pad(x**2, ((1, 2), (0, 0), (0, 0)))
    window = squares[:-3] + squares[1:-2] + squares[2:-1] + squares[3:]
    close(y, x / (1.5 + 2.0 / 4 * window) ** 0.75)


def softmax(x, axis):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def test_softmax_is_over_the_channels():
    close(run(lambda b: b.add_softmax("s", "x", "y"), {"x": X}), softmax(X, 0))
    batch = numbers(2, 3, 4, 5)
    close(run(lambda b: b.add_softmax("s", "x", "y"), {"x": batch}, exact=True), softmax(batch, 1))


def test_softmax_of_a_matrix_is_refused():
    builder = make_builder({"x": (2, 3)}, exact=True)
    builder.add_softmax("s", "x", "y")
    with pytest.raises(UnsupportedModelError, match="layer 's': an input of rank 2"):
        make_engine(builder)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_over_any_axis(axis):
    close(run(lambda b: b.add_softmax_nd("s", "x", "y", axis), {"x": X}, exact=True), softmax(X, axis))


def test_layer_normalization():
    gamma, beta = numbers(4, 5, seed=1), numbers(4, 5, seed=2)
    y = run(
        lambda b: b.add_layer_normalization("ln", "x", "y", [4, 5], gamma, beta, eps=1e-3), {"x": X}, exact=True
    )
    close(y, normalized(X, (1, 2), 1e-3) * gamma + beta)


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4, 5), (3, 4, 5)])
def test_scale_and_bias_broadcast(shape):
    factor, offset = numbers(*shape, seed=1), numbers(*shape, seed=2)
    spread = (lambda v: v.reshape(-1, 1, 1)) if len(shape) == 1 else (lambda v: v)
    y = run(
        lambda b: b.add_scale("s", factor, offset, True, "x", "y", shape_scale=shape, shape_bias=shape), {"x": X}
    )
    close(y, X * spread(factor) + spread(offset))
    y = run(lambda b: b.add_bias("s", offset, "x", "y", shape_bias=shape), {"x": X})
    close(y, X + spread(offset))


def test_a_bias_that_does_not_fit_is_refused():
    builder = make_builder({"x": (1, 4, 5)})
    builder.add_bias("offset", numbers(3), "x", "y", shape_bias=[3])
    with pytest.raises(UnsupportedModelError, match="layer 'offset': weights that do not fit"):
        make_engine(builder)


def test_missing_weights_name_the_layer():
    builder = make_builder({"x": (3, 4, 5)})
    builder.add_batchnorm("bn", 3, GAMMA, BETA, MEAN, VARIANCE, "x", "y")
    builder.nn_spec.layers[0].batchnorm.ClearField("mean")
    with pytest.raises(ModelFileError, match="layer 'bn': mean: there are no values"):
        make_engine(builder)
