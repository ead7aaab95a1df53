"""The scheme: how to quantize, as a frozen value."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_quantguard.errors import SchemeError

MODES = ("linear", "linear_symmetric", "linear_lut", "kmeans_lut", "custom_lut")
ALIASES = {"kmeans": "kmeans_lut"}
BITS = (16, 8, 7, 6, 5, 4, 3, 2, 1)

LutFunction = Callable[[int, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Scheme:
    """How to quantize a model's weights.

    Args:
        bits: bits per weight; 16 (float16), or 8 down to 1.
        mode: one of `MODES`; `kmeans` is an alias of `kmeans_lut`. At 16 bits the mode has no effect.
        lut_function: for `custom_lut` only; takes (bits, weights) and returns (lookup table, indices), as
            coremltools' `quantize_weights(lut_function=...)` does.

    Raises:
        SchemeError: bits or mode do not exist, or `lut_function` and `custom_lut` do not come together.
    """

    bits: int
    mode: str = "linear"
    lut_function: LutFunction | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", ALIASES.get(self.mode, self.mode))
        if isinstance(self.bits, bool) or self.bits not in BITS:
            raise SchemeError(f"bits={self.bits!r} does not exist; use one of {', '.join(map(str, BITS))}.")
        if self.mode not in MODES:
            raise SchemeError(f"mode={self.mode!r} does not exist; use one of {', '.join(MODES)}.")
        if (self.lut_function is None) == (self.mode == "custom_lut"):
            raise SchemeError("mode='custom_lut' and lut_function= belong together; give both or neither.")

    def __str__(self) -> str:
        """The scheme as text: `kmeans_lut:8`."""
        return f"{self.mode}:{self.bits}"

    @property
    def id(self) -> str:
        """The id of a test with this scheme: `8-kmeans_lut`."""
        return f"{self.bits}-{self.mode}"

    @property
    def title(self) -> str:
        """The scheme in a sentence: `8-bit kmeans_lut`."""
        return f"{self.bits}-bit {self.mode}"
