"""Padding."""

import numpy as np

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import border_amounts, checked_length

_MODES = {"constant": "constant", "reflection": "reflect", "replication": "edge"}


@layer("padding")
def padding(net: Network, layer: Layer, x: Blob) -> Blob:
    """`PaddingLayerParams`: height and width, with a constant, reflected or repeated border."""
    params = layer.params
    kind = params.WhichOneof("PaddingType")
    if kind not in _MODES:
        raise layer.unsupported("a padding type that is not set")
    if x.rank < 2:
        raise layer.unsupported(f"an input of rank {x.rank} (at least 2 is needed)")
    top, left, bottom, right = border_amounts(layer, params.paddingAmounts).onnx
    height, width = x.shape[-2:]
    source = net.image(x) if x.rank > 2 else net.exact(x)
    if kind == "reflection" and (max(top, bottom) >= product([height]) or max(left, right) >= product([width])):
        # Wider than the input it is reflected again, as numpy does it; onnxruntime does not.
        checked_length(layer, product([height]) + top + bottom)
        checked_length(layer, product([width]) + left + right)
        value = _reflected(net, _reflected(net, source, -2, top, bottom), -1, left, right)
        return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))
    leading = [0] * (len(net.shape(source)) - 2)
    amounts = net.constant([*leading, top, left, *leading, bottom, right])
    value = net.node("Pad", source, amounts, net.constant(float(params.constant.value)), mode=_MODES[kind])
    return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))


def _reflected(net: Network, value: str, axis: int, start: int, end: int) -> str:
    indices = np.pad(np.arange(product(net.shape(value)[axis:][:1])), (start, end), mode="reflect")
    return net.node("Gather", value, net.constant(indices), axis=axis)


@layer("constantPad")
def constant_pad(net: Network, layer: Layer, x: Blob, amounts: Blob | None = None) -> Blob:
    """`ConstantPaddingLayerParams`: any axes; amounts, or the size to reach."""
    params = layer.params
    fill = net.constant(float(params.value))
    if amounts is not None:
        pairs = net.node("Reshape", net.integers(amounts), net.constant([x.rank, 2]))
        if params.padToGivenOutputSizeMode:
            missing = net.node("Sub", pairs, net.node("Unsqueeze", net.size_of(x), net.constant([1])))
            pairs = net.node("Max", missing, net.constant([0]))
        order = net.node("Reshape", net.node("Transpose", pairs), net.constant([-1]))
        return net.blob(net.node("Pad", net.exact(x), order, fill), (None,) * x.rank)
    pads = [int(amount) for amount in params.padAmounts]
    if len(pads) != 2 * x.rank:
        raise layer.unsupported(f"{len(pads)} amounts on an input of rank {x.rank}")
    if params.padToGivenOutputSizeMode:
        sizes = [size for size in x.shape for _ in range(2)]
        pads = [max(0, pad - product([size])) for pad, size in zip(pads, sizes, strict=True)]
    return net.blob(net.node("Pad", net.exact(x), net.constant(pads[0::2] + pads[1::2]), fill))
