"""Packing indices of 1 to 8 bits into bytes (specification: `WeightParams.rawValue`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_integers(values: NDArray[np.uint8], bits: int) -> bytes:
    """Pack unsigned integers of `bits` (1 to 8) bits one after the other, most significant bit first.

    Of each value the lowest `bits` bits are stored; the last byte is filled up with zeros.
    `models.neural_network_weights.unpack_integers` is the inverse.

    Source: `quantization_utils._convert_array_to_nbit_quantized_bytes`, which does it bit by bit.
    """
    values = values.ravel()
    if bits == 8:
        return values.tobytes()
    if bits == 1:
        return np.packbits(values & np.uint8(1)).tobytes()
    count = len(values)
    words: NDArray[Any] = np.zeros(-(-count // 8) * 8, np.uint8)
    np.bitwise_and(values, np.uint8(2**bits - 1), out=words[:count])
    # Two values become one of twice the bits, three times over: eight values fill `bits` bytes exactly.
    for width, dtype in ((bits, np.uint16), (2 * bits, np.uint32), (4 * bits, np.uint64)):
        pairs: NDArray[Any] = words.reshape(-1, 2).astype(dtype)
        words = (pairs[:, 0] << pairs.dtype.type(width)) | pairs[:, 1]
    octets = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - bits :]
    return octets.tobytes()[: -(-count * bits // 8)]
