"""Compressed weights (MIL families `constexpr_ops` of iOS 16 and `compression` of iOS 18), decoded with numpy.

The arithmetic is done in the types in which coremltools' own definitions do it, so that the result is equal bit
for bit. Blocks are handled by broadcasting instead of repeating.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import weight_operation
from pytest_quantguard.runtime.portable.ml_program.weight_files import unpack_bits

Array = NDArray[Any]


@weight_operation("constexpr_cast")
def cast(op: MilOperation) -> Array:
    """float16 weights as float32"""
    dtype = op.text("output_dtype")
    if dtype != "fp32":
        op.refuse(f"output_dtype '{dtype}'")
    return op.constant("source_val").astype(np.float32)


@weight_operation("constexpr_affine_dequantize")
def affine_dequantize(op: MilOperation) -> Array:
    """scale * (quantized_data - zero_point), scale and zero point per tensor or along an axis (iOS 16)"""
    data = op.constant("quantized_data")
    axis = op.axis("axis", data.ndim)
    scale = _along_axis(op.constant("scale"), data, axis)
    zero_point = _along_axis(op.constant("zero_point"), data, axis)
    values = data.astype(np.float32)
    values -= zero_point.astype(np.float32)
    values *= scale
    return values.astype(scale.dtype, copy=False)


@weight_operation("constexpr_blockwise_shift_scale")
def blockwise_shift_scale(op: MilOperation) -> Array:
    """scale * (data - offset), scale and offset per block (iOS 18)"""
    offset = op.constant("offset") if op.has("offset") else None
    return shift_scale(op, op.constant("data"), op.constant("scale"), offset)


@weight_operation("constexpr_lut_to_dense")
def lut_to_dense(op: MilOperation) -> Array:
    """Indices replaced by values of a lookup table

    iOS 16: packed indices into one table. iOS 18: a table of scalars or vectors per block.
    """
    lut, indices = op.constant("lut"), op.constant("indices")
    if op.has("shape"):
        shape = tuple(op.integers("shape"))
        bits = _bits(op, lut.size)
        count = math.prod(shape)
        if indices.size != -(-count * bits // 8):
            raise ModelFileError(
                f"{op} has {indices.size} bytes of indices for shape {shape}; the model is damaged."
            )
        return np.asarray(lut[unpack_bits(indices, bits, count)].reshape(shape))
    return look_up(op, indices, lut, op.integer("vector_axis") if op.has("vector_axis") else None)


@weight_operation("constexpr_sparse_to_dense")
def sparse_to_dense(op: MilOperation) -> Array:
    """The values where the mask is set, zero elsewhere; iOS 16 has a packed mask, iOS 18 one of type uint1"""
    mask = op.constant("mask")
    if op.has("shape"):
        shape = tuple(op.integers("shape"))
        if mask.size != -(-math.prod(shape) // 8):
            raise ModelFileError(f"{op} has {mask.size} bytes of mask for shape {shape}; the model is damaged.")
        mask = unpack_bits(mask, 1, math.prod(shape)).reshape(shape)
    return fill_mask(op, op.constant("nonzero_data"), mask)


@weight_operation("constexpr_lut_to_sparse")
def lut_to_sparse(op: MilOperation) -> tuple[Array, Array]:
    """Lookup tables over sparse indices (iOS 18): the mask of the values, and the values"""
    mask, lut = op.constant("indices_mask"), op.constant("lut")
    axis = op.integer("vector_axis") if op.has("vector_axis") else None
    dense = look_up(op, fill_mask(op, op.constant("indices_nonzero_data"), mask), lut, axis)
    if axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis)
    return mask, dense[mask != 0]


@weight_operation("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise_shift_scale(op: MilOperation) -> tuple[Array, Array]:
    """scale * (data - offset) over sparse data (iOS 18): the mask of the values, and the values"""
    mask = op.constant("data_mask")
    offset = op.constant("offset") if op.has("offset") else None
    data = fill_mask(op, op.constant("nonzero_data"), mask)
    return mask, shift_scale(op, data, op.constant("scale"), offset)[mask != 0]


def shift_scale(op: MilOperation, data: Array, scale: Array, offset: Array | None) -> Array:
    """scale * (data - offset); scale and offset have one value per block of the data."""
    blocks = _blocks(op, data.shape, scale.shape)
    values = data.astype(scale.dtype).reshape([size for pair in blocks for size in pair])
    spread = [size for count, _ in blocks for size in (count, 1)]
    if offset is not None:
        if offset.shape != scale.shape:
            raise ModelFileError(f"{op} has an offset of shape {offset.shape}; the model is damaged.")
        values = values - offset.reshape(spread)
    return np.asarray((scale.reshape(spread) * values).reshape(data.shape))


def look_up(op: MilOperation, indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """Replace indices by values of a lookup table.

    Args:
        op: for messages.
        indices: whole numbers of any shape.
        lut: shape (*blocks, palettes, vector size); the blocks divide the shape of the indices.
        vector_axis: the axis of the result along which a vector is laid out.
    """
    if lut.ndim != indices.ndim + 2:
        raise ModelFileError(f"{op} has a lookup table of shape {lut.shape}; the model is damaged.")
    palettes, vector_size = lut.shape[-2:]
    if indices.size and int(indices.max()) >= palettes:
        raise ModelFileError(f"{op} has indices past the end of its lookup table; the model is damaged.")
    blocks = _blocks(op, indices.shape, lut.shape[:-2])
    rows = indices
    if math.prod(lut.shape[:-2]) > 1:
        tables = np.arange(math.prod(lut.shape[:-2])).reshape([size for count, _ in blocks for size in (count, 1)])
        spread = indices.reshape([size for pair in blocks for size in pair])
        rows = (tables * palettes + spread).reshape(indices.shape)
    if vector_size == 1:
        return np.asarray(lut.reshape(-1)[rows])
    if vector_axis is None or not -indices.ndim <= vector_axis < indices.ndim:
        raise ModelFileError(f"{op} has vectors in its lookup table, but no axis for them; the model is damaged.")
    axis = vector_axis % indices.ndim
    vectors = np.moveaxis(lut.reshape(-1, vector_size)[rows], -1, axis + 1)
    shape = list(indices.shape)
    shape[axis] *= vector_size
    return np.asarray(vectors.reshape(shape))


def fill_mask(op: MilOperation, nonzero: Array, mask: Array) -> Array:
    """An array of the mask's shape with the given values, in order, where the mask is set."""
    places = mask != 0
    if int(np.count_nonzero(places)) != nonzero.size:
        raise ModelFileError(f"{op} has {nonzero.size} values for another number of places; the model is damaged.")
    dense = np.zeros(mask.shape, nonzero.dtype)
    dense[places] = nonzero.reshape(-1)
    return dense


def _blocks(op: MilOperation, shape: tuple[int, ...], blocks: tuple[int, ...]) -> list[tuple[int, int]]:
    """Number and size of the blocks along each dimension."""
    if len(shape) != len(blocks) or any(
        not count or size % count for size, count in zip(shape, blocks, strict=True)
    ):
        raise ModelFileError(f"{op} divides shape {shape} into {blocks} blocks; the model is damaged.")
    return [(count, size // count) for size, count in zip(shape, blocks, strict=True)]


def _along_axis(parameter: Array, data: Array, axis: int) -> Array:
    """A scalar or vector shaped to broadcast along an axis of the data."""
    if parameter.ndim == data.ndim:
        return parameter
    shape = [1] * data.ndim
    if parameter.ndim:
        shape[axis] = parameter.size
    return parameter.reshape(shape)


def _bits(op: MilOperation, palettes: int) -> int:
    bits = palettes.bit_length() - 1
    if palettes != 2**bits or not 1 <= bits <= 8:
        raise ModelFileError(f"{op} has a lookup table of {palettes} values; the model is damaged.")
    return bits
