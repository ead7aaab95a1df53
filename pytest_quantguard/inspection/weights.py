"""How a model stores its weights: how many tensors of which type, and their bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_quantguard.runtime.portable.ml_program.mil_types import DATA_TYPES
from pytest_quantguard.schemes.kinds import NETWORKS, PROGRAM
from pytest_quantguard.schemes.network_tensors import network_tensor, weight_params
from pytest_quantguard.schemes.program_tensors import all_operations, program_tensors, shape_of
from pytest_quantguard.schemes.tensor import Tensor


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of one stored type.

    Args:
        type: for instance `float32`, `8-bit linear`, `4-bit lookup table`, `sparse float16`.
        tensors: how many.
        weights: values in them.
        size_bytes: what they take, lookup tables, scales and masks included.
    """

    type: str
    tensors: int
    weights: int
    size_bytes: int


def stored_weights(spec: Any) -> list[StoredWeights]:
    """The weights of a neural network or an ML program by stored type, the most bytes first; else none.

    Functions of a package that share their weights are counted one by one.
    """
    found: dict[str, list[Tensor]] = {}
    for stored, tensor in _tensors(spec):
        found.setdefault(stored, []).append(tensor)
    groups = [
        StoredWeights(
            stored,
            len(tensors),
            sum(tensor.weights for tensor in tensors),
            sum(tensor.bits for tensor in tensors) // 8,
        )
        for stored, tensors in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.size_bytes, group.type))


def _tensors(spec: Any) -> Iterator[tuple[str, Tensor]]:
    kind = spec.WhichOneof("Type")
    if kind in NETWORKS:
        for layer in getattr(spec, kind).layers:
            parameters = getattr(layer, layer.WhichOneof("layer") or "", None)
            for name, weights in weight_params(parameters, layer.name) if parameters is not None else ():
                tensor = network_tensor(name, weights, parameters)
                if tensor.weights:
                    yield _network_type(weights), tensor
    elif kind == PROGRAM:
        types = _Types(spec.mlProgram)
        for tensor in program_tensors(spec.mlProgram):
            yield types.stored(tensor), tensor


def _network_type(weights: Any) -> str:
    """`WeightParams`"""
    if len(weights.floatValue):
        return "float32"
    if weights.float16Value:
        return "float16"
    quantization = weights.quantization
    bits = quantization.numberOfBits or 8
    if weights.int8RawValue:
        return f"{bits}-bit linear, inputs quantized at run time"
    table = quantization.WhichOneof("QuantizationType") == "lookupTableQuantization"
    return f"{bits}-bit lookup table" if table else f"{bits}-bit linear"


class _Types:
    """Names the stored types of an ML program's tensors."""

    def __init__(self, program: Any) -> None:
        self._producers = {
            output.name: operation for operation in all_operations(program) for output in operation.outputs
        }

    def stored(self, tensor: Tensor) -> str:
        """The stored type of a tensor: of a chain of `constexpr_*` operations what each of them adds."""
        if tensor.storage != "quantized":
            return tensor.storage
        found: dict[str, str] = {}
        waiting = [self._producers[tensor.name]]
        while waiting:
            operation = waiting.pop()
            found.update(self._part(operation))
            bound = [binding.name for value in operation.inputs.values() for binding in value.arguments]
            waiting += [
                self._producers[name]
                for name in bound
                if name in self._producers and self._producers[name].type.startswith("constexpr_")
            ]
        if {"table", "linear"} & set(found):
            found.pop("float", None)  # what a sparse tensor unpacks to
        parts = [found[part] for part in ("table", "linear", "float", "scale") if part in found]
        return ("sparse " if "sparse" in found else "") + ", ".join(parts)

    def _part(self, operation: Any) -> Iterator[tuple[str, str]]:
        """What one operation adds, with the parameter that holds the data (iOS 16 and iOS 18 names)."""
        name = operation.type.removeprefix("constexpr_")
        if "sparse" in name:
            yield "sparse", "sparse"
        if name.startswith("lut_to"):
            bits, length = self._table(operation)
            yield "table", f"{bits}-bit lookup table" + (f" of vectors of {length}" if length > 1 else "")
        if name in ("affine_dequantize", "blockwise_shift_scale", "sparse_blockwise_shift_scale"):
            parameter = {"affine_dequantize": "quantized_data", "blockwise_shift_scale": "data"}
            dtype = self._dtype(operation, parameter.get(name, "nonzero_data"))
            if "int" in dtype:
                yield "linear", f"{dtype.removeprefix('u').removeprefix('int')}-bit linear"
            else:
                yield "scale", "scaled"
        if name in ("sparse_to_dense", "cast"):
            dtype = self._dtype(operation, "nonzero_data" if name == "sparse_to_dense" else "source_val")
            if dtype.startswith("fp"):
                yield "float", dtype.replace("fp", "float")

    def _table(self, operation: Any) -> tuple[int, int]:
        """Bits per index and length of the vectors of a lookup table.

        Its shape is (entries) before iOS 18, then (..., entries, length of a vector).
        """
        shape = shape_of(self._value_type(operation, "lut"))
        entries, length = (shape[0], 1) if len(shape) == 1 else shape[-2:]
        return entries.bit_length() - 1, length

    def _dtype(self, operation: Any, parameter: str) -> str:
        return DATA_TYPES.get(self._value_type(operation, parameter).tensorType.dataType, "")

    def _value_type(self, operation: Any, parameter: str) -> Any:
        if parameter in operation.attributes:
            return operation.attributes[parameter].type
        binding = operation.inputs[parameter].arguments[0]
        if binding.WhichOneof("binding") == "value":
            return binding.value.type
        producer = self._producers[binding.name]
        return next(output.type for output in producer.outputs if output.name == binding.name)
