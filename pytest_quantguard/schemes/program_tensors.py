"""The weight tensors of an ML program: floating-point constants and `constexpr_*` operations."""

import math
import re
from collections.abc import Iterator
from typing import Any

from pytest_quantguard.schemes.tensor import ALREADY_QUANTIZED, DECLINED, ONE_DIMENSIONAL, SMALL, Tensor

# Default of `weight_threshold` in coremltools.optimize.coreml: only tensors with more weights are compressed.
THRESHOLD = 2048
# Inputs of constexpr operations that describe the weights without being part of them.
_DESCRIPTIVE = ("name", "shape", "axis", "vector_axis")


def program_tensors(program: Any) -> list[Tensor]:
    """The tensors of a MIL `Program` message, in the order of its operations.

    A constant counts if it is of a floating-point type and at least one-dimensional. Of a chain of `constexpr_*`
    operations the last counts, with the bits of everything that goes into the chain.
    """
    operations = list(all_operations(program))
    producers = {output.name: operation for operation in operations for output in operation.outputs}
    consumed = {
        binding.name
        for operation in operations
        if _is_constexpr(operation)
        for argument in operation.inputs.values()
        for binding in argument.arguments
    }
    found = []
    for operation in operations:
        if (operation.type == "const" or _is_constexpr(operation)) and operation.outputs[-1].name not in consumed:
            tensor = _tensor(operation, producers)
            if tensor:
                found.append(tensor)
    return found


def all_operations(program: Any) -> Iterator[Any]:
    """The operations of each function's block that is used, and of the blocks inside them."""
    for function in program.functions.values():
        block = function.block_specializations.get(function.opset)
        blocks = [block] if block else []
        while blocks:
            for operation in blocks.pop().operations:
                yield operation
                blocks += operation.blocks


def _tensor(operation: Any, producers: dict[str, Any]) -> Tensor | None:
    output = operation.outputs[-1]
    kind, dimensions = element_type(output.type), shape_of(output.type)
    weights = math.prod(dimensions)
    if "FLOAT" not in kind or not dimensions or not weights:
        return None
    if operation.type != "const":
        bits = _stored_bits(operation, producers)
        return Tensor(output.name, weights, bits, "quantized", ALREADY_QUANTIZED)
    reason = ONE_DIMENSIONAL if len(dimensions) == 1 else SMALL if weights <= THRESHOLD else DECLINED
    width = _width(kind)
    return Tensor(output.name, weights, weights * width, "float32" if width > 16 else "float16", reason)


def _stored_bits(operation: Any, producers: dict[str, Any]) -> int:
    """The bits of all values that go into a constexpr operation, in whole bytes per value as they are stored.

    A value that two operations share, as the mask of sparse weights, counts once.
    """
    total = 0
    waiting, seen, files = [operation], set(), set()
    while waiting:
        operation = waiting.pop()
        total += sum(_value_bits(value) for name, value in operation.attributes.items() if _is_data(name))
        for name, argument in operation.inputs.items():
            for binding in argument.arguments if _is_data(name) else []:
                if binding.WhichOneof("binding") == "value":
                    place = (binding.value.blobFileValue.fileName, binding.value.blobFileValue.offset)
                    if place not in files:
                        total += _value_bits(binding.value)
                    files |= {place} if place[0] else set()
                    continue
                # Two inputs may be outputs of one operation: weights and their mask.
                producer = producers.get(binding.name)
                if producer is not None and producer.outputs[0].name not in seen:
                    seen.add(producer.outputs[0].name)
                    waiting.append(producer)
    return total


def _is_data(name: str) -> bool:
    return name not in _DESCRIPTIVE


def _value_bits(value: Any) -> int:
    return 8 * math.ceil(math.prod(shape_of(value.type)) * _width(element_type(value.type)) / 8)


def _is_constexpr(operation: Any) -> bool:
    return bool(operation.type.startswith("constexpr_"))


def element_type(value_type: Any) -> str:
    """The name of a tensor's element type, for instance `FLOAT16`; empty for what is no tensor or unknown."""
    from coremltools.proto import MIL_pb2

    if value_type.WhichOneof("type") != "tensorType":
        return ""
    known = MIL_pb2.DataType.DESCRIPTOR.values_by_number
    number = value_type.tensorType.dataType
    return str(known[number].name) if number in known else ""


def is_float(value_type: Any) -> bool:
    """Whether a `ValueType` is a tensor of a floating-point type."""
    return "FLOAT" in element_type(value_type)


def shape_of(value_type: Any) -> tuple[int, ...]:
    """The shape of a `ValueType` that is a tensor."""
    return tuple(int(dimension.constant.size) for dimension in value_type.tensorType.dimensions)


def _width(data_type: str) -> int:
    """Bits per element: the first number in the type's name; truth values and text count as a byte."""
    number = re.search(r"\d+", data_type)
    return int(number[0]) if number else 8
