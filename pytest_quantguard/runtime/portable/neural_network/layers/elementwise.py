"""Arithmetic, comparisons and selection over several tensors, element by element."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

_LEGACY = {"add": "Add", "multiply": "Mul", "average": "Mean", "max": "Max", "min": "Min"}


@layer("add", "multiply")
def add_or_multiply(net: Network, layer: Layer, x: Blob, *others: Blob) -> Blob:
    """`AddLayerParams`, `MultiplyLayerParams`; with one input the scalar `alpha` is the other."""
    operator = _LEGACY[layer.kind]
    if not others:
        return net.map(operator, x, net.constant(float(layer.params.alpha)))
    for other in others:
        x = net.combine(operator, [x, other])
    return x


@layer("average", "max", "min")
def many(net: Network, layer: Layer, *inputs: Blob) -> Blob:
    """`AverageLayerParams`, `MaxLayerParams`, `MinLayerParams`."""
    if not inputs:
        raise layer.unsupported("no input")
    return net.combine(_LEGACY[layer.kind], inputs)


@layer("dot")
def dot(net: Network, layer: Layer, x: Blob, y: Blob) -> Blob:
    """`DotProductLayerParams`: the product along the channels; the last two sizes are 1."""
    if x.rank < 3 or x.shape[-2:] != (1, 1) or y.shape[-2:] != (1, 1):
        raise layer.unsupported("an input whose height and width are not 1")
    first, second = net.image(x), net.image(y)
    channels = net.constant([1])
    if layer.params.cosineSimilarity:
        first = net.node("Div", first, net.node("ReduceL2", first, channels))
        second = net.node("Div", second, net.node("ReduceL2", second, channels))
    value = net.node("ReduceSum", net.node("Mul", first, second), channels)
    return net.blob(value, (*x.shape[:-3], 1, 1, 1))


_BROADCASTABLE = {
    "addBroadcastable": "Add",
    "subtractBroadcastable": "Sub",
    "multiplyBroadcastable": "Mul",
    "divideBroadcastable": "Div",
    "maxBroadcastable": "Max",
    "minBroadcastable": "Min",
    "powBroadcastable": "Pow",
}


@layer(*_BROADCASTABLE)
def broadcastable(net: Network, layer: Layer, x: Blob, y: Blob) -> Blob:
    """`AddBroadcastableLayerParams` and its kind."""
    return net.combine(_BROADCASTABLE[layer.kind], [x, y])


@layer("floorDivBroadcastable")
def floor_divide(net: Network, layer: Layer, x: Blob, y: Blob) -> Blob:
    """`FloorDivBroadcastableLayerParams`."""
    return net.map("Floor", net.combine("Div", [x, y]))


@layer("modBroadcastable")
def modulo(net: Network, layer: Layer, x: Blob, y: Blob) -> Blob:
    """`ModBroadcastableLayerParams`: the remainder has the sign of the divisor, as numpy's."""
    whole = net.combine("Mul", [net.map("Floor", net.combine("Div", [x, y])), y])
    return net.combine("Sub", [x, whole])


# ONNX's operators of which one has to hold; for `notEqual`, which must not.
_COMPARISONS = {
    "equal": ("Equal",),
    "notEqual": ("Equal",),
    "lessThan": ("Less",),
    "lessEqual": ("Less", "Equal"),
    "greaterThan": ("Greater",),
    "greaterEqual": ("Greater", "Equal"),
}


@layer(*_COMPARISONS)
def comparison(net: Network, layer: Layer, x: Blob, y: Blob | None = None) -> Blob:
    """`EqualLayerParams` and its kind: 1 where it holds, else 0; with one input against `alpha`."""
    alpha = net.constant(float(layer.params.alpha))
    answers = [
        net.map(operator, x, alpha) if y is None else net.combine(operator, [x, y])
        for operator in _COMPARISONS[layer.kind]
    ]
    answer = net.combine("Or", answers) if len(answers) > 1 else answers[0]
    if layer.kind == "notEqual":
        answer = net.map("Not", answer)
    return net.blob(net.floats(answer.value), answer.shape)


_LOGICAL = {"logicalAnd": "And", "logicalOr": "Or", "logicalXor": "Xor"}


@layer(*_LOGICAL)
def logical(net: Network, layer: Layer, x: Blob, y: Blob) -> Blob:
    """`LogicalAndLayerParams` and its kind; everything but 0 is true."""
    answer = net.combine(_LOGICAL[layer.kind], [_truth(net, x), _truth(net, y)])
    return net.blob(net.floats(answer.value), answer.shape)


@layer("logicalNot")
def logical_not(net: Network, layer: Layer, x: Blob) -> Blob:
    """`LogicalNotLayerParams`."""
    return net.blob(net.floats(net.node("Not", _truth(net, x).value)), x.shape)


@layer("whereBroadcastable")
def where(net: Network, layer: Layer, condition: Blob, x: Blob, y: Blob) -> Blob:
    """`WhereBroadcastableLayerParams`."""
    return net.combine("Where", [_truth(net, condition), x, y])


def _truth(net: Network, x: Blob) -> Blob:
    return net.map("Not", net.map("Equal", x, net.constant(0.0)))
