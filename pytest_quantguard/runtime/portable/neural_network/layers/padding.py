"""Padding."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer
from pytest_quantguard.runtime.portable.neural_network.spatial import border_amounts

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
    if kind == "reflection" and (max(top, bottom) >= product([height]) or max(left, right) >= product([width])):
        raise layer.unsupported(f"a reflection wider than the input of shape {x.shape}")
    source = net.image(x) if x.rank > 2 else net.exact(x)
    leading = [0] * (len(net.shape(source)) - 2)
    amounts = net.constant([*leading, top, left, *leading, bottom, right])
    value = net.node("Pad", source, amounts, net.constant(float(params.constant.value)), mode=_MODES[kind])
    return net.blob(value, (*x.shape[:-2], *net.shape(value)[-2:]))


@layer("constantPad")
def constant_pad(net: Network, layer: Layer, x: Blob, amounts: Blob | None = None) -> Blob:
    """`ConstantPaddingLayerParams`: any axes; amounts, or the size to reach."""
    params = layer.params
    fill = net.constant(float(params.value))
    if amounts is not None:
        if params.padToGivenOutputSizeMode:
            raise layer.unsupported("padToGivenOutputSizeMode with amounts as an input")
        pairs = net.node("Reshape", net.integers(amounts), net.constant([x.rank, 2]))
        order = net.node("Reshape", net.node("Transpose", pairs), net.constant([-1]))
        return net.blob(net.node("Pad", net.exact(x), order, fill), (None,) * x.rank)
    pads = [int(amount) for amount in params.padAmounts]
    if len(pads) != 2 * x.rank:
        raise layer.unsupported(f"{len(pads)} amounts on an input of rank {x.rank}")
    if params.padToGivenOutputSizeMode:
        sizes = [size for size in x.shape for _ in range(2)]
        pads = [max(0, pad - product([size])) for pad, size in zip(pads, sizes, strict=True)]
    return net.blob(net.node("Pad", net.exact(x), net.constant(pads[0::2] + pads[1::2]), fill))
