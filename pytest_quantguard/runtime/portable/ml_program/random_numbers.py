"""Random numbers as part of the graph.

The same seed gives the same numbers in every prediction. An operation without a seed (-1) takes the check sum of
its output's name as one, so that a model answers the same each time. In a loop each turn has numbers of its own.
ONNX's own random operators go on from run to run, which is why they are not used.

The numbers are a function of key and position (a counter-based generator): the output function of SplitMix64
(Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), of which 24 bits are used.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES

_STEP = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_BITS = 24


def random_key(seed: int, name: str) -> int:
    """The key of an operation's numbers; without a seed (negative) its name decides."""
    return seed if seed >= 0 else zlib.crc32(name.encode()) + 2**32


@dataclass(frozen=True)
class RandomNumbers:
    """Writes nodes that compute random numbers.

    Args:
        node: adds a node (operator, inputs, attributes) and returns its output.
        constant: adds a constant.
        key: from `random_key`.
        turn: the number of the loop's turn, an int64 scalar of the graph; None outside of loops.
    """

    node: Callable[..., str]
    constant: Callable[[NDArray[Any]], str]
    key: int
    turn: str | None = None

    def uniform(self, shape: str, stream: int = 0) -> str:
        """Numbers from 0 up to but not including 1, float32; `shape` is an int64 vector.

        Each `stream` has numbers of its own.
        """
        count = self.node("ReduceProd", shape, keepdims=0)
        start = self._integer(_mix(self.key * _STEP + stream))
        if self.turn is not None:
            start = self._mixed(self.node("Add", start, self.node("Mul", self.turn, self._integer(_STEP))))
        places = self.node("Range", self._integer(0), count, self._integer(1))
        bits = self._mixed(self.node("Add", self.node("Mul", places, self._integer(_STEP)), start))
        bits = self.node("BitShift", self._cast(bits, "uint64"), self._shift(64 - _BITS), direction="RIGHT")
        numbers = self.node("Mul", self._cast(bits, "float32"), self._number(2.0**-_BITS))
        return self.node("Reshape", numbers, shape)

    def normal(self, shape: str) -> str:
        """Numbers of mean 0 and standard deviation 1 (Box and Muller's transform)."""
        above_zero = self.node("Sub", self._number(1), self.uniform(shape, 0))
        radius = self.node("Sqrt", self.node("Mul", self.node("Log", above_zero), self._number(-2)))
        angle = self.node("Mul", self.uniform(shape, 1), self._number(2 * math.pi))
        return self.node("Mul", radius, self.node("Cos", angle))

    def bernoulli(self, shape: str, probability: str) -> str:
        """1 with a probability (float32, that broadcasts to the shape), else 0, as float32."""
        return self._cast(self.node("Less", self.uniform(shape), probability), "float32")

    def categorical(self, weights: str, size: int) -> str:
        """Class numbers (..., size) as float32, each class as often as its share of the weights (..., classes)."""
        sums = self.node("CumSum", weights, self._integer(-1))
        batch = self.node("Shape", weights, start=0, end=-1)
        shape = self.node("Concat", batch, self.constant(np.array([size], np.int64)), axis=0)
        minus_one = self.constant(np.array([-1], np.int64))
        total = self.node("Gather", sums, minus_one, axis=-1)
        drawn = self.node("Unsqueeze", self.node("Mul", self.uniform(shape), total), minus_one)
        sums = self.node("Unsqueeze", sums, self.constant(np.array([-2], np.int64)))
        passed = self._cast(self.node("GreaterOrEqual", drawn, sums), "float32")
        return self.node("ReduceSum", passed, minus_one, keepdims=0)

    def _mixed(self, value: str) -> str:
        for shift, factor in _ROUNDS:
            value = self.node("Mul", self._xor_shifted(value, shift), self._integer(factor))
        return self._xor_shifted(value, _LAST_SHIFT)

    def _xor_shifted(self, value: str, shift: int) -> str:
        # onnxruntime multiplies signed integers only, and shifts unsigned ones only.
        bits = self._cast(value, "uint64")
        shifted = self.node("BitShift", bits, self._shift(shift), direction="RIGHT")
        return self._cast(self.node("BitwiseXor", bits, shifted), "int64")

    def _cast(self, value: str, dtype: str) -> str:
        return self.node("Cast", value, to=ELEMENT_TYPES[dtype])

    def _integer(self, value: int) -> str:
        return self.constant(np.array(value % 2**64, np.uint64).astype(np.int64))

    def _shift(self, bits: int) -> str:
        return self.constant(np.array(bits, np.uint64))

    def _number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))


def _mix(value: int) -> int:
    """SplitMix64's output for a state."""
    for shift, factor in _ROUNDS:
        value = (value % 2**64 ^ value % 2**64 >> shift) * factor
    return value % 2**64 ^ value % 2**64 >> _LAST_SHIFT
