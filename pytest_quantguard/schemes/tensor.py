"""A weight tensor as a model stores it, and why coremltools may leave it as it is."""

from dataclasses import dataclass

ALREADY_FLOAT16 = "already float16"
ALREADY_QUANTIZED = "already quantized"
UNKNOWN_LAYER = "layer of a kind that coremltools does not quantize"
NO_NETWORK = "part of a pipeline that is no network"
FUSED = "fused into the layer before it"
ONE_DIMENSIONAL = "one-dimensional"
SMALL = "2048 weights or fewer"
TINY_RANGE = "kept in float32, as its range is too small for coremltools' scales"
SKIPPED = "left out by the scheme"
DECLINED = "declined by coremltools"


@dataclass(frozen=True)
class Tensor:
    """A weight tensor.

    Args:
        name: unique in the model.
        weights: how many there are.
        bits: what they take together, lookup tables, scales and zero points included.
        storage: `float32`, `float16` or `quantized`.
        reason: why coremltools leaves it as it is, if it does.
    """

    name: str
    weights: int
    bits: int
    storage: str
    reason: str
