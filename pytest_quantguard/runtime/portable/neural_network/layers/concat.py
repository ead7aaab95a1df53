"""Joining, splitting and repeating tensors."""

from collections.abc import Sequence

from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer


@layer("concat")
def concat(net: Network, layer: Layer, *inputs: Blob) -> Blob:
    """`ConcatLayerParams`: along the channels (axis -3), or the sequence (axis -5)."""
    axis = -5 if layer.params.sequenceConcat else -3
    first = inputs[0] if inputs else Blob("", ())
    if any(blob.rank != first.rank for blob in inputs) or first.rank < -axis:
        raise layer.unsupported(f"inputs of rank {sorted({blob.rank for blob in inputs})}")
    if axis == -5:
        return net.blob(net.node("Concat", *[net.exact(blob) for blob in inputs], axis=axis))
    value = net.node("Concat", *[net.image(blob) for blob in inputs], axis=1)
    return net.blob(value, (*first.shape[:-3], *net.shape(value)[-3:]))


@layer("concatND")
def concat_nd(net: Network, layer: Layer, *inputs: Blob) -> Blob:
    """`ConcatNDLayerParams`: along any axis; interleaved if asked."""
    axis = int(layer.params.axis)
    if not layer.params.interleave:
        return net.blob(net.node("Concat", *[net.exact(blob) for blob in inputs], axis=axis))
    first = inputs[0]
    axis %= first.rank
    stacked = _stacked(net, inputs, axis + 1)
    lengths = (*first.shape[:axis], product([len(inputs), first.shape[axis]]), *first.shape[axis + 1 :])
    return net.blob(net.reshaped(stacked, lengths))


@layer("stack")
def stack(net: Network, layer: Layer, *inputs: Blob) -> Blob:
    """`StackLayerParams`: along a new axis."""
    if all(blob.scalar for blob in inputs):
        return net.blob(net.node("Concat", *[net.exact(blob) for blob in inputs], axis=0))
    return _stacked(net, inputs, int(layer.params.axis) % (inputs[0].rank + 1))


def _stacked(net: Network, inputs: Sequence[Blob], axis: int) -> Blob:
    axes = net.constant([axis])
    return net.blob(
        net.node("Concat", *[net.node("Unsqueeze", net.exact(blob), axes) for blob in inputs], axis=axis)
    )


@layer("split")
def split(net: Network, layer: Layer, x: Blob) -> list[Blob]:
    """`SplitLayerParams`: equal parts along the channels."""
    parts = int(layer.params.nOutputs)
    if parts != layer.outputs or not parts or product(x.shape[-3:-2]) % parts:
        raise layer.unsupported(f"a split of shape {x.shape} into {parts} parts for {layer.outputs} outputs")
    values = net.nodes("Split", [net.image(x)], parts, axis=1, num_outputs=parts)
    return [net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:])) for value in values]


@layer("splitND")
def split_nd(net: Network, layer: Layer, x: Blob) -> list[Blob]:
    """`SplitNDLayerParams`: along any axis, into parts of equal or given sizes."""
    params = layer.params
    axis = int(params.axis)
    sizes = [int(size) for size in params.splitSizes]
    parts = len(sizes) or int(params.numSplits)
    if parts != layer.outputs or not parts:
        raise layer.unsupported(f"a split into {parts} parts for {layer.outputs} outputs")
    if not sizes:
        # Where they cannot be equal the first parts are one longer, as numpy.array_split does it.
        length, longer = divmod(product(x.shape[axis : axis + 1 or None]), parts)
        sizes = [length + (index < longer) for index in range(parts)]
    values = net.nodes("Split", [net.exact(x), net.constant(sizes)], parts, axis=axis)
    return [net.blob(value) for value in values]


@layer("sequenceRepeat")
def sequence_repeat(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SequenceRepeatLayerParams`: copies along axis -5."""
    if x.rank < 5:
        raise layer.unsupported(f"an input of rank {x.rank} (5 is needed)")
    repeats = [1] * x.rank
    repeats[-5] = int(layer.params.nRepetitions) or 1
    return net.blob(net.node("Tile", net.exact(x), net.constant(repeats)))


@layer("tile")
def tile(net: Network, layer: Layer, x: Blob, repeats: Blob | None = None) -> Blob:
    """`TileLayerParams`: repetitions per axis, as a parameter or an input."""
    if repeats is not None:
        missing = net.constant([1] * (x.rank - repeats.size))
        given = net.node("Reshape", net.integers(repeats), net.constant([-1]))
        counted = net.node("Concat", missing, given, axis=0)
        return net.blob(net.node("Tile", net.exact(x), counted), (None,) * x.rank)
    counts = [int(count) for count in layer.params.reps]
    if not 1 <= len(counts) <= x.rank:
        raise layer.unsupported(f"{len(counts)} repetitions on an input of rank {x.rank}")
    counts = [1] * (x.rank - len(counts)) + counts
    return net.blob(net.node("Tile", net.exact(x), net.constant(counts)))
