"""The scheme: how to quantize, as a frozen value."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from pytest_quantguard.errors import SchemeError

MODES = ("linear", "linear_symmetric", "linear_lut", "kmeans_lut", "custom_lut")
ALIASES = {"kmeans": "kmeans_lut"}
BITS = (16, 8, 7, 6, 5, 4, 3, 2, 1)
KMEANS = ("coremltools", "optimal")

LutFunction = Callable[[int, Any], tuple[Any, Any]]

_PATTERNS = ("skip_layers", "only_layers")
_COUNTS = ("minimum_weight_count", "minimum_conv_kernel_channels")


@dataclass(frozen=True)
class Scheme:
    """How to quantize a model's weights.

    Args:
        bits: bits per weight; 16 (float16), or 8 down to 1.
        mode: one of `MODES`; `kmeans` is an alias of `kmeans_lut`. At 16 bits the mode has no effect.
        lut_function: for `custom_lut` only; takes (bits, weights) and returns (lookup table, indices), as
            coremltools' `quantize_weights(lut_function=...)` does.

    The other arguments are for neural networks:

    Args:
        kmeans: for `kmeans_lut` only; `coremltools` for its very clusters, or `optimal` for clusters of the least
            squared error, which are found faster and are the same on every machine.
        skip_layers: layers that keep float weights: names, patterns with `*` and `?`, or types (`type:batchnorm`).
        only_layers: the layers to quantize, written in the same way; none means all.
        minimum_weight_count: layers without a tensor of so many weights keep them.
        minimum_conv_kernel_channels: convolutions with fewer input channels per group keep theirs.
        selector: a coremltools `QuantizedLayerSelector`, asked as well.
        requantize: restore the float weights of float16 or quantized tensors first.

    Raises:
        SchemeError: an argument has no such value, or arguments do not go together.
    """

    bits: int
    mode: str = "kmeans_lut"
    lut_function: LutFunction | None = field(default=None, repr=False)
    kmeans: str = "coremltools"
    skip_layers: tuple[str, ...] = ()
    only_layers: tuple[str, ...] = ()
    minimum_weight_count: int = 0
    minimum_conv_kernel_channels: int = 0
    selector: Any = None
    requantize: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", ALIASES.get(self.mode, self.mode))
        if isinstance(self.bits, bool) or self.bits not in BITS:
            raise SchemeError(f"bits={self.bits!r} does not exist; use one of {', '.join(map(str, BITS))}.")
        if self.mode not in MODES:
            raise SchemeError(f"mode={self.mode!r} does not exist; use one of {', '.join(MODES)}.")
        if (self.lut_function is None) == (self.mode == "custom_lut"):
            raise SchemeError("mode='custom_lut' and lut_function= belong together; give both or neither.")
        if self.kmeans not in KMEANS:
            raise SchemeError(f"kmeans={self.kmeans!r} does not exist; use one of {', '.join(KMEANS)}.")
        if self.kmeans != KMEANS[0] and self.mode != "kmeans_lut":
            raise SchemeError(f"kmeans={self.kmeans!r} needs mode='kmeans_lut', not {self.mode!r}.")
        for name in _PATTERNS:
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        for name in _COUNTS:
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise SchemeError(f"{name}={count!r} is no number of weights or channels; give 0 or more.")
        if self.selector is not None and not callable(getattr(self.selector, "do_quantize", None)):
            raise SchemeError(f"selector={self.selector!r} has no do_quantize(); give a QuantizedLayerSelector.")
        if not isinstance(self.requantize, bool):
            raise SchemeError(f"requantize={self.requantize!r} must be True or False.")

    def __str__(self) -> str:
        """The scheme as text: `kmeans_lut:8`, or `linear:4,skip_layers=conv1+type:bias,requantize`.

        `Scheme.parse` is the inverse, except for functions and selectors, of which only the name is printed.
        """
        return ",".join([f"{self.mode}:{self.bits}", *self.options])

    def __lt__(self, other: "Scheme") -> bool:
        """Sorted by mode, then most bits first."""
        return self._sort_key() < other._sort_key()

    @property
    def options(self) -> tuple[str, ...]:
        """What differs from the defaults, as `name=value`; `id` and `title` end with it."""
        found = [f"kmeans={self.kmeans}"] if self.kmeans != KMEANS[0] else []
        for name in _PATTERNS:
            if patterns := getattr(self, name):
                found.append(f"{name}={'+'.join(quote(pattern, safe='/:*?[]!') for pattern in patterns)}")
        found += [f"{name}={getattr(self, name)}" for name in _COUNTS if getattr(self, name)]
        if self.selector is not None:
            found.append(f"selector={type(self.selector).__name__}")
        return (*found, "requantize") if self.requantize else tuple(found)

    @property
    def id(self) -> str:
        """The id of a test with this scheme: `8-kmeans_lut`."""
        return "-".join([str(self.bits), self.mode, *self.options])

    @property
    def title(self) -> str:
        """The scheme in a sentence: `8-bit kmeans_lut`."""
        options = f" ({', '.join(self.options)})" if self.options else ""
        return f"{self.bits}-bit {self.mode}{options}"

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """The scheme that is printed as `text`; options may come in any order.

        Raises:
            SchemeError: the text is no scheme, or one that holds code (`lut_function`, `selector`).
        """
        head, *options = text.strip().split(",")
        mode, _, bits = head.partition(":")
        if not bits.isdecimal():
            raise SchemeError(f"{text!r} is no scheme; write mode and bits, for instance kmeans_lut:8.")
        if mode == "custom_lut":
            raise SchemeError(f"{text!r} needs a function, which text cannot hold; make the scheme in Python.")
        arguments = dict(_parse_option(option, text) for option in options)
        if len(arguments) < len(options):
            raise SchemeError(f"{text!r} gives an option twice; give it once.")
        return cls(int(bits), mode, **arguments)

    def _sort_key(self) -> tuple[Any, ...]:
        return MODES.index(self.mode), -self.bits, self.options


def _patterns(name: str, patterns: Any) -> tuple[str, ...]:
    found = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not all(isinstance(pattern, str) and pattern for pattern in found):
        raise SchemeError(f"{name}={patterns!r} must be a list of layer names, patterns or types.")
    return found


def _parse_option(option: str, text: str) -> tuple[str, Any]:
    name, _, value = option.strip().partition("=")
    if name == "requantize" and value in ("", "True", "true"):
        return name, True
    if name == "kmeans":
        return name, value
    if name in _PATTERNS:
        return name, tuple(unquote(pattern) for pattern in value.split("+"))
    if name in _COUNTS and value.isdecimal():
        return name, int(value)
    known = [
        f.name for f in dataclasses.fields(Scheme) if f.name not in ("bits", "mode", "lut_function", "selector")
    ]
    raise SchemeError(f"{option!r} in {text!r} is no option of a scheme; use one of {', '.join(known)}.")
