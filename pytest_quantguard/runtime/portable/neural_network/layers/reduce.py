"""Reductions, sorting and sums along axes."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

_OPERATORS = {
    "reduceL1": "ReduceL1",
    "reduceL2": "ReduceL2",
    "reduceMax": "ReduceMax",
    "reduceMin": "ReduceMin",
    "reduceSum": "ReduceSum",
    "reduceProd": "ReduceProd",
    "reduceMean": "ReduceMean",
    "reduceLogSum": "ReduceLogSum",
    "reduceSumSquare": "ReduceSumSquare",
    "reduceLogSumExp": "ReduceLogSumExp",
}

# ReduceLayerParams.ReduceOperation and .ReduceAxis, in the order of their numbers.
_MODES = ("Sum", "Mean", "Prod", "LogSum", "SumSquare", "L1", "L2", "Max", "Min", "ArgMax")
_AXES = ([-3, -2, -1], [-2, -1], [-3], [-2], [-1])


@layer("reduce")
def reduce(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReduceLayerParams`: over channels, height, width; the reduced sizes stay as 1."""
    params = layer.params
    if params.mode >= len(_MODES) or params.axis >= len(_AXES):
        raise layer.unsupported(f"mode {params.mode} along axis {params.axis}")
    mode, axes = _MODES[params.mode], _AXES[params.axis]
    if x.rank < -axes[0]:
        raise layer.unsupported(f"an input of rank {x.rank}")
    value = net.exact(x)
    if mode == "ArgMax":
        if len(axes) > 1:
            raise layer.unsupported("the largest element's index along several axes")
        return net.blob(net.floats(net.node("ArgMax", value, axis=axes[0])))
    if mode == "LogSum":
        # The specification sums the logarithms; ONNX's ReduceLogSum is the logarithm of the sum.
        value = net.node("Log", net.node("Add", value, net.constant(float(params.epsilon) or 1e-6)))
        mode = "Sum"
    return net.blob(net.node(f"Reduce{mode}", value, net.constant(axes)))


@layer(*_OPERATORS)
def reduce_axes(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReduceSumLayerParams` and its kind: over any axes."""
    params = layer.params
    axes = list(range(x.rank)) if params.reduceAll else [int(axis) for axis in params.axes]
    if not axes:
        raise layer.unsupported("no axis")
    value = net.node(_OPERATORS[layer.kind], net.exact(x), net.constant(axes), keepdims=int(params.keepDims))
    return net.at_least_one(value, net.shape(value))


@layer("argMax", "argMin")
def arg_max_or_min(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ArgMaxLayerParams`, `ArgMinLayerParams`."""
    operator = "ArgMax" if layer.kind == "argMax" else "ArgMin"
    params = layer.params
    index = net.node(operator, net.exact(x), axis=int(params.axis), keepdims=int(not params.removeDim))
    return net.at_least_one(net.floats(index), net.shape(index))


@layer("topK")
def top_k(net: Network, layer: Layer, x: Blob, count: Blob | None = None) -> list[Blob]:
    """`TopKLayerParams`: values and indices."""
    params = layer.params
    number = net.constant([int(params.K)])
    if count is not None:
        number = net.node("Reshape", net.integers(count), net.constant([1]))
    values, indices = net.nodes(
        "TopK", [net.exact(x), number], 2, axis=int(params.axis), largest=int(not params.useBottomK)
    )
    return [net.blob(values), net.blob(net.floats(indices))][: layer.outputs]


@layer("argSort")
def arg_sort(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ArgSortLayerParams`."""
    axis = int(layer.params.axis) % x.rank
    size = net.constant([product(x.shape[axis : axis + 1])])
    largest = int(layer.params.descending)
    _, indices = net.nodes("TopK", [net.exact(x), size], 2, axis=axis, largest=largest)
    return net.blob(net.floats(indices), x.shape)


@layer("cumSum")
def cumulative_sum(net: Network, layer: Layer, x: Blob, axis: Blob | None = None) -> Blob:
    """`CumSumLayerParams`."""
    params = layer.params
    along = net.constant(int(params.axis))
    if axis is not None:
        along = net.node("Reshape", net.integers(axis), net.constant([]))
    value = net.node(
        "CumSum", net.exact(x), along, exclusive=int(params.excludeFinalSum), reverse=int(params.reverse)
    )
    return net.blob(value, x.shape)
