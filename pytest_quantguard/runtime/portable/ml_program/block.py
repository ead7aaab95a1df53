"""Translating the operations of a MIL block."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.constants import read_value
from pytest_quantguard.runtime.portable.ml_program.folding import evaluate
from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES, read_tensor_type
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops import DECODERS, WRITERS
from pytest_quantguard.runtime.portable.ml_program.registry import NESTED_BLOCKS, UNFOLDABLE
from pytest_quantguard.runtime.portable.ml_program.scope import Scope, Value, constant_value
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles

# Larger results are left to onnxruntime, so that a small program cannot fill the memory while it is translated.
MAX_FOLDED_ELEMENTS = 1_000_000

# The condition of a loop is translated twice, a loop in it four times, and so on; real programs stay far below.
MAX_OPERATIONS = 300_000

# What an operation becomes: the ONNX name of a node, or an array known now.
Result = str | NDArray[Any]


class BlockTranslator:
    """Translates the operations of a block one after the other.

    `probabilities` becomes the tensor that the operation `classify` labels.
    """

    def __init__(self, scope: Scope, files: WeightFiles, opset: int) -> None:
        self.scope = scope
        self.files = files
        self.opset = opset
        self.probabilities: Value | None = None

    def add(self, message: Any) -> None:
        """Translate one `Operation` message.

        Raises:
            UnsupportedModelError: the operation, one of its parameters or their values are not supported.
            ModelFileError: the operation refers to something that does not exist.
        """
        if next(self.scope.numbers) >= MAX_OPERATIONS:
            raise UnsupportedModelError(
                f"A program of more than {MAX_OPERATIONS} operations is not supported by the portable engine"
            )
        op = self._operation(message, self.scope)
        if op.name == "const":
            self._bind(op, [op.values("val")[0].constant])
        elif op.name == "classify":
            self.probabilities = op.values("probabilities")[0]
        elif op.name not in WRITERS and op.name not in DECODERS:
            raise UnsupportedModelError(f"{op} is not supported by the portable engine")
        elif len(op.blocks) != NESTED_BLOCKS.get(op.name, 0):
            raise ModelFileError(f"{op} has {len(op.blocks)} blocks; the model is damaged.")
        elif op.name in DECODERS:
            self._bind(op, _translate(op))
        elif _is_foldable(op):
            self._bind(op, _fold(self._operation(message, Scope(GraphBuilder(), self.scope.values))))
        else:
            self._bind(op, _translate(op))

    def _operation(self, message: Any, scope: Scope) -> MilOperation:
        inputs = {
            parameter: [self._value(binding) for binding in argument.arguments]
            for parameter, argument in message.inputs.items()
        }
        if message.type.startswith("const"):
            # The value of `const`; up to iOS 17 also the parameters of the operations that decode weights.
            for parameter, attribute in message.attributes.items():
                if parameter != "name":
                    inputs[parameter] = [constant_value(parameter, read_value(attribute, self.files))]
        return MilOperation(
            scope,
            message.type,
            inputs,
            [output.name for output in message.outputs],
            [read_tensor_type(output.type) for output in message.outputs],
            self.opset,
            [partial(self._nested, block) for block in message.blocks],
        )

    def _nested(self, block: Any, graph: GraphBuilder, arguments: Sequence[str], turn: str | None) -> list[str]:
        """Translate a block inside of an operation; see `NestedBlock`."""
        scope = self.scope.inner(graph, turn)
        for declared, node in zip(block.inputs, arguments, strict=True):
            scope.values[declared.name] = Value(declared.name, read_tensor_type(declared.type), node=node)
        translator = BlockTranslator(scope, self.files, self.opset)
        for message in block.operations:
            translator.add(message)
        if translator.probabilities is not None or scope.states != self.scope.states:
            raise UnsupportedModelError(
                "A program that classifies or writes states in a branch or loop is not supported by the portable "
                "engine"
            )
        return [scope.write(translator.named(name)) for name in block.outputs]

    def _value(self, binding: Any) -> Value:
        if binding.WhichOneof("binding") == "value":
            return constant_value("literal", read_value(binding.value, self.files))
        return self.named(binding.name)

    def named(self, name: str) -> Value:
        """A value by its MIL name; raises ModelFileError where there is none."""
        if name not in self.scope.values:
            raise ModelFileError(f"The program uses the value '{name}', which it never computes.")
        return self.scope.values[name]

    def _bind(self, op: MilOperation, results: list[Any]) -> None:
        """Give names to an operation's results."""
        if len(results) != len(op.output_names):
            op.refuse(f"having {len(op.output_names)} outputs")
        for name, declared, result in zip(op.output_names, op.output_types, results, strict=True):
            if isinstance(result, np.ndarray) and declared is not None and not _fits(declared.shape, result.shape):
                raise ModelFileError(f"{op} declares shape {declared.shape}, but has {result.shape}.")
            if op.name == "const":
                self.scope.values[name] = Value(name, declared, result)
            elif isinstance(result, np.ndarray):
                self.scope.values[name] = constant_value(name, self.scope.round_array(result, declared))
            else:
                self.scope.values[name] = Value(name, declared, node=self.scope.round(result, declared))


def _is_foldable(op: MilOperation) -> bool:
    """Whether all inputs are known and the result is small."""
    if op.name in UNFOLDABLE:
        return False
    if any(value.constant is None for values in op.inputs.values() for value in values):
        return False
    for tensor_type in op.output_types:
        if tensor_type is None or tensor_type.shape is None or tensor_type.dtype not in COMPUTED_TYPES:
            return False
        sizes = [size for size in tensor_type.shape if size is not None]
        if len(sizes) < len(tensor_type.shape) or math.prod(sizes) > MAX_FOLDED_ELEMENTS:
            return False
    return True


def _fold(op: MilOperation) -> list[Result]:
    """The results of an operation whose inputs are all known."""
    results = _translate(op)
    nodes = [result for result in results if isinstance(result, str)]
    if len(nodes) != len(op.output_types):
        return results
    dtypes = [COMPUTED_TYPES[tensor_type.dtype] for tensor_type in op.output_types if tensor_type is not None]
    return list(evaluate(op, nodes, dtypes))


def _translate(op: MilOperation) -> list[Result]:
    """The results of an operation's function; refuses parameters that the function did not look at."""
    try:
        found = DECODERS[op.name](op) if op.name in DECODERS else WRITERS[op.name](op)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        raise ModelFileError(f"{op} has parameters that do not fit together ({error}); is it damaged?") from error
    unknown = sorted(set(op.inputs) - op.read)
    if unknown:
        op.refuse(f"parameter '{unknown[0]}'")
    return list(found) if isinstance(found, list | tuple) else [found]


def _fits(declared: tuple[int | None, ...] | None, actual: tuple[int, ...]) -> bool:
    if declared is None:
        return True
    return len(declared) == len(actual) and all(
        size is None or size == real for size, real in zip(declared, actual, strict=True)
    )
