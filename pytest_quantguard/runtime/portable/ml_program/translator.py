"""From the protobuf of an ML program to an ONNX graph."""

from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.block import BlockTranslator
from pytest_quantguard.runtime.portable.ml_program.features import (
    declare_inputs,
    declare_outputs,
    declare_states,
    written_states,
)
from pytest_quantguard.runtime.portable.ml_program.scope import Scope
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles
from pytest_quantguard.runtime.portable.translation import Translation


def translate(spec: Any, weights_dir: Path | None, *, precision: str = "float32") -> Translation:
    """Translate an ML program.

    Args:
        spec: the parsed `Model` message.
        weights_dir: the folder of the program's weight files.
        precision: one of `runtime.PRECISIONS`; with `float16` each float16 tensor is rounded to float16.

    Raises:
        UnsupportedModelError: an operation is not supported; the message names it and its output.
        ModelFileError: the program is damaged.
    """
    description, function = spec.description, _function(spec)
    if function.opset not in function.block_specializations:
        raise ModelFileError(f"The program has no block for its operation set {function.opset}; it is damaged.")
    block = function.block_specializations[function.opset]
    scope = Scope(GraphBuilder(), round_float16=precision == "float16")
    inputs = declare_inputs(scope, description, function)
    states = declare_states(scope, function)
    translator = BlockTranslator(scope, WeightFiles(weights_dir), _opset_version(function.opset))
    for message in block.operations:
        translator.add(message)
    outputs = declare_outputs(scope, description, block, translator.probabilities)
    scores = None
    if translator.probabilities is not None:
        scores = scope.graph.output(scope.write(translator.probabilities), "scores", "float32")
    written = written_states(scope, states)
    return Translation(scope.graph.build(), inputs, outputs, scores, written)


def _function(spec: Any) -> Any:
    """The body of the program's function; `models.functions.select_function` leaves one."""
    functions = spec.mlProgram.functions
    if "main" not in functions:
        known = ", ".join(sorted(functions)) or "none"
        raise ModelFileError(f"The program has no function 'main'; it has: {known}.")
    return functions["main"]


def _opset_version(opset: str) -> int:
    digits = opset.removeprefix("CoreML")
    if not digits.isdecimal():
        raise UnsupportedModelError(f"operation set '{opset}' is not supported by the portable engine")
    return int(digits)
