"""Random numbers (MIL family `random`); see `random_numbers` for what they depend on."""

import math

import numpy as np

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.random_numbers import RandomNumbers, random_key
from pytest_quantguard.runtime.portable.ml_program.registry import operation

# A damaged program must not exhaust the memory.
MOST_NUMBERS = 2**26


@operation("random_uniform", foldable=False)
def random_uniform(op: MilOperation) -> str:
    """Numbers from low up to but not including high"""
    low, high = np.float32(op.number("low", 0.0)), np.float32(op.number("high", 1.0))
    numbers = op.node("Mul", _source(op).uniform(op.int64("shape")), op.array(high - low, "float32"))
    numbers = op.node("Add", numbers, op.array(low, "float32"))
    # The sum may be rounded up to high.
    return op.node("Min", numbers, op.array(np.nextafter(high, low), "float32"))


@operation("random_normal", foldable=False)
def random_normal(op: MilOperation) -> str:
    """Numbers of a mean and a standard deviation"""
    mean, deviation = (op.array(op.number(*value), "float32") for value in (("mean", 0.0), ("stddev", 1.0)))
    return op.node("Add", op.node("Mul", _source(op).normal(op.int64("shape")), deviation), mean)


@operation("random_bernoulli", foldable=False)
def random_bernoulli(op: MilOperation) -> str:
    """1 with a probability, else 0"""
    return _source(op).bernoulli(op.int64("shape"), op.array(op.number("prob", 0.5), "float32"))


@operation("random_categorical", foldable=False)
def random_categorical(op: MilOperation) -> str:
    """Class numbers by the probabilities along the last axis, or by their logarithms"""
    mode = op.text("mode", "logits")
    if mode not in ("logits", "probs"):
        op.refuse(f"mode '{mode}'")
    weights = op.tensor_as("x", "float32")
    if mode == "logits":
        weights = op.node("Softmax", weights, axis=-1)
    return _source(op).categorical(weights, op.integer("size", 1))


def _source(op: MilOperation) -> RandomNumbers:
    declared = op.output_types[0]
    if declared and declared.shape and math.prod(size or 1 for size in declared.shape) > MOST_NUMBERS:
        op.refuse(f"a random tensor of shape {declared.shape}")
    key = random_key(op.integer("seed", -1), op.output_names[0])
    return RandomNumbers(op.node, op.graph.constant, key, op.turn)
