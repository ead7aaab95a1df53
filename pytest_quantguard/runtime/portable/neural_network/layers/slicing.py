"""Taking parts of a tensor: slices, crops and windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, known, product
from pytest_quantguard.runtime.portable.neural_network.registry import Layer, layer, step_layer
from pytest_quantguard.runtime.portable.neural_network.spatial import border_amounts

_FIRST, _LAST = -(2**62), 2**62
"""ONNX clips these to the start and the end of an axis, whatever its size."""


@layer("slice")
def slice_axis(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SliceLayerParams`: along channels, height or width; negative indices count from the end."""
    params = layer.params
    axis = -3 + int(params.axis)
    if x.rank < -axis or not params.stride:
        raise layer.unsupported(f"a slice of an input of rank {x.rank} with stride {params.stride}")
    return _sliced(net, x, [int(params.startIndex)], [int(params.endIndex)], [axis], [int(params.stride)])


def _sliced(
    net: Network, x: Blob, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> Blob:
    bounds = [net.constant(list(values)) for values in (starts, ends, axes, steps)]
    return net.blob(net.node("Slice", net.exact(x), *bounds))


@layer("crop")
def crop(net: Network, layer: Layer, x: Blob, reference: Blob | None = None) -> Blob:
    """`CropLayerParams`: amounts per edge, or an offset and the size of a second input."""
    image = net.image(x)
    if reference is None:
        borders = border_amounts(layer, layer.params.cropAmounts)
        starts = [borders.height[0], borders.width[0]]
        ends = [-borders.height[1] or _LAST, -borders.width[1] or _LAST]
    else:
        starts = list(layer.pair(layer.params.offset, 0))
        ends = [start + size for start, size in zip(starts, known(reference.shape[-2:]), strict=True)]
    value = net.node("Slice", image, net.constant(starts), net.constant(ends), net.constant([2, 3]))
    if 0 in net.shape(value):
        raise layer.unsupported(f"a crop that leaves nothing of an input of shape {x.shape}")
    return net.blob(value, (*x.shape[:-3], *net.shape(value)[-3:]))


@layer("sliceStatic")
def slice_static(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SliceStaticLayerParams`: begin, end and stride per axis; masked ones are ignored."""
    params = layer.params
    begins, ends, steps = list(params.beginIds), list(params.endIds), list(params.strides)
    begin_masks, end_masks, squeezes = list(params.beginMasks), list(params.endMasks), list(params.squeezeMasks)
    squeezes = squeezes or [False] * x.rank
    if {len(values) for values in (begins, ends, steps, begin_masks, end_masks, squeezes)} != {x.rank}:
        raise layer.unsupported(f"parameters whose length is not the input's rank {x.rank}")
    if 0 in steps:
        raise layer.unsupported("a stride of 0")
    for axis, step in enumerate(steps):
        if squeezes[axis]:
            ends[axis], steps[axis] = begins[axis] + 1 or _LAST, 1
            continue
        if begin_masks[axis]:
            begins[axis] = _FIRST if step > 0 else _LAST
        if end_masks[axis]:
            ends[axis] = _LAST if step > 0 else _FIRST
    return _squeezed(net, _sliced(net, x, begins, ends, range(x.rank), steps), squeezes)


def _squeezed(net: Network, x: Blob, masks: Sequence[bool]) -> Blob:
    """Drop the masked axes; a Core ML tensor keeps at least one."""
    shape = tuple(size for size, mask in zip(x.shape, masks, strict=True) if not mask)
    return net.at_least_one(net.reshaped(x, shape), shape) if any(masks) else x


@layer("sliceDynamic")
def slice_dynamic(net: Network, layer: Layer, x: Blob, begin: Blob, *rest: Blob) -> Blob:
    """`SliceDynamicLayerParams`: begin is an input; end, strides and masks are inputs or parameters.

    With all seven inputs it is computed by `slice_squeezed`.
    """
    params = layer.params
    if len(rest) > 4:
        raise layer.unsupported("squeezeMasks as an input of a single graph")
    length = x.rank
    # coremltools writes five values where none are given, whatever the rank.
    squeezes = (list(params.squeezeMasks) or [False] * length)[:length]
    begin_masks = (list(params.beginMasks) or [False] * length)[:length]
    end_masks = (list(params.endMasks) or [False] * length)[:length]
    strides = (list(params.strides) or [1] * length)[:length]
    ends = net.integers(rest[0]) if rest else net.constant(list(params.endIds)[:length])
    steps = net.integers(rest[1]) if len(rest) > 1 else net.constant(strides)
    if {len(values) for values in (squeezes, begin_masks, end_masks, strides)} != {length}:
        raise layer.unsupported(f"parameters shorter than the input's rank {length}")
    starts = net.integers(begin)
    single = net.constant(np.array(squeezes))
    after = net.node("Add", starts, net.constant([1]))
    after = net.node("Where", net.node("Equal", after, net.constant([0])), net.constant([_LAST]), after)
    forward = net.node("Greater", steps, net.constant([0]))
    outer = net.node("Where", forward, net.constant([_LAST]), net.constant([_FIRST]))
    inner = net.node("Where", forward, net.constant([_FIRST]), net.constant([_LAST]))
    from_start = net.constant(np.array(begin_masks)) if len(rest) < 3 else _truth(net, rest[2])
    from_start = net.node("And", from_start, net.node("Not", single))
    to_end = net.constant(np.array(end_masks)) if len(rest) < 4 else _truth(net, rest[3])
    first = net.node("Where", from_start, inner, starts)
    last = net.node("Where", to_end, outer, ends)
    last = net.node("Where", single, after, last)
    steps = net.node("Where", single, net.constant([1]), steps)
    value = net.node("Slice", net.exact(x), first, last, net.constant(list(range(length))), steps)
    axes = [axis for axis, mask in enumerate(squeezes) if mask]
    if not axes:
        return net.blob(value, (None,) * length)
    if len(axes) == length:
        return net.blob(net.node("Reshape", value, net.constant([1])))
    return net.blob(net.node("Squeeze", value, net.constant(axes)), (None,) * (length - len(axes)))


def _truth(net: Network, mask: Blob) -> str:
    return net.node("Cast", net.exact(mask), to=ELEMENT_TYPES["bool"])


@step_layer("sliceDynamic")
def slice_squeezed(
    layer: Layer,
    x: NDArray[Any],
    begin: NDArray[Any],
    end: NDArray[Any],
    strides: NDArray[Any],
    begin_masks: NDArray[Any],
    end_masks: NDArray[Any],
    squeeze_masks: NDArray[Any],
) -> list[NDArray[Any]]:
    """`SliceDynamicLayerParams` with seven inputs: which dimensions are left depends on the last."""
    parts: list[int | slice] = []
    columns = (begin, end, strides, begin_masks, end_masks, squeeze_masks)
    if {column.size for column in columns} != {x.ndim}:
        raise layer.unsupported(f"an input whose length is not the first one's rank {x.ndim}")
    for start, stop, step, from_start, to_end, squeezed in zip(
        *(column.ravel() for column in columns), strict=True
    ):
        if squeezed:
            parts.append(int(start))
        else:
            parts.append(slice(None if from_start else int(start), None if to_end else int(stop), int(step)))
    return [np.ascontiguousarray(np.atleast_1d(x[tuple(parts)]))]


@layer("sliceBySize")
def slice_by_size(net: Network, layer: Layer, x: Blob, begin: Blob) -> Blob:
    """`SliceBySizeLayerParams`: a fixed size from a start that is an input."""
    size, axis = int(layer.params.size), int(layer.params.axis) % x.rank
    start = net.node("Reshape", net.integers(begin), net.constant([1]))
    end = net.node("Add", start, net.constant([size]))
    value = net.node("Slice", net.exact(x), start, end, net.constant([axis]))
    return net.blob(value, (*x.shape[:axis], size, *x.shape[axis + 1 :]))


@layer("slidingWindows")
def sliding_windows(net: Network, layer: Layer, x: Blob) -> Blob:
    """`SlidingWindowsLayerParams`: overlapping windows along a new axis."""
    params = layer.params
    axis = int(params.axis) % x.rank
    length, window, step = product(x.shape[axis : axis + 1]), int(params.windowSize), int(params.step)
    if not 1 <= window <= length or step < 1:
        raise layer.unsupported(f"a window of {window} with step {step} on a length of {length}")
    starts = np.arange((length - window) // step + 1) * step
    indices = starts[:, None] + np.arange(window)
    return net.blob(net.node("Gather", net.exact(x), net.constant(indices), axis=axis))
