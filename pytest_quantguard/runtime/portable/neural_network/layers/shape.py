"""Layers that change the shape or the order of a tensor, not its numbers."""

from collections.abc import Sequence

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, known, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer

# Positions of channels, height and width in rank 5; a permutation that puts the channels last.
_CHANNEL_LAST, _CHANNEL_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@layer("reshape")
def reshape(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReshapeLayerParams`: rank 5, in channel first or channel last order."""
    params = layer.params
    if x.rank != 5:
        raise layer.unsupported(f"an input of rank {x.rank} (5 is needed)")
    target = [int(size) for size in params.targetShape]
    sequence, batch = known(x.shape[:2])
    if len(target) == 4:
        sequence, *target = target
        if batch != 1:
            raise layer.unsupported(f"a new sequence length with a batch of {batch}")
    if len(target) != 3:
        raise layer.unsupported(f"a target shape of length {len(target)} (3 or 4 is needed)")
    shape = _resolved(layer, [sequence, batch, *target], x.size)
    if params.mode == params.CHANNEL_FIRST:
        return net.blob(net.reshaped(x, shape), shape)
    last = net.blob(net.node("Transpose", net.image(x), perm=_CHANNEL_LAST))
    channels, height, width = shape[2:]
    turned = net.reshaped(last, (sequence * batch, height, width, channels))
    return net.blob(net.node("Transpose", turned, perm=_CHANNEL_FIRST), shape)


def _resolved(layer: Layer, shape: Sequence[int], size: int) -> tuple[int, ...]:
    """A shape whose single -1, if any, is worked out from the number of elements."""
    rest = product([length for length in shape if length != -1])
    if list(shape).count(-1) == 1 and rest and size % rest == 0:
        shape = [size // rest if length == -1 else length for length in shape]
    if any(length < 0 for length in shape) or product(shape) != size:
        raise layer.unsupported(f"a target shape of {tuple(shape)} for {size} elements")
    return tuple(shape)


@layer("reshapeStatic")
def reshape_static(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReshapeStaticLayerParams`."""
    target = [int(size) for size in layer.params.targetShape]
    if None in x.shape and target.count(-1) == 1:
        return net.blob(net.node("Reshape", net.exact(x), net.constant(target)))
    return net.blob(net.reshaped(x, _resolved(layer, target, x.size)))


@layer("rankPreservingReshape")
def rank_preserving_reshape(net: Network, layer: Layer, x: Blob) -> Blob:
    """`RankPreservingReshapeLayerParams`: 0 keeps the input's size."""
    target = [int(size) for size in layer.params.targetShape]
    if len(target) != x.rank:
        raise layer.unsupported(f"a target shape of length {len(target)} for an input of rank {x.rank}")
    sizes = [old if new == 0 else new for old, new in zip(known(x.shape), target, strict=True)]
    return net.blob(net.reshaped(x, _resolved(layer, sizes, x.size)))


@layer("reshapeLike")
def reshape_like(net: Network, layer: Layer, x: Blob, like: Blob) -> Blob:
    """`ReshapeLikeLayerParams`: the shape of the second input."""
    if None in like.shape:
        return net.blob(net.node("Reshape", net.exact(x), net.size_of(like)), like.shape)
    return net.blob(net.reshaped(x, _resolved(layer, known(like.shape), x.size)))


@layer("reshapeDynamic")
def reshape_dynamic(net: Network, layer: Layer, x: Blob, shape: Blob) -> Blob:
    """`ReshapeDynamicLayerParams`: the shape is the second input's values."""
    target: Shape = (None,) * shape.size
    return net.blob(net.node("Reshape", net.exact(x), net.vector(shape)), target)


@layer("flatten")
def flatten(net: Network, layer: Layer, x: Blob) -> Blob:
    """`FlattenLayerParams`: channels, height and width into the channels."""
    params = layer.params
    image = net.image(x)
    shape = (*x.shape[:-3], product(x.shape[-3:]), 1, 1)
    if params.mode == params.CHANNEL_FIRST:
        return net.blob(net.reshaped(x, shape), shape)
    last = net.blob(net.node("Transpose", image, perm=_CHANNEL_LAST))
    return net.blob(net.reshaped(last, shape), shape)


@layer("flattenTo2D")
def flatten_to_2d(net: Network, layer: Layer, x: Blob) -> Blob:
    """`FlattenTo2DLayerParams`: the dimensions before the axis, and those from it on."""
    axis = int(layer.params.axis)
    axis = axis + x.rank if axis < 0 else axis
    if not 0 <= axis <= x.rank:
        raise layer.unsupported(f"axis {layer.params.axis} on an input of rank {x.rank}")
    return net.blob(net.reshaped(x, (product(x.shape[:axis]), product(x.shape[axis:]))))


@layer("expandDims")
def expand_dims(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ExpandDimsLayerParams`."""
    old: Shape = () if x.scalar else x.shape
    rank = len(old) + len(layer.params.axes)
    axes = _axes(layer, layer.params.axes, rank)
    sizes = iter(old)
    shape = tuple(1 if axis in axes else next(sizes) for axis in range(rank))
    return net.blob(net.reshaped(x, shape), shape)


@layer("squeeze")
def squeeze(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SqueezeLayerParams`: a Core ML tensor keeps at least one dimension."""
    params = layer.params
    axes = _axes(layer, params.axes, x.rank)
    if params.squeezeAll:
        axes = {axis for axis, size in enumerate(known(x.shape)) if size == 1}
    if any(x.shape[axis] not in (1, None) for axis in axes):
        raise layer.unsupported(f"a squeeze of axes {sorted(axes)} of an input of shape {x.shape}")
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return net.at_least_one(net.reshaped(x, shape), shape)


def _axes(layer: Layer, axes: Sequence[int], rank: int) -> set[int]:
    positive = {axis + rank if axis < 0 else int(axis) for axis in axes}
    if len(positive) != len(axes) or any(not 0 <= axis < rank for axis in positive):
        raise layer.unsupported(f"axes {list(axes)} at rank {rank}")
    return positive


@layer("permute")
def permute(net: Network, layer: Layer, x: Blob) -> Blob:
    """`PermuteLayerParams`: an order of (sequence, channels, height, width); the batch stays."""
    order = [int(axis) for axis in layer.params.axis] or [0, 1, 2, 3]
    if x.rank != 5 or sorted(order) != [0, 1, 2, 3]:
        raise layer.unsupported(f"the order {order} on an input of rank {x.rank}")
    if order[0] == 0:
        value = net.node("Transpose", net.image(x), perm=order)
        return net.blob(value, (*x.shape[:2], *net.shape(value)[1:]))
    first, *rest = [axis + 1 if axis else 0 for axis in order]
    return net.blob(net.node("Transpose", net.exact(x), perm=[first, 1, *rest]))


@layer("transpose")
def transpose(net: Network, layer: Layer, x: Blob) -> Blob:
    """`TransposeLayerParams`: any order of the axes.

    An order of fewer axes than the input has is one of the last axes. coremltools writes such an order in front of
    networks for arrays (height, width, channels) that are made to take images (`make_image_input`).
    """
    order = [int(axis) for axis in layer.params.axes]
    extra = x.rank - len(order)
    if extra > 0:
        order = [*range(extra), *(axis + extra for axis in order)]
    if sorted(order) != list(range(x.rank)):
        raise layer.unsupported(f"the order {list(layer.params.axes)} on an input of rank {x.rank}")
    return net.blob(net.node("Transpose", net.exact(x), perm=order))


@layer("reorganizeData")
def reorganize_data(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReorganizeDataLayerParams`: between channels and blocks of pixels."""
    params = layer.params
    block = int(params.blockSize)
    image = net.image(x)
    channels, height, width = known(x.shape[-3:])
    divisible = (
        channels % block**2 == 0 if params.mode != params.SPACE_TO_DEPTH else height % block == width % block == 0
    )
    if block < 2 or not divisible:
        raise layer.unsupported(f"a block of {block} on an input of shape {x.shape}")
    if params.mode == params.SPACE_TO_DEPTH:
        value = net.node("SpaceToDepth", image, blocksize=block)
    else:
        order = "CRD" if params.mode == params.PIXEL_SHUFFLE else "DCR"
        value = net.node("DepthToSpace", image, blocksize=block, mode=order)
    return net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:]))


