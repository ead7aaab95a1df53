"""Decoding the weights of neural network layers (specification: `WeightParams`)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError


def decode_weights(
    weights: Any, shape: Sequence[int], *, axis: int = 0, name: str = "weights"
) -> NDArray[np.float32]:
    """Decode a `WeightParams` message into float32 values of `shape`.

    Float32, float16 and quantized values (1 to 8 bits; linear or lookup table; raw int8 with a scale) are decoded
    as coremltools does (`quantization_utils._dequantize_nn_spec`), bit for bit. `int8DynamicQuantize` layers also
    quantize their input at run time on Apple's engine; that is not part of the weights.

    Args:
        weights: the message.
        shape: what the layer says of the weights, for instance (output channels, input channels, height, width).
        axis: the axis that scales and biases per channel belong to (1 for a deconvolution).
        name: what to call the weights in an error.

    Raises:
        ModelFileError: the message holds fewer or more values than `shape`, or contradicts itself.
    """
    shape = tuple(int(size) for size in shape)
    count = math.prod(shape)
    if len(weights.floatValue):
        values = _counted(np.array(weights.floatValue, np.float32), count, name)
        return values.reshape(shape)
    if weights.float16Value:
        values = _counted(_buffer(weights.float16Value, "<f2", name), count, name)
        return values.astype(np.float32).reshape(shape)
    if weights.int8RawValue:
        integers = _counted(_buffer(weights.int8RawValue, "i1", name), count, name)
        return _linear(integers.reshape(shape), weights.quantization.linearQuantization, axis, name)
    if weights.rawValue:
        return _quantized(weights, shape, axis, name)
    if count == 0:
        return np.zeros(shape, np.float32)
    raise ModelFileError(f"{name}: there are no values; export the model again.")


def replace_floats(weights: Any, values: NDArray[Any]) -> None:
    """Set the float32 values of a `WeightParams` message.

    `floatValue.extend` takes values one by one; the message's own encoding of them is copied at once: the field's
    tag, the length in bytes as a varint (seven bits per byte, lowest first), and little-endian values.
    """
    data = np.asarray(values).astype("<f4").tobytes()
    length = len(data)
    header = [weights.FLOATVALUE_FIELD_NUMBER << 3 | 2]
    while length > 127:
        header.append(length & 127 | 128)
        length >>= 7
    del weights.floatValue[:]
    weights.MergeFromString(bytes([*header, length]) + data)


def holds_values(weights: Any) -> bool:
    """Whether a `WeightParams` message holds any value."""
    return bool(len(weights.floatValue) or weights.float16Value or weights.rawValue or weights.int8RawValue)


def unpack_integers(packed: bytes, count: int, bits: int, *, name: str = "weights") -> NDArray[np.uint8]:
    """Unpack `count` unsigned integers of `bits` (1 to 8) bits; the first bit is the most significant one.

    Source: `quantization_utils._unpack_to_bytes`, which does it value by value.
    """
    data = np.frombuffer(packed, np.uint8)
    if len(data) != (count * bits + 7) // 8:
        raise ModelFileError(
            f"{name}: {len(data)} bytes do not hold {count} values of {bits} bits; export the model again."
        )
    if bits == 8:
        return data
    if bits == 1:
        return np.unpackbits(data, count=count)
    groups = -(-count // 8)  # eight values fill `bits` bytes exactly
    octets = np.zeros((groups, 8), np.uint8)
    filled = np.zeros(groups * bits, np.uint8)
    filled[: len(data)] = data
    octets[:, 8 - bits :] = filled.reshape(groups, bits)
    words: NDArray[Any] = octets.view(">u8").astype(np.uint64)[:, 0]
    # One value becomes two of half the bits, three times over.
    for width, dtype in ((4 * bits, np.uint32), (2 * bits, np.uint16), (bits, np.uint8)):
        mask = words.dtype.type(2**width - 1)
        words = np.stack([(words >> words.dtype.type(width)).astype(dtype), (words & mask).astype(dtype)], axis=1)
        words = words.ravel()
    return words[:count]


def _quantized(weights: Any, shape: tuple[int, ...], axis: int, name: str) -> NDArray[np.float32]:
    quantization = weights.quantization
    bits = quantization.numberOfBits
    if not 1 <= bits <= 8:
        raise ModelFileError(f"{name}: {bits} bits per value do not exist; export the model again.")
    integers = unpack_integers(weights.rawValue, math.prod(shape), bits, name=name).reshape(shape)
    if quantization.WhichOneof("QuantizationType") == "linearQuantization":
        return _linear(integers, quantization.linearQuantization, axis, name)
    table = np.array(quantization.lookupTableQuantization.floatValue, np.float32)
    if len(table) != 2**bits:
        raise ModelFileError(
            f"{name}: the lookup table has {len(table)} values where {bits} bits need {2**bits}; export the model "
            "again."
        )
    return table[integers]


def _linear(integers: NDArray[Any], parameters: Any, axis: int, name: str) -> NDArray[np.float32]:
    """Integer times scale plus bias, in double precision as coremltools computes it, then rounded once."""
    scale = _per_channel(parameters.scale, integers.shape, axis, name)
    bias = _per_channel(parameters.bias or [0.0], integers.shape, axis, name)
    result: NDArray[np.float32] = (integers.astype(np.float64) * scale + bias).astype(np.float32)
    return result


def _per_channel(values: Sequence[float], shape: tuple[int, ...], axis: int, name: str) -> NDArray[np.float64]:
    array = np.array(values, np.float64)
    if len(array) == 1:
        return array
    if not shape or len(array) != shape[axis]:
        raise ModelFileError(
            f"{name}: {len(array)} scales or biases do not fit the shape {shape}; export the model again."
        )
    return array.reshape([len(array) if index == axis else 1 for index in range(len(shape))])


def _buffer(data: bytes, dtype: str, name: str) -> NDArray[Any]:
    if len(data) % np.dtype(dtype).itemsize:
        raise ModelFileError(f"{name}: {len(data)} bytes hold no whole number of values; export the model again.")
    return np.frombuffer(data, dtype)


def _counted(values: NDArray[Any], count: int, name: str) -> NDArray[Any]:
    if len(values) != count:
        raise ModelFileError(
            f"{name}: {len(values)} values where the layer needs {count}; export the model again."
        )
    return values
