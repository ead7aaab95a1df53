"""The scheme: how to quantize, as a frozen value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.given_config import GivenConfigs, given_configs
from pytest_quantguard.schemes.option_names import advice
from pytest_quantguard.schemes.scheme_checks import check_objects, check_options
from pytest_quantguard.schemes.scheme_options import (
    KMEANS,
    OPTIONS,
    check_arguments,
    read_argument,
    read_count,
    show_argument,
    text_of,
)

MODES = ("linear", "linear_symmetric", "linear_lut", "kmeans_lut", "custom_lut")
BARE_MODES = ("unique_lut", "sparse", "float", "config")
"""Modes without bits, for ML programs."""
ALIASES = {"kmeans": "kmeans_lut"}
BITS = (16, 8, 7, 6, 5, 4, 3, 2, 1)

LutFunction = Callable[[int, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Scheme:
    """How to quantize a model's weights.

    Args:
        bits: bits per weight; 16 (float16), or 8 down to 1. None for modes without bits.
        mode: one of `MODES` or `BARE_MODES`; `kmeans` is an alias of `kmeans_lut`. At 16 bits the mode has no
            effect. Also the name of a third party's scheme (entry point group `pytest_quantguard.schemes`).
        lut_function: for `custom_lut` only; takes (bits, weights) and returns (lookup table, indices), as
            coremltools' `quantize_weights(lut_function=...)` does.
        kmeans: for `kmeans_lut` only; `coremltools` for its very clusters, or `optimal` for clusters of the least
            squared error, which are found faster and are the same on every machine.
        skip_layers: layers or operations that keep float weights: names, patterns with `*` and `?`, or types
            (`type:batchnorm`).
        only_layers: the ones to quantize, written in the same way; none means all.

    For neural networks:

    Args:
        minimum_weight_count: layers without a tensor of so many weights keep them.
        minimum_conv_kernel_channels: convolutions with fewer input channels per group keep theirs.
        selector: a coremltools `QuantizedLayerSelector`, asked as well.
        requantize: restore the float weights of float16 or quantized tensors first.

    For ML programs, with the parameter of `coremltools.optimize.coreml` that it stands for:

    Args:
        unsigned: linear modes with uint8 or uint4 instead of int8 or int4 (`dtype`).
        per_tensor: linear modes with one scale per tensor (`granularity`); one per output channel by default.
        per_block: linear modes with a scale per so many input channels, or per block of a shape (`block_size`).
        group_size: a lookup table per so many channels (`granularity="per_grouped_channel"`).
        channel_axis: the axis of these channels; coremltools chooses by default.
        cluster_dim: lookup tables of vectors of that length.
        per_channel_scale: scale the channels before palettizing (`enable_per_channel_scale`).
        lut_dtype: quantize the lookup tables as well, to int8, uint8, int4 or uint4.
        sparsity: first set that share of the weights to zero, the smallest ones (`target_sparsity`).
        threshold: first set weights of at most that magnitude to zero.
        minimum_sparsity: with threshold, leave tensors with fewer zeros (`minimum_sparsity_percentile`).
        n_m_ratio: first set n of every m weights to zero, the smallest ones.
        prune_block: with sparsity, zeros come in blocks of so many channels (`block_size`).
        prune_dim: the dimension of these blocks, or of n:m (`dim`).
        weight_threshold: only tensors of more weights are quantized; 2048 by default.
        activations: quantize activations to int8 or uint8, calibrated on samples. Of neural networks, `int8` for
            the inputs of matrix products, at run time (`activate_int8_int8_matrix_multiplications`).
        activation_mode: `linear_symmetric`, or `linear`.
        deployment_target: raise an older model to that target first, as in `iOS18`.
        overrides: other schemes for some operations: a dictionary of patterns and schemes.
        config: a coremltools `OptimizationConfig` instead of all this; or several, applied one after the other.
        arguments: what a third party's scheme is called with.

    An option that is None has its default.

    Raises:
        SchemeError: an argument has no such value, or arguments do not go together.
    """

    bits: int | Any = None
    mode: str = "kmeans_lut"
    lut_function: LutFunction | None = field(default=None, repr=False)
    kmeans: str = KMEANS[0]
    skip_layers: tuple[str, ...] = ()
    only_layers: tuple[str, ...] = ()
    minimum_weight_count: int = 0
    minimum_conv_kernel_channels: int = 0
    selector: Any = None
    requantize: bool = False
    unsigned: bool = False
    per_tensor: bool = False
    per_block: int | tuple[int, ...] | None = None
    group_size: int | None = None
    channel_axis: int | None = None
    cluster_dim: int | None = None
    per_channel_scale: bool = False
    lut_dtype: str = ""
    sparsity: float | None = None
    threshold: float | None = None
    minimum_sparsity: float | None = None
    n_m_ratio: tuple[int, int] | None = None
    prune_block: int | None = None
    prune_dim: int | None = None
    weight_threshold: int | None = None
    activations: str = ""
    activation_mode: str = "linear_symmetric"
    deployment_target: str = ""
    overrides: tuple[tuple[str, "Scheme"], ...] | Any = ()
    config: GivenConfigs | Any = None
    arguments: tuple[tuple[str, Any], ...] | Any = ()

    def __post_init__(self) -> None:
        self._set("mode", _mode_of(self.mode))
        self._set("config", given_configs(self.config))
        if self.config is not None and self.mode == "kmeans_lut":
            self._set("mode", "config")
        self._set("arguments", check_arguments("arguments", self.arguments))
        self._check_mode()
        check_objects(self)
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            self._set(name, option.check(name, _DEFAULTS[name] if value is None else value))
        for name, default in (("cluster_dim", 1), ("weight_threshold", 2048)):
            if getattr(self, name) == default:
                self._set(name, None)
        check_options(self)

    def __str__(self) -> str:
        """The scheme as text: `kmeans_lut:8`, or `linear:4,per_block=32,skip_layers=conv1+type:bias`.

        `Scheme.parse` is the inverse, except for functions, selectors and configurations, of which only a short
        description is printed.
        """
        return ",".join([self._head, *self.options])

    def __lt__(self, other: "Scheme") -> bool:
        """Sorted by mode, then most bits first."""
        return self._sort_key() < other._sort_key()

    @property
    def is_own(self) -> bool:
        """Whether the mode is this project's own, and no third party's."""
        return self.mode in (*MODES, *BARE_MODES)

    @property
    def parts(self) -> tuple["Scheme", ...]:
        """The scheme itself and those of its overrides."""
        return (self, *(override for _, override in self.overrides))

    @property
    def given(self) -> tuple[str, ...]:
        """The options that differ from their defaults."""
        return tuple(name for name in OPTIONS if getattr(self, name) != _DEFAULTS[name])

    @property
    def options(self) -> tuple[str, ...]:
        """What differs from the defaults, as `name=value`; `id` and `title` end with it."""
        in_head = ("sparsity",) if self.mode == "sparse" else ()
        own = [
            text_of(name, getattr(self, name), OPTIONS[name].show) for name in self.given if name not in in_head
        ]
        return (*own, *(text_of(name, value, show_argument) for name, value in self.arguments))

    @property
    def id(self) -> str:
        """The id of a test with this scheme: `8-kmeans_lut`."""
        return "-".join([*([self._value] if self._value else []), self.mode, *self.options])

    @property
    def title(self) -> str:
        """The scheme in a sentence: `8-bit kmeans_lut`."""
        options = f" ({', '.join(self.options)})" if self.options else ""
        return (f"{self.bits}-bit {self.mode}" if self.bits else self._head) + options

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """The scheme that is printed as `text`; options may come in any order.

        Raises:
            SchemeError: the text is no scheme, or one that holds code (`lut_function`, `selector`, `config`).
        """
        head, *options = text.strip().split(",")
        mode, _, value = head.partition(":")
        mode = _mode_of(mode)
        if mode in ("custom_lut", "config"):
            raise SchemeError(f"{text!r} needs a function or object, which text cannot hold; write it in Python.")
        arguments: dict[str, Any] = {"mode": mode}
        if mode == "sparse":
            options += [f"sparsity={value}"] if value else []
        elif value or mode in MODES:
            try:
                arguments["bits"] = read_count(value)
            except ValueError:
                raise SchemeError(
                    f"{text!r} is no scheme; write mode and bits, for instance kmeans_lut:8."
                ) from None
        is_own = mode in MODES or mode in BARE_MODES
        read = dict((_read_option if is_own else _read_argument)(option, text) for option in options)
        if len(read) < len(options):
            raise SchemeError(f"{text!r} gives an option twice; give it once.")
        return cls(**arguments, **read) if is_own else cls(**arguments, arguments=read)

    @property
    def _head(self) -> str:
        return f"{self.mode}:{self._value}" if self._value else self.mode

    @property
    def _value(self) -> str:
        """What stands behind the mode: the bits, the sparsity, or what the configuration says."""
        if self.config is not None:
            return str(self.config)
        if self.mode == "sparse":
            return "" if self.sparsity is None else repr(self.sparsity)
        return "" if self.bits is None else str(self.bits)

    def _sort_key(self) -> tuple[Any, ...]:
        modes = (*MODES, *BARE_MODES)
        return (
            modes.index(self.mode) if self.is_own else len(modes),
            self.mode,
            -(self.bits or 0),
            self._value,
            self.options,
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_mode(self) -> None:
        if not self.is_own:
            from pytest_quantguard.schemes.third_party import find_scheme, scheme_names

            if not isinstance(self.mode, str) or find_scheme(self.mode) is None:
                names = ", ".join((*MODES, *BARE_MODES[:-1], *scheme_names()))
                raise SchemeError(f"mode={self.mode!r} does not exist; use one of {names}.")
            if self.given:
                raise SchemeError(f"mode={self.mode!r} takes arguments=, not {', '.join(self.given)}.")
            if self.bits is not None and "bits" in dict(self.arguments):
                raise SchemeError(f"mode={self.mode!r} has bits twice; leave them out of arguments=.")
        elif self.arguments:
            raise SchemeError(
                f"arguments= is for third parties' schemes, not for mode={self.mode!r}; leave it out."
            )
        if self.mode in BARE_MODES and self.bits is not None:
            raise SchemeError(f"mode={self.mode!r} has no bits; leave bits={self.bits!r} out.")
        has_bits = self.mode in MODES or self.bits is not None
        if has_bits and self.mode not in BARE_MODES and (type(self.bits) is not int or self.bits not in BITS):
            raise SchemeError(f"bits={self.bits!r} does not exist; use one of {', '.join(map(str, BITS))}.")


def make_scheme(arguments: Mapping[str, Any]) -> Scheme:
    """The scheme that arguments by name give: those of `Scheme`, or `scheme` alone, a `Scheme` or its text.

    Raises:
        SchemeError: there is no such scheme.
    """
    others = {name: value for name, value in arguments.items() if name != "scheme"}
    for name in others:
        if name not in _DEFAULTS:
            raise SchemeError(f"{name!r} is no argument of a scheme: {advice(name, _DEFAULTS)}")
    if "scheme" not in arguments:
        return Scheme(**others)
    scheme = arguments["scheme"]
    if others:
        raise SchemeError(f"scheme={str(scheme)!r} says everything; leave {', '.join(others)} out.")
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, str):
        raise SchemeError(f"scheme={scheme!r} is no scheme; give a Scheme, or text like 'kmeans_lut:8'.")
    return Scheme.parse(scheme)


_DEFAULTS = {f.name: f.default for f in fields(Scheme)}


def _mode_of(mode: Any) -> Any:
    return ALIASES.get(mode, mode) if isinstance(mode, str) else mode


def _read_option(text: str, whole: str) -> tuple[str, Any]:
    name, _, value = text.strip().partition("=")
    readers = {name: option.read for name, option in OPTIONS.items() if option.read is not None}
    if name not in readers:
        raise SchemeError(f"{name!r} in {whole!r} is no option of a scheme: {advice(name, readers)}")
    try:
        return name, readers[name](value)
    except ValueError:
        raise SchemeError(f"{name} in {whole!r} has no value that can be read: {value!r}.") from None


def _read_argument(text: str, _: str) -> tuple[str, Any]:
    name, _, value = text.strip().partition("=")
    return name, read_argument(value)
