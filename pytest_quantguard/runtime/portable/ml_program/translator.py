"""From the protobuf of an ML program to an ONNX graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.constants_file import ConstantsFile
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.block import BlockTranslator
from pytest_quantguard.runtime.portable.ml_program.features import (
    declare_inputs,
    declare_outputs,
    declare_states,
    written_states,
)
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops import DECODERS, WRITERS
from pytest_quantguard.runtime.portable.ml_program.scope import Scope
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles
from pytest_quantguard.runtime.portable.translation import Translation

KNOWN = frozenset({*WRITERS, *DECODERS, "const", "classify"})
"""The operations that run."""


def translate(
    spec: Any, weights_dir: Path | None, *, precision: str = "float32", file: ConstantsFile | None = None
) -> Translation:
    """Translate an ML program.

    Args:
        spec: the parsed `Model` message.
        weights_dir: the folder of the program's weight files.
        precision: one of `runtime.PRECISIONS`; with `float16` each float16 tensor is rounded to float16.
        file: takes the large constants; without it they are in the graph.

    Raises:
        UnsupportedModelError: an operation is not supported; the message names it and its output.
        ModelFileError: the program is damaged.
    """
    function, block = _function(spec)
    translator = _begin(function, weights_dir, precision, file)
    scope = translator.scope
    inputs = declare_inputs(scope, spec.description, function)
    states = declare_states(scope, function)
    for message in block.operations:
        translator.add(message)
    outputs = declare_outputs(scope, spec.description, block, translator.probabilities)
    scores = None
    if translator.probabilities is not None:
        scores = scope.graph.output(scope.write(translator.probabilities), "scores", "float32")
    written = written_states(scope, states)
    return Translation(scope.graph.build(), inputs, outputs, scores, written)


def find_refusals(spec: Any, weights_dir: Path | None) -> Iterator[str]:
    """Why operations are not supported, one by one, also those inside of branches and loops.

    An operation that takes what a refused one would have computed is looked at by its name only.

    Raises:
        UnsupportedModelError: an input is not supported.
        ModelFileError: the program is damaged.
    """
    function, block = _function(spec)
    translator = _begin(function, weights_dir, "float32")
    declare_inputs(translator.scope, spec.description, function)
    declare_states(translator.scope, function)
    for message in _all_operations(block):
        if message.type not in KNOWN:
            names = [output.name for output in message.outputs]
            operation = MilOperation(translator.scope, message.type, {}, names, [], translator.opset)
            yield f"{operation} is not supported by the portable engine"
    missing: set[str] = set()
    for message in block.operations:
        if not missing & set(_uses(message)):
            try:
                translator.add(message)
                continue
            except UnsupportedModelError as error:
                yield str(error)
        missing.update(output.name for output in message.outputs)


def _all_operations(block: Any) -> Iterator[Any]:
    """The operations of a block, and of the blocks inside of them."""
    for message in block.operations:
        yield message
        for inner in message.blocks:
            yield from _all_operations(inner)


def _uses(message: Any) -> Iterator[str]:
    """The values that an operation, or one inside of it, takes."""
    for argument in message.inputs.values():
        yield from (binding.name for binding in argument.arguments)
    for block in message.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _uses(inner)


def _begin(
    function: Any, weights_dir: Path | None, precision: str, file: ConstantsFile | None = None
) -> BlockTranslator:
    scope = Scope(GraphBuilder(file=file), round_float16=precision == "float16")
    return BlockTranslator(scope, WeightFiles(weights_dir), _opset_version(function.opset))


def _function(spec: Any) -> tuple[Any, Any]:
    """The program's function and its block; `models.functions.select_function` leaves one function."""
    functions = spec.mlProgram.functions
    if "main" not in functions:
        known = ", ".join(sorted(functions)) or "none"
        raise ModelFileError(f"The program has no function 'main'; it has: {known}.")
    function = functions["main"]
    if function.opset not in function.block_specializations:
        raise ModelFileError(f"The program has no block for its operation set {function.opset}; it is damaged.")
    return function, function.block_specializations[function.opset]


def _opset_version(opset: str) -> int:
    digits = opset.removeprefix("CoreML")
    if not digits.isdecimal():
        raise UnsupportedModelError(f"operation set '{opset}' is not supported by the portable engine")
    return int(digits)
