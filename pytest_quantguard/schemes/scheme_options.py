"""The options of a scheme: which there are, what values they take, and how they are written as text."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from pytest_quantguard.errors import SchemeError

if TYPE_CHECKING:
    from pytest_quantguard.schemes.scheme import Scheme

LINEAR = ("linear", "linear_symmetric")
TABLES = ("linear_lut", "kmeans_lut", "custom_lut", "unique_lut")
NETWORK, PROGRAM, BOTH = ("network",), ("program",), ("network", "program")
KMEANS = ("coremltools", "optimal")

_SAFE = "/:*?[]!"
_LARGEST = sys.float_info.max
_TARGET = re.compile(r"(iOS|macOS|watchOS|tvOS)\d+(_\d+)?")


@dataclass(frozen=True)
class Option:
    """An option of a scheme, written as `name=value`, or as `name` alone where the value is True.

    Args:
        name: the field of `Scheme`.
        check: takes name and value, returns the value as it is kept, and raises SchemeError for a wrong one.
        show: the value as text, without commas.
        read: the inverse of `show`; raises ValueError for what it cannot read; None where text cannot hold it.
        kinds: which kinds of model have it.
        modes: which modes have it; every mode where empty.
    """

    name: str
    check: Callable[[str, Any], Any]
    show: Callable[[Any], str] = str
    read: Callable[[str], Any] | None = None
    kinds: tuple[str, ...] = PROGRAM
    modes: tuple[str, ...] = ()


def text_of(name: str, value: Any, show: Callable[[Any], str]) -> str:
    """`name=value`, or `name` for True."""
    return name if value is True else f"{name}={show(value)}"


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SchemeError(f"{name}={value!r} must be True or False.")
    return value


def _read_flag(text: str) -> bool:
    if text not in ("", "True", "true"):
        raise ValueError(text)
    return True


def _count(least: int, what: str) -> Callable[[str, Any], Any]:
    """Whole numbers from `least` on; None is one more value where it is the default."""

    def check(name: str, value: Any) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise SchemeError(f"{name}={value!r} is no number of {what}; give {least} or more.")
        return value

    return check


def read_count(text: str) -> int:
    """A whole number in the digits 0 to 9.

    Raises:
        ValueError: the text is no such number, or one of thousands of digits.
    """
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _number(least: float, most: float) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            limits = f"of {least:g} or more" if most == _LARGEST else f"from {least:g} to {most:g}"
            raise SchemeError(f"{name}={value!r} must be a number {limits}.")
        return abs(float(value))  # -0.0 is 0.0, and has one text

    return check


def _choice(*choices: str, default: str = "") -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value != default and value not in choices:
            valid = ", ".join([*([default] if default else []), *choices])
            raise SchemeError(f"{name}={value!r} does not exist; use one of {valid}.")
        return value

    return check


def _sizes(name: str, value: Any) -> Any:
    """The size of a block along the input channels, or its sizes along every dimension."""
    if value is None:
        return None
    sizes = (value,) if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 0 for size in sizes):
        raise SchemeError(
            f"{name}={value!r} is no block size; give a number, or one per dimension of the weights."
        )
    if isinstance(value, int) and value < 1:
        raise SchemeError(f"{name}={value!r} is no block size; give 1 or more.")
    return value if isinstance(value, int) else sizes


def _show_sizes(value: Any) -> str:
    return str(value) if isinstance(value, int) else "x".join(map(str, value)) + ("x" if len(value) == 1 else "")


def _read_sizes(text: str) -> Any:
    sizes = tuple(read_count(part) for part in text.removesuffix("x").split("x"))
    return sizes if "x" in text else sizes[0]


def _ratio(name: str, value: Any) -> Any:
    if value is None:
        return None
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in pair):
        raise SchemeError(f"{name}={value!r} is no ratio; give two whole numbers (n, m).")
    if not 0 < pair[0] <= pair[1]:
        raise SchemeError(f"{name}={value!r} is no ratio; n must be 1 or more, and at most m.")
    return pair


def _read_ratio(text: str) -> Any:
    n, _, m = text.partition(":")
    return read_count(n), read_count(m)


def _patterns(name: str, patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, str | list | tuple):
        raise SchemeError(f"{name}={patterns!r} must be a list of layer names, patterns or types.")
    found = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not all(isinstance(pattern, str) and pattern for pattern in found):
        raise SchemeError(f"{name}={patterns!r} must be a list of layer names, patterns or types.")
    return found


def _show_patterns(patterns: Any) -> str:
    return "+".join(quote(pattern, safe=_SAFE) for pattern in patterns)


def _read_patterns(text: str) -> tuple[str, ...]:
    return tuple(unquote(pattern) for pattern in text.split("+"))


def _target(name: str, value: Any) -> str:
    if not isinstance(value, str) or (value and not _TARGET.fullmatch(value)):
        raise SchemeError(
            f"{name}={value!r} is no deployment target; name one of coremltools.target, as in 'iOS18'."
        )
    return value


def _selector(name: str, value: Any) -> Any:
    if value is not None and not callable(getattr(value, "do_quantize", None)):
        raise SchemeError(f"{name}={value!r} has no do_quantize(); give a QuantizedLayerSelector.")
    return value


def _overrides(name: str, value: Any) -> tuple[tuple[str, "Scheme"], ...]:
    """Pairs of a pattern and the scheme of what it matches; the first that matches counts."""
    from pytest_quantguard.schemes.scheme import Scheme

    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        found = tuple((pattern, scheme) for pattern, scheme in pairs)
    except (TypeError, ValueError):
        raise SchemeError(f"{name}={value!r} must be a dictionary of patterns and schemes.") from None
    _patterns(name, [pattern for pattern, _ in found])
    schemes = tuple(Scheme.parse(scheme) if isinstance(scheme, str) else scheme for _, scheme in found)
    for (pattern, _), scheme in zip(found, schemes, strict=True):
        if not isinstance(scheme, Scheme):
            raise SchemeError(f"{name}: {scheme!r} for {pattern!r} is no scheme; give one, or its text.")
        whole = [option for option in WHOLE_MODEL if getattr(scheme, option)]
        if whole or not scheme.is_own or scheme.mode in ("float", "config"):
            wrong = whole[0] if whole else f"mode={scheme.mode!r}"
            raise SchemeError(f"{name}: {wrong} for {pattern!r} is for whole models; leave it out.")
    return tuple(zip([pattern for pattern, _ in found], schemes, strict=True))


def _show_overrides(overrides: Any) -> str:
    return "+".join(f"{quote(pattern, safe=_SAFE)}={quote(str(s), safe=_SAFE)}" for pattern, s in overrides)


def _read_overrides(text: str) -> Any:
    pairs = [tuple(map(unquote, pair.split("="))) for pair in text.split("+")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ValueError(text)
    return tuple(pairs)


def check_arguments(name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """The arguments of a third party's scheme, sorted by name; lists become tuples.

    Raises:
        SchemeError: a name is no identifier, or a value is nothing that JSON could hold.
    """
    try:
        found = dict(value)
    except (TypeError, ValueError):
        raise SchemeError(f"{name}={value!r} must be a dictionary of names and values.") from None
    for argument, held in found.items():
        if not isinstance(argument, str) or not argument.isidentifier():
            raise SchemeError(f"{name}: {argument!r} must be a name.")
        try:
            json.dumps(held, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise SchemeError(
                f"{name}: {argument}={held!r} must be a number, text, truth value or list."
            ) from None
        if _has_dictionary(held):
            raise SchemeError(f"{name}: {argument}={held!r} holds a dictionary; give lists.")
    return tuple((argument, _frozen(found[argument])) for argument in sorted(found))


def _has_dictionary(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list | tuple) and any(map(_has_dictionary, value)))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def show_argument(value: Any) -> str:
    """A value as JSON; text without quotation marks where it cannot be taken for anything else."""
    if isinstance(value, str) and value and read_argument(quote(value, safe=_SAFE)) == value:
        return quote(value, safe=_SAFE)
    return quote(json.dumps(value, separators=(",", ":")), safe=_SAFE)


def read_argument(text: str) -> Any:
    """The inverse of `show_argument`; nothing is True."""
    text = unquote(text)
    if not text:
        return True
    try:
        return _frozen(json.loads(text))
    except ValueError:
        return text


_channels = _count(1, "channels")

# In the order in which they are written.
OPTIONS = {
    option.name: option
    for option in (
        Option("kmeans", _choice(*KMEANS), str, str, BOTH, ("kmeans_lut",)),
        Option("skip_layers", _patterns, _show_patterns, _read_patterns, BOTH),
        Option("only_layers", _patterns, _show_patterns, _read_patterns, BOTH),
        Option("minimum_weight_count", _count(0, "weights or channels"), str, read_count, NETWORK),
        Option("minimum_conv_kernel_channels", _count(0, "weights or channels"), str, read_count, NETWORK),
        Option("selector", _selector, lambda value: type(value).__name__, None, NETWORK),
        Option("requantize", _flag, str, _read_flag, NETWORK),
        Option("unsigned", _flag, str, _read_flag, PROGRAM, LINEAR),
        Option("per_tensor", _flag, str, _read_flag, PROGRAM, LINEAR),
        Option("per_block", _sizes, _show_sizes, _read_sizes, PROGRAM, LINEAR),
        Option("group_size", _channels, str, read_count, PROGRAM, TABLES),
        Option("channel_axis", _count(0, "an axis"), str, read_count, PROGRAM, TABLES),
        Option("cluster_dim", _channels, str, read_count, PROGRAM, ("kmeans_lut", "custom_lut", "unique_lut")),
        Option("per_channel_scale", _flag, str, _read_flag, PROGRAM, TABLES),
        Option("lut_dtype", _choice("int8", "uint8", "int4", "uint4"), str, str, PROGRAM, TABLES),
        Option("sparsity", _number(0, 1), repr, float),
        Option("threshold", _number(0, _LARGEST), repr, float),
        Option("minimum_sparsity", _number(0, 1), repr, float),
        Option("n_m_ratio", _ratio, lambda value: f"{value[0]}:{value[1]}", _read_ratio),
        Option("prune_block", _count(2, "channels"), str, read_count),
        Option("prune_dim", _count(0, "a dimension"), str, read_count),
        Option("weight_threshold", _count(0, "weights"), str, read_count),
        Option("activations", _choice("int8", "uint8"), str, str, BOTH),
        Option("activation_mode", _choice("linear", default="linear_symmetric"), str, str),
        Option("deployment_target", _target, str, str),
        Option("overrides", _overrides, _show_overrides, _read_overrides),
    )
}
WHOLE_MODEL = ("skip_layers", "only_layers", "activations", "deployment_target", "overrides", "selector")
"""What is said about a whole model, and so not in an override."""
PRUNING = ("sparsity", "threshold", "n_m_ratio")
