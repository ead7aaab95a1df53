import numpy as np
import pytest
from network_runner import make_builder, make_engine, numbers
from test_neural_network_control_flow import inner

from pytest_quantguard.errors import UnsupportedModelError

SHAPE = (20, 500)


def drawn(kind, form, *, seed=7, shape=SHAPE, name="draw", **params):
    """What a random layer gives, twice."""
    dynamic = form == "dynamic"
    builder = make_builder({"x": (len(shape),) if dynamic else shape}, exact=True)
    add = getattr(builder, f"add_random_{kind}_{form}")
    if form == "static":
        add(name, "z", list(shape), seed=seed, **params)
    elif dynamic:
        add(name, ["x"], "z", seed=seed, **params)
    else:
        add(name, "x", "z", seed=seed, **params)
    builder.add_copy("end", "z", "y")
    engine = make_engine(builder)
    x = np.float32(shape) if dynamic else numbers(*shape)
    first, second = (engine.predict({"x": x})["y"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == shape
    return first


FORMS = pytest.mark.parametrize("form", ["like", "static", "dynamic"])


@FORMS
def test_normal_numbers_have_mean_and_deviation(form):
    y = drawn("normal", form, mean=3.0, stddev=2.0)
    # four standard errors of 10,000 values
    assert y.mean() == pytest.approx(3.0, abs=0.08)
    assert y.std() == pytest.approx(2.0, abs=0.06)
    share = np.mean(np.abs(y - 3.0) < 2.0)
    assert share == pytest.approx(0.6827, abs=0.02)


@FORMS
def test_uniform_numbers_fill_their_range_evenly(form):
    y = drawn("uniform", form, minval=-1.0, maxval=3.0)
    assert y.min() >= -1
    assert y.max() <= 3
    counts, _ = np.histogram(y, 8, (-1, 3))
    np.testing.assert_allclose(counts, y.size / 8, rtol=0.15)


@FORMS
def test_bernoulli_numbers_are_one_as_often_as_the_probability_says(form):
    y = drawn("bernoulli", form, prob=0.3)
    assert set(np.unique(y)) == {0, 1}
    assert y.mean() == pytest.approx(0.3, abs=0.02)


def test_numbers_depend_on_the_seed():
    first, second, third = (drawn("uniform", "static", seed=seed, maxval=1.0) for seed in (1, 2, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(first, third)


def test_without_a_seed_numbers_depend_on_the_name_of_the_layer():
    first, second, third = (drawn("uniform", "static", seed=-1, name=name, maxval=1.0) for name in ("a", "b", "a"))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(first, third)


def test_more_numbers_than_are_made_at_a_time_are_as_good():
    y = drawn("uniform", "static", shape=(3, 2**19 + 5), maxval=1.0)
    counts, _ = np.histogram(y, 16, (0, 1))
    np.testing.assert_allclose(counts, y.size / 16, rtol=0.02)
    assert len(np.unique(y)) > 1_400_000  # of 2**24 values; a part drawn twice would leave half of that


def test_each_iteration_of_a_loop_draws_anew():
    builder = make_builder({"x": (1000,)}, ("y",), exact=True)
    builder.add_copy("start", "x", "y")
    body = inner(builder.add_loop("loop", max_iterations=5).loop.bodyNetwork)
    body.add_random_normal_static("draw", "z", [1000], stddev=1.0, seed=3)
    body.add_add_broadcastable("sum", ["y", "z"], "more")
    body.add_copy("again", "more", "y")
    engine = make_engine(builder)
    first, second = (engine.predict({"x": np.zeros(1000)})["y"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    # the same numbers five times would deviate by 5
    assert first.std() == pytest.approx(np.sqrt(5), abs=0.2)


def categories(x, count=20_000, **params):
    builder = make_builder({"x": x}, exact=True)
    builder.add_categorical_distribution("draw", "x", "y", count, seed=5, **params)
    y = make_engine(builder).predict({"x": x})["y"]
    assert y.shape == (*x.shape[:-1], count)
    return np.stack([np.mean(y == index, axis=-1) for index in range(x.shape[-1])], axis=-1)


def test_categories_are_drawn_by_their_probabilities():
    x = np.float32([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]])
    np.testing.assert_allclose(categories(x, is_logits=False), x, atol=0.015)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_categories_are_drawn_by_logits_and_temperature(temperature):
    x = 3 * numbers(2, 1, 4)
    weights = np.exp(x / temperature)
    expected = weights / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(categories(x, temperature=temperature), expected, atol=0.015)


def test_probabilities_need_not_add_up_to_one():
    x = np.float32([2, 6, 0])
    np.testing.assert_allclose(categories(x, is_logits=False), [0.25, 0.75, 0], atol=0.015)


@pytest.mark.parametrize("shape", [[2**20, 2**20], [2**63]])
def test_shapes_that_would_fill_the_memory_are_refused(shape):
    builder = make_builder({"x": (1,)}, exact=True)
    builder.add_random_uniform_static("draw", "y", shape)
    with pytest.raises(UnsupportedModelError, match=r"layer 'draw': a (random tensor|parameter)"):
        make_engine(builder)
