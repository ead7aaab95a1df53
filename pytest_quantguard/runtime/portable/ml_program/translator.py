"""From the protobuf of an ML program to an ONNX graph."""

from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.block import BlockTranslator
from pytest_quantguard.runtime.portable.ml_program.features import declare_inputs, declare_outputs
from pytest_quantguard.runtime.portable.ml_program.scope import Scope
from pytest_quantguard.runtime.portable.ml_program.weight_files import WeightFiles
from pytest_quantguard.runtime.portable.translation import Translation


def translate(spec: Any, weights_dir: Path | None, *, function_name: str | None = None) -> Translation:
    """Translate an ML program.

    Args:
        spec: the parsed `Model` message.
        weights_dir: the folder of the program's weight files.
        function_name: which function of a program with several; None for the default one.

    Raises:
        UnsupportedModelError: an operation is not supported; the message names it and its output.
        ModelFileError: the program is damaged.
    """
    description, function = _function(spec, function_name)
    if function.opset not in function.block_specializations:
        raise ModelFileError(f"The program has no block for its operation set {function.opset}; it is damaged.")
    block = function.block_specializations[function.opset]
    scope = Scope(GraphBuilder())
    inputs = declare_inputs(scope, description, function)
    translator = BlockTranslator(scope, WeightFiles(weights_dir), _opset_version(function.opset))
    for message in block.operations:
        translator.add(message)
    outputs = declare_outputs(scope, description, block, translator.probabilities)
    scores = None
    if translator.probabilities is not None:
        scores = scope.graph.output(scope.write(translator.probabilities), "scores", "float32")
    return Translation(scope.graph.build(), inputs, outputs, scores)


def _function(spec: Any, name: str | None) -> tuple[Any, Any]:
    """The description and the body of the function to run."""
    functions = spec.mlProgram.functions
    described = {entry.name: entry for entry in spec.description.functions}
    chosen = name or spec.description.defaultFunctionName or "main"
    if chosen not in functions:
        known = ", ".join(sorted(functions)) or "none"
        raise ModelFileError(f"The program has no function '{chosen}'; it has: {known}.")
    return described.get(chosen, spec.description), functions[chosen]


def _opset_version(opset: str) -> int:
    digits = opset.removeprefix("CoreML")
    if not digits.isdecimal():
        raise UnsupportedModelError(f"operation set '{opset}' is not supported by the portable engine")
    return int(digits)
