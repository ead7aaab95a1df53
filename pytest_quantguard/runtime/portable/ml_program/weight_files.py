"""Reading the weight files of an ML program (blob storage, version 2).

The format, as coremltools' writer produces it (mlmodel/src/MILBlob/Blob/StorageFormat.hpp): a header of 64 bytes
(count, version), then per tensor a record of 64 bytes (sentinel, data type, bytes, offset of the data) and its
data, each aligned to 64 bytes, little-endian. The program names a tensor by file and the offset of its record.
"""

import math
import struct
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.mil_types import NUMPY_TYPES, SUB_BYTE_BITS

HEADER = struct.Struct("<II")
VERSION = 2
RECORD = struct.Struct("<IIQQ")
SENTINEL = 0xDEADBEEF

# MILBlob/Blob/BlobDataType.hpp
BLOB_TYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    5: "bf16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}

MODEL_PATH = "@model_path"
WEIGHTS = "weights"


class WeightFiles:
    """The weight files of one program; each is mapped into memory when it is first used."""

    def __init__(self, weights_dir: Path | None) -> None:
        self.weights_dir = weights_dir
        self._mapped: dict[str, NDArray[np.uint8]] = {}

    def read(self, file_name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Read one tensor.

        Args:
            file_name: as the program names it, for instance `@model_path/weights/weight.bin`.
            offset: where the tensor's record starts, in bytes.
            dtype: the MIL type that the program declares.
            shape: the shape that the program declares.

        Returns:
            An array of the numpy type of `mil_types.NUMPY_TYPES`; a read-only view where no unpacking is needed.

        Raises:
            ModelFileError: the file is missing, lies outside the package, is damaged, or holds another tensor.
        """
        data = self._file(file_name)
        where = f"The tensor at byte {offset} of {file_name}"
        if offset + RECORD.size > data.size:
            raise ModelFileError(f"{where} lies past the end of the file; the package is damaged.")
        sentinel, type_number, size, start = RECORD.unpack_from(data.data, offset)
        if sentinel != SENTINEL:
            raise ModelFileError(f"{where} has no valid record; the package is damaged.")
        if BLOB_TYPES.get(type_number) != dtype:
            stored = BLOB_TYPES.get(type_number, f"type number {type_number}")
            raise ModelFileError(f"{where} is stored as {stored}, but the program declares {dtype}.")
        if start + size > data.size:
            raise ModelFileError(f"{where} is cut off; the package is damaged.")
        return from_bytes(data[start : start + size], dtype, shape, where)

    def _file(self, file_name: str) -> NDArray[np.uint8]:
        if file_name not in self._mapped:
            self._mapped[file_name] = self._map(self._path(file_name))
        return self._mapped[file_name]

    def _path(self, file_name: str) -> Path:
        if self.weights_dir is None:
            raise ModelFileError(f"The model names the weight file {file_name}, but has no folder of weights.")
        parts = [part for part in PurePosixPath(file_name).parts if part != MODEL_PATH]
        if parts[:1] == [WEIGHTS]:
            parts = parts[1:]
        folder = self.weights_dir.resolve()
        try:
            path = folder.joinpath(*parts).resolve()
            missing = not path.is_file()
        except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
            raise ModelFileError(f"The model names a weight file that cannot be ({file_name}).") from error
        if not path.is_relative_to(folder):
            raise ModelFileError(
                f"The model names a weight file outside its package ({file_name}); do not use it."
            )
        if missing:
            raise ModelFileError(f"The weight file {file_name} is missing in {folder}; export the model again.")
        return path

    def _map(self, path: Path) -> NDArray[np.uint8]:
        if path.stat().st_size < HEADER.size:
            raise ModelFileError(f"{path} is too short for a weight file; export the model again.")
        data = np.memmap(path, np.uint8, "r")
        if HEADER.unpack_from(data.data)[1] != VERSION:
            raise ModelFileError(f"{path} is no weight file of version {VERSION}; export the model again.")
        return data


def from_bytes(data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Interpret bytes as a tensor of a MIL type; values narrower than a byte are packed low bits first.

    Raises:
        ModelFileError: the number of bytes does not fit the shape, or the type is not readable.
    """
    if dtype not in NUMPY_TYPES:
        raise ModelFileError(f"{where} is of type {dtype}, which cannot be read.")
    count = math.prod(shape)
    bits = SUB_BYTE_BITS.get(dtype, 8 * np.dtype(NUMPY_TYPES[dtype]).itemsize)
    if data.size != -(-count * bits // 8):
        raise ModelFileError(f"{where} has {data.size} bytes, which does not fit {dtype} of shape {shape}.")
    if dtype not in SUB_BYTE_BITS:
        little_endian = np.dtype(NUMPY_TYPES[dtype]).newbyteorder("<")
        return data.view(little_endian).reshape(shape)
    values = unpack_bits(data, bits, count)
    if dtype == "int4":
        values = ((values ^ 8).astype(np.int8) - 8).astype(np.int8)
    return values.reshape(shape)


def unpack_bits(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Unpack `count` unsigned values of 1 to 8 bits, stored low bits first without gaps."""
    if bits == 8:
        return np.asarray(data[:count])
    # The smallest group of whole bytes that holds whole values: 3 bytes hold four 6-bit values.
    group_bytes = math.lcm(bits, 8) // 8
    padded = np.zeros(-(-data.size // group_bytes) * group_bytes, np.uint8)
    padded[: data.size] = data
    words = np.zeros(padded.size // group_bytes, np.uint32)
    for index in range(group_bytes):
        words |= padded[index::group_bytes].astype(np.uint32) << np.uint32(8 * index)
    per_group = 8 * group_bytes // bits
    values = np.empty((words.size, per_group), np.uint8)
    for index in range(per_group):
        values[:, index] = (words >> np.uint32(bits * index)) & np.uint32(2**bits - 1)
    return values.reshape(-1)[:count]
