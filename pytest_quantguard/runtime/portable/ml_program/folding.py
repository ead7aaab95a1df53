"""Evaluating an operation at translation time, in a small ONNX graph of its own."""

from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.sessions import make_session, onnxruntime_errors, reason


def evaluate(op: MilOperation, values: list[str], dtypes: list[str]) -> list[NDArray[Any]]:
    """Run the graph of an operation without inputs and return some of its values, of the given numpy types.

    Raises:
        ModelFileError: the operation cannot be computed with its constants.
    """
    names = [op.graph.output(value, value, dtype) for value, dtype in zip(values, dtypes, strict=True)]
    try:
        arrays: list[NDArray[Any]] = make_session(op.graph.build()).run(names, {})
    except onnxruntime_errors() as error:
        raise ModelFileError(
            f"{op} cannot be computed with its constants ({reason(error)}); is it damaged?"
        ) from error
    return arrays