@layer("getShape")
def get_shape(net: Network, layer: Layer, x: Blob) -> Blob:
    """`GetShapeLayerParams`."""
    return net.blob(net.floats(net.size_of(x)))


@layer("broadcastToStatic")
def broadcast_to_static(net: Network, layer: Layer, x: Blob) -> Blob:
    """`BroadcastToStaticLayerParams`."""
    shape = [int(size) for size in layer.params.targetShape]
    return net.blob(net.node("Expand", net.exact(x), net.constant(shape)))


@layer("broadcastToLike")
def broadcast_to_like(net: Network, layer: Layer, x: Blob, like: Blob) -> Blob:
    """`BroadcastToLikeLayerParams`: the shape of the second input."""
    return net.blob(net.node("Expand", net.exact(x), net.size_of(like)), like.shape)


@layer("broadcastToDynamic")
def broadcast_to_dynamic(net: Network, layer: Layer, x: Blob, shape: Blob) -> Blob:
    """`BroadcastToDynamicLayerParams`: the shape is the second input's values."""
    target: Shape = (None,) * shape.size
    return net.blob(net.node("Expand", net.exact(x), net.vector(shape)), target)


@layer("reverse")
def reverse(net: Network, layer: Layer, x: Blob) -> Blob:
    """`ReverseLayerParams`: flips the marked axes."""
    axes = [axis for axis, flag in enumerate(layer.params.reverseDim) if flag]
    if len(layer.params.reverseDim) != x.rank:
        raise layer.unsupported(f"{len(layer.params.reverseDim)} flags on an input of rank {x.rank}")
    if not axes:
        return x
    ones = net.constant([-1] * len(axes))
    ends = net.constant([-(2**62)] * len(axes))
    return net.blob(net.node("Slice", net.exact(x), ones, ends, net.constant(axes), ones), x.shape)


@layer("reverseSeq")
def reverse_sequence(net: Network, layer: Layer, x: Blob, lengths: Blob) -> Blob:
    """`ReverseSeqLayerParams`: flips the first elements of each sequence of the batch."""
    batch, time = int(layer.params.batchAxis) % x.rank, int(layer.params.sequenceAxis) % x.rank
    # ONNX wants batch and time in front.
    order = [batch, time, *[axis for axis in range(x.rank) if axis not in (batch, time)]]
    turned = net.node("Transpose", net.exact(x), perm=order)
    # One element reversed is itself; for a length of zero old versions of onnxruntime give zeros.
    counts = net.node("Max", net.integers(lengths), net.constant([1]))
    value = net.node("ReverseSequence", turned, counts, batch_axis=0, time_axis=1)
    back = [order.index(axis) for axis in range(x.rank)]
    return net.blob(net.node("Transpose", value, perm=back), x.shape)
