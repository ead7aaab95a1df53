"""Evaluating a small ONNX graph at translation time."""

from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.graph import GraphBuilder


def evaluate(graph: GraphBuilder, values: list[str], dtypes: list[str]) -> list[NDArray[Any]]:
    """Run a graph without inputs and return some of its values, which are of the given numpy types."""
    import onnxruntime

    names = [graph.output(value, value, dtype) for value, dtype in zip(values, dtypes, strict=True)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.build(), options, providers=["CPUExecutionProvider"])
    arrays: list[NDArray[Any]] = session.run(names, {})
    return arrays
