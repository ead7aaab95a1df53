"""Compile-time values of MIL (MIL.proto, message `Value`) as numpy arrays and Python values."""

import math
from typing import Any

import numpy as np

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.mil_types import NUMPY_TYPES, TensorType, read_tensor_type
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles, from_bytes


def read_value(value: Any, files: WeightFiles) -> Any:
    """Read a `Value` message.

    Returns:
        A tensor as numpy array (strings as an array of objects; of rank 0 as `str`); a list as list, a tuple as
        tuple, a dictionary as dict.

    Raises:
        ModelFileError: the value contradicts its declared type, or its weight file cannot be read.
    """
    tensor_type = read_tensor_type(value.type)
    if value.WhichOneof("value") == "blobFileValue":
        if tensor_type is None:
            raise ModelFileError("A weight file is named for a value that is no tensor; the model is damaged.")
        blob = value.blobFileValue
        return files.read(blob.fileName, blob.offset, tensor_type.dtype, _static_shape(tensor_type))
    immediate = value.immediateValue
    kind = immediate.WhichOneof("value")
    if kind == "tensor" and tensor_type is not None:
        return _read_tensor(immediate.tensor, tensor_type)
    if kind == "list":
        return [read_value(entry, files) for entry in immediate.list.values]
    if kind == "tuple":
        return tuple(read_value(entry, files) for entry in immediate.tuple.values)
    if kind == "dictionary":
        entries = immediate.dictionary.values
        return {_key(read_value(entry.key, files)): read_value(entry.value, files) for entry in entries}
    raise ModelFileError("A constant of the program has no value; the model is damaged.")


def _read_tensor(tensor: Any, tensor_type: TensorType) -> Any:
    shape = _static_shape(tensor_type)
    kind = tensor.WhichOneof("value")
    if kind is None:
        raise ModelFileError("A constant of the program has no value; the model is damaged.")
    values = getattr(tensor, kind).values
    where = "A constant of the program"
    if kind == "bytes":
        return from_bytes(np.frombuffer(values, np.uint8), tensor_type.dtype, shape, where)
    if len(values) != math.prod(shape):
        raise ModelFileError(f"{where} has {len(values)} values, which does not fit its shape {shape}.")
    if kind == "strings":
        return str(values[0]) if shape == () else np.array(list(values), object).reshape(shape)
    if tensor_type.dtype not in NUMPY_TYPES:
        raise ModelFileError(f"{where} is of type {tensor_type.dtype}, which cannot be read.")
    # int8 to uint16 arrive as int32: cast, since numpy refuses to build them from wider Python numbers.
    return np.array(values).astype(NUMPY_TYPES[tensor_type.dtype]).reshape(shape)


def _static_shape(tensor_type: TensorType) -> tuple[int, ...]:
    shape = tensor_type.shape
    if shape is None or None in shape:
        raise ModelFileError("A constant of the program has an unknown shape; the model is damaged.")
    return tuple(int(size) for size in shape if size is not None)


def _key(key: Any) -> Any:
    return key.item() if isinstance(key, np.ndarray) else key
