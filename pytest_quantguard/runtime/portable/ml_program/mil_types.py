"""The data types of MIL and what the portable engine computes them as.

Source: MIL.proto, messages `DataType` and `TensorType`. Names are those of the MIL text format.
"""

from dataclasses import dataclass
from typing import Any

DATA_TYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    12: "fp64",
    13: "bf16",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
"""MIL's names by `DataType` number."""

NUMPY_TYPES = {
    "bool": "bool",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "int4": "int8",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "uint1": "uint8",
    "uint2": "uint8",
    "uint3": "uint8",
    "uint4": "uint8",
    "uint6": "uint8",
}
"""The numpy type that holds a constant of each MIL type; types narrower than a byte are unpacked into bytes."""

SUB_BYTE_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}

# float16 is computed in float32. MIL computes with int32 only: the narrower integers are for storing and
# indexing, so int32 holds them without loss. uint32 holds sizes and factors.
COMPUTED_TYPES = {
    "bool": "bool",
    "fp16": "float32",
    "fp32": "float32",
    **dict.fromkeys(("int8", "int16", "int32", "int4", "uint8", "uint16", "uint32"), "int32"),
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint4", "uint6"), "int32"),
}
"""The ONNX element type (a numpy name) that the engine computes each MIL type as."""


@dataclass(frozen=True)
class TensorType:
    """Type of a MIL tensor.

    Args:
        dtype: MIL's name of the element type, for instance `fp16`.
        shape: None for a tensor of unknown rank; a dimension is None when it is known at run time only.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


def read_tensor_type(value_type: Any) -> TensorType | None:
    """Read a `ValueType` message; None when it is no tensor (a tuple, a dictionary, a state).

    A list of tensors is a tensor of one more dimension here, with an element per row. The number of rows is open,
    since coremltools writes the initial length of a list as its type, also of one that grows.
    """
    kind = value_type.WhichOneof("type")
    if kind == "listType":
        element = read_tensor_type(value_type.listType.type)
        if element is None or element.shape is None:
            return element
        return TensorType(element.dtype, (None, *element.shape))
    if kind != "tensorType":
        return None
    tensor = value_type.tensorType
    dtype = DATA_TYPES.get(tensor.dataType, f"type number {tensor.dataType}")
    if tensor.rank < 0 or any(_is_variadic(dimension) for dimension in tensor.dimensions):
        return TensorType(dtype, None)
    return TensorType(dtype, tuple(_size(dimension) for dimension in tensor.dimensions))


def _is_variadic(dimension: Any) -> bool:
    return dimension.WhichOneof("dimension") == "unknown" and bool(dimension.unknown.variadic)


def _size(dimension: Any) -> int | None:
    return int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else None
