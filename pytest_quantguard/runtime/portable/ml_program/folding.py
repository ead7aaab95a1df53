"""Evaluating an operation at translation time, in a small ONNX graph of its own."""

from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation


def evaluate(op: MilOperation, values: list[str], dtypes: list[str]) -> list[NDArray[Any]]:
    """Run the graph of an operation without inputs and return some of its values, of the given numpy types.

    Raises:
        ModelFileError: the operation cannot be computed with its constants.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [op.graph.output(value, value, dtype) for value, dtype in zip(values, dtypes, strict=True)]
    options = onnxruntime.SessionOptions()
    # Errors come back as exceptions; the log would only repeat them on the terminal.
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(op.graph.build(), options, providers=["CPUExecutionProvider"])
        arrays: list[NDArray[Any]] = session.run(names, {})
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.RuntimeException,
    ) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{op} cannot be computed with its constants ({reason}); is it damaged?") from error
    return arrays
