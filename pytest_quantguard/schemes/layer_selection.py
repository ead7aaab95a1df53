"""Which layers of a neural network a scheme quantizes."""

import difflib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.weight_fields import NESTED, QUANTIZABLE, Select, layer_fields

_TYPE = "type:"


def selection(scheme: Scheme) -> Select:
    """The function that says whether a scheme quantizes a layer.

    It takes a NeuralNetworkLayer and, for its bias, `weight_param="bias"`, as a coremltools
    `QuantizedLayerSelector.do_quantize`. A layer inside a loop or branch is asked for by itself; the loop or
    branch is entered unless `skip_layers` or the selector names it.
    """

    def select(layer: Any, **weight_param: str) -> bool:
        if scheme.selector is not None and not scheme.selector.do_quantize(layer, **weight_param):
            return False
        if any(matches(pattern, layer) for pattern in scheme.skip_layers):
            return False
        kind = layer.WhichOneof("layer")
        if kind in NESTED:
            return True
        if scheme.only_layers and not any(matches(pattern, layer) for pattern in scheme.only_layers):
            return False
        if kind == "convolution" and layer.convolution.kernelChannels < scheme.minimum_conv_kernel_channels:
            return False
        if not scheme.minimum_weight_count:
            return True
        counts = [_product(shape) for _, shape, _ in layer_fields(layer)]
        return max(counts, default=0) >= scheme.minimum_weight_count

    return select


def matches(pattern: str, layer: Any) -> bool:
    """Whether a layer has the name, fits the pattern (`*`, `?`, `[...]`), or is of the type (`type:<type>`)."""
    if pattern.startswith(_TYPE):
        return bool(layer.WhichOneof("layer") == pattern.removeprefix(_TYPE))
    return pattern == layer.name or fnmatchcase(layer.name, pattern)


def check_patterns(scheme: Scheme, networks: Sequence[Any], name: str) -> None:
    """Refuse a scheme with a pattern that matches no layer.

    Args:
        scheme: the scheme.
        networks: `NeuralNetwork`, `NeuralNetworkClassifier` or `NeuralNetworkRegressor` messages.
        name: what to call the model in the error.
    """
    layers = [layer for network in networks for layer in _all_layers(network)]
    for option in ("skip_layers", "only_layers"):
        for pattern in getattr(scheme, option):
            if any(matches(pattern, layer) for layer in layers):
                continue
            kinds = {f"{_TYPE}{layer.WhichOneof('layer')}" for layer in layers} if _TYPE in pattern else set()
            names = sorted(kinds) or [layer.name for layer in layers if layer.WhichOneof("layer") in QUANTIZABLE]
            close = difflib.get_close_matches(pattern, names, 3, 0.3) or names[:3]
            hint = f"did you mean {', '.join(close)}?" if close else "it has no layers."
            raise SchemeError(f"{option}: {pattern!r} matches no layer of {name}; {hint}")


def _all_layers(network: Any) -> Iterator[Any]:
    for layer in network.layers:
        yield layer
        for part in NESTED.get(layer.WhichOneof("layer"), ()):
            yield from _all_layers(getattr(getattr(layer, layer.WhichOneof("layer")), part))


def _product(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
