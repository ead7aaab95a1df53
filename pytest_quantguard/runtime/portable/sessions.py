"""onnxruntime sessions, which share one limited memory for the tensors of all predictions."""

import functools
import threading
from pathlib import Path
from typing import Any

from pytest_quantguard.runtime.portable.graph import GraphBuilder
from pytest_quantguard.runtime.portable.limits import MEMORY_LIMIT_BYTES

_registration = threading.Lock()


def make_session(onnx_model: bytes | Path, *, threads: int = 1) -> Any:
    """An `onnxruntime.InferenceSession` on the processor; raises `onnxruntime_errors` for what is no sound graph.

    A run that needs more than `MEMORY_LIMIT_BYTES` fails with one of `onnxruntime_errors`.
    """
    with _registration:
        _limit_memory()
    _return_memory()
    return _session(onnx_model, threads)


def _session(onnx_model: bytes | Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Errors come back as exceptions; the log would only repeat them on the terminal.
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Weights stay outside of the limited memory.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return onnxruntime.InferenceSession(onnx_model, options, providers=["CPUExecutionProvider"])


@functools.cache
def _limit_memory() -> None:
    """Give the process its shared memory (onnxruntime: `CreateAndRegisterAllocatorV2`)."""
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    settings = {
        "max_mem": MEMORY_LIMIT_BYTES,
        "arena_extend_strategy": 1,  # takes what is asked for, not the next power of two
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(settings))


def _return_memory() -> None:
    """Give back what earlier models used: onnxruntime keeps memory in pieces that fit those models alone."""
    import numpy
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _smallest_session().run(None, {"x": numpy.zeros(1, numpy.float32)}, options)


@functools.cache
def _smallest_session() -> Any:
    graph = GraphBuilder("smallest")
    graph.output(graph.input("x", "float32", (1,)), "y", "float32")
    return _session(graph.build(), 1)


@functools.cache
def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's exceptions; they have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*found, RuntimeError, ValueError)


def reason(error: Exception) -> str:
    """The first line of an error of onnxruntime, without a full stop; or that the memory does not suffice."""
    if "BFCArena" in str(error):
        return f"its tensors need more than the {MEMORY_LIMIT_BYTES >> 30} GiB of memory that predictions may take"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
