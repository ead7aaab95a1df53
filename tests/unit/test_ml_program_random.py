"""Random operations of ML programs: moments, and the same numbers again."""

import numpy as np
import onnxruntime
import pytest
from ml_program_makers import make_spec, run_program

from pytest_quantguard.errors import UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.ml_program.translator import translate

import_coremltools()

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402

UNUSED = {"x": np.float32([0])}
COUNT = 100_000
SHAPE = np.int32([COUNT // 4, 4])


def draw(build, tmp_path):
    """What a program of one random operation, which has no inputs, gives in two predictions."""

    def joined(x):
        return mb.add(x=build(), y=x)

    translation = translate(make_spec(joined, UNUSED, tmp_path), tmp_path)
    session = onnxruntime.InferenceSession(translation.onnx_model)
    runs = [session.run(None, {translation.inputs["x"]: UNUSED["x"]})[0] for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    return runs[0]


def test_uniform_numbers_fill_their_interval_evenly(tmp_path):
    low, high = np.float32(-2), np.float32(3)
    numbers = draw(lambda: mb.random_uniform(shape=SHAPE, low=low, high=high, seed=7), tmp_path)
    assert numbers.shape == tuple(SHAPE)
    assert numbers.min() >= low
    assert numbers.max() < high
    counts, _ = np.histogram(numbers, 20, (low, high))
    # The chi-squared statistic of 19 degrees of freedom is above 43.8 once in a thousand.
    assert ((counts - COUNT / 20) ** 2 / (COUNT / 20)).sum() < 43.8


def test_normal_numbers_have_their_mean_and_deviation(tmp_path):
    numbers = draw(lambda: mb.random_normal(shape=SHAPE, mean=1.5, stddev=2.0), tmp_path)
    scaled = (numbers - 1.5) / 2
    assert abs(scaled.mean()) < 4 / COUNT**0.5
    assert abs(scaled.var() - 1) < 4 * (2 / COUNT) ** 0.5
    assert abs((scaled**3).mean()) < 4 * (15 / COUNT) ** 0.5
    assert abs((scaled**4).mean() - 3) < 4 * (96 / COUNT) ** 0.5
    assert abs(np.corrcoef(scaled.ravel()[:-1], scaled.ravel()[1:])[0, 1]) < 4 / COUNT**0.5


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_bernoulli_numbers_are_one_as_often_as_asked(probability, tmp_path):
    numbers = draw(lambda: mb.random_bernoulli(shape=SHAPE, prob=probability, seed=3), tmp_path)
    assert set(np.unique(numbers)) <= {0, 1}
    assert abs(numbers.mean() - probability) <= 4 * (probability * (1 - probability) / COUNT) ** 0.5


@pytest.mark.parametrize("mode", ["logits", "probs"])
def test_categorical_numbers_are_classes_by_their_probability(mode, tmp_path):
    shares = np.float32([[0.1, 0.0, 0.6, 0.3, 0.0], [0.0, 0.25, 0.25, 0.0, 0.5]])
    size = COUNT // 5

    def build(x):
        return mb.random_categorical(x=x, mode=mode, size=size, seed=1)

    given = shares * 4 if mode == "probs" else np.log(np.maximum(shares, np.float32(1e-30))) + 2
    numbers = run_program(build, {"x": given.astype(np.float32)}, tmp_path)
    assert numbers.shape == (2, size)
    for row, share in zip(numbers, shares, strict=True):
        counts = np.bincount(row.astype(int), minlength=5)
        assert not counts[share == 0].any()
        assert (np.abs(counts / size - share) <= 4 * (share * (1 - share) / size) ** 0.5).all()


def test_a_seed_gives_its_numbers_and_no_others(tmp_path):
    def build(x):
        shape = np.int32([6])
        return (
            mb.random_uniform(shape=shape, seed=5),
            mb.random_uniform(shape=shape, seed=5),
            mb.random_uniform(shape=shape, seed=6),
            mb.random_uniform(shape=shape),
            mb.random_uniform(shape=shape),
            mb.identity(x=x),
        )

    first, again, *others, _ = run_program(build, UNUSED, tmp_path)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, *others]))) == 24


def test_the_numbers_do_not_change_from_version_to_version(tmp_path):
    # By hand: SplitMix64 from the state that it has after the seed's first output.
    def mixed(value):
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    step, seed = 0x9E3779B97F4A7C15, 5
    start = mixed(seed * step % 2**64)
    expected = [(mixed((start + i * step) % 2**64) >> 40) / 2**24 for i in range(4)]
    found = draw(lambda: mb.random_uniform(shape=np.int32([4]), seed=seed), tmp_path)
    np.testing.assert_array_equal(found, np.float32(expected))


def test_each_turn_of_a_loop_has_numbers_of_its_own(tmp_path):
    def build(x):
        def body(i, numbers):
            def inner(k, seen):
                drawn = mb.random_uniform(shape=np.int32([1]), seed=2)
                return mb.add(x=k, y=1), mb.concat(values=[seen, drawn], axis=0)

            _, numbers = mb.while_loop(
                _cond=lambda k, seen: mb.less(x=k, y=3), _body=inner, loop_vars=(0, numbers)
            )
            return mb.add(x=i, y=1), numbers

        return mb.while_loop(_cond=lambda i, numbers: mb.less(x=i, y=4), _body=body, loop_vars=(0, x))[1]

    found = run_program(build, UNUSED, tmp_path)
    assert len(found) == 13
    assert len(np.unique(found)) == 13


def test_the_shape_may_be_computed(tmp_path):
    def build(x):
        return mb.random_normal(shape=mb.cast(x=x, dtype="int32"), seed=1)

    assert run_program(build, {"x": np.float32([2, 3, 1])}, tmp_path).shape == (2, 3, 1)


def test_more_numbers_than_the_memory_holds_are_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"a random tensor of shape \(8192, 8193\) is not supported"):
        draw(lambda: mb.random_uniform(shape=np.int32([8192, 8193])), tmp_path)
