"""Picking and placing elements by index."""

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("gather")
def gather(net: Network, layer: Layer, x: Blob, indices: Blob) -> Blob:
    """`GatherLayerParams`: as numpy.take."""
    return net.blob(net.node("Gather", net.exact(x), net.integers(indices), axis=int(layer.params.axis)))


@layer("gatherND")
def gather_nd(net: Network, layer: Layer, x: Blob, indices: Blob) -> Blob:
    """`GatherNDLayerParams`: by multi-indices in the last dimension."""
    value = net.node("GatherND", net.exact(x), net.integers(indices))
    if indices.rank == 1 and known(indices.shape) == (x.rank,):
        # A single element; ONNX's shape inference does not tell that its rank is 0.
        return Blob(net.node("Reshape", value, net.constant([1])), (1,), scalar=True)
    return net.blob(value)


@layer("gatherAlongAxis")
def gather_along_axis(net: Network, layer: Layer, x: Blob, indices: Blob) -> Blob:
    """`GatherAlongAxisLayerParams`: as numpy.take_along_axis."""
    axis = int(layer.params.axis)
    return net.blob(net.node("GatherElements", net.exact(x), net.integers(indices), axis=axis), indices.shape)


# ScatterMode, in the order of its numbers: ONNX's reduction, and what is done to the updates first.
_SCATTER = (
    ("none", None),
    ("add", None),
    ("add", "Neg"),
    ("mul", None),
    ("mul", "Reciprocal"),
    ("max", None),
    ("min", None),
)


def _scatter_mode(net: Network, layer: Layer, updates: Blob) -> tuple[str, str]:
    if layer.params.mode >= len(_SCATTER):
        raise layer.unsupported(f"mode {layer.params.mode}")
    reduction, prepare = _SCATTER[layer.params.mode]
    value = net.exact(updates)
    return reduction, net.node(prepare, value) if prepare else value


@layer("scatterND")
def scatter_nd(net: Network, layer: Layer, x: Blob, indices: Blob, updates: Blob) -> Blob:
    """`ScatterNDLayerParams`: by multi-indices in the last dimension."""
    reduction, values = _scatter_mode(net, layer, updates)
    value = net.node("ScatterND", net.exact(x), net.integers(indices), values, reduction=reduction)
    return net.blob(value, x.shape)


@layer("scatterAlongAxis")
def scatter_along_axis(net: Network, layer: Layer, x: Blob, indices: Blob, updates: Blob) -> Blob:
    """`ScatterAlongAxisLayerParams`: as numpy.put_along_axis."""
    reduction, values = _scatter_mode(net, layer, updates)
    axis = int(layer.params.axis)
    value = net.node(
        "ScatterElements", net.exact(x), net.integers(indices), values, axis=axis, reduction=reduction
    )
    return net.blob(value, x.shape)


@layer("scatter")
def scatter(net: Network, layer: Layer, x: Blob, indices: Blob, updates: Blob) -> Blob:
    """`ScatterLayerParams`: whole slices along one axis."""
    axis = int(layer.params.axis) % x.rank
    reduction, values = _scatter_mode(net, layer, updates)
    # The axis, and the axes of the indices in its place, come to the front for ScatterND.
    order = [axis, *[other for other in range(x.rank) if other != axis]]
    positions = list(range(axis, axis + indices.rank))
    moved = [*positions, *[other for other in range(updates.rank) if other not in positions]]
    multi = net.node("Unsqueeze", net.integers(indices), net.constant([-1]))
    value = net.node(
        "ScatterND",
        net.node("Transpose", net.exact(x), perm=order),
        multi,
        net.node("Transpose", values, perm=moved),
        reduction=reduction,
    )
    back = [order.index(other) for other in range(x.rank)]
    return net.blob(net.node("Transpose", value, perm=back), x.shape)


@layer("oneHot")
def one_hot(net: Network, layer: Layer, x: Blob, length: Blob | None = None) -> Blob:
    """`OneHotLayerParams`; an index outside the vector gives only `offValue`."""
    params = layer.params
    depth = net.constant([int(params.oneHotVectorSize)])
    if length is not None:
        depth = net.node("Reshape", net.integers(length), net.constant([1]))
    indices = net.integers(x)
    # ONNX counts negative indices from the end.
    negative = net.node("Less", indices, net.constant(0))
    indices = net.node("Where", negative, depth, indices)
    values = net.node("Concat", net.constant([0]), net.constant([1]), axis=0)
    hot = net.floats(net.node("OneHot", indices, depth, values, axis=int(params.axis)))
    span = net.constant(float(params.onValue) - float(params.offValue))
    return net.blob(net.node("Add", net.node("Mul", hot, span), net.constant(float(params.offValue))))


@layer("whereNonZero")
def where_non_zero(net: Network, layer: Layer, x: Blob) -> Blob:
    """`WhereNonZeroLayerParams`: the multi-indices of the elements that are not 0."""
    return net.blob(net.floats(net.node("Transpose", net.node("NonZero", net.exact(x)))), (None, x.rank))
