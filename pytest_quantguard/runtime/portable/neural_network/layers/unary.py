"""Functions of one tensor, element by element."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("unary")
def unary(net: Network, layer: Layer, x: Blob) -> Blob:
    """`UnaryFunctionLayerParams`: the input is scaled and shifted first."""
    params = layer.params
    scale = float(params.scale) or 1.0
    epsilon = net.constant(float(params.epsilon) or 1e-6)
    if scale != 1.0:
        x = net.map("Mul", x, net.constant(scale))
    if params.shift:
        x = net.map("Add", x, net.constant(float(params.shift)))
    if params.type == params.SQRT:
        return net.map("Sqrt", x)
    if params.type == params.RSQRT:
        return net.map("Reciprocal", net.map("Sqrt", net.map("Add", x, epsilon)))
    if params.type == params.INVERSE:
        return net.map("Reciprocal", net.map("Add", x, epsilon))
    if params.type == params.POWER:
        return net.map("Pow", x, net.constant(float(params.alpha)))
    if params.type == params.EXP:
        return net.map("Exp", x)
    if params.type == params.LOG:
        # The specification leaves epsilon out here; coremltools' tests of Apple's engine expect it.
        return net.map("Log", net.map("Add", x, epsilon))
    if params.type == params.ABS:
        return net.map("Abs", x)
    if params.type == params.THRESHOLD:
        return net.map("Max", x, net.constant(float(params.alpha)))
    raise layer.unsupported(f"function {params.type}")


@layer("clip")
def clip(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ClipLayerParams`."""
    return net.map("Clip", x, net.constant(float(layer.params.minVal)), net.constant(float(layer.params.maxVal)))


@layer("exp2")
def exp2(net: Network, layer: Layer, x: Blob) -> Blob:
    """`Exp2LayerParams`: two to the power of x."""
    return net.blob(net.node("Pow", net.constant(2.0), x.value), x.shape)


# The specification's name, capitalised, is ONNX's name; `round` rounds halves to even in both.
@layer(
    *("ceil", "floor", "sign", "round", "erf", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
)
def function(net: Network, layer: Layer, x: Blob) -> Blob:
    """Layers without parameters: `CeilLayerParams`, `SinLayerParams`, ..."""
    return net.map(layer.kind.capitalize(), x)


@layer("copy")
def copy(net: Network, layer: Layer, x: Blob) -> Blob:
    """`CopyLayerParams`; its output may replace a tensor of the same name."""
    return x
