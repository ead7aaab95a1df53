"""Defects of how coremltools compresses ML programs, repaired only while we call it, and what it declines.

Found in coremltools 9.0; docs/coremltools.md describes each. A repair leaves what coremltools does right as it is.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.schemes.kmeans import kmeans_table
from pytest_quantguard.schemes.optimal_kmeans import optimal_table
from pytest_quantguard.schemes.repairs import wrapped

_PASSES = ("prune_weights", "linear_quantize_weights", "palettize_weights")
# What coremltools logs, and what it means in the words of a scheme.
_REASONS = {
    r"not divisible by channel_group_size": "the channels are no multiple of the group size",
    r"cluster_dim": "the channels are no multiple of cluster_dim",
    r"not divisible by block size": "a dimension is no multiple of the block size",
    r"Unique values": "more than 256 different values",
    r"has sparsity of": "too few zeros",
    r"block_size > channel / 2": "fewer channels than two blocks",
    r"m > channel / 2": "fewer channels than twice m",
    r"inf/-inf": "infinite values",
    r"Can't decide": "its operations have their channels on different axes",
    r"not applicable": "its operation cannot be pruned in blocks",
}
# kmeans1d, which coremltools takes for float16 tensors from this size on, finds the best clusters.
_KMEANS1D_FROM = 10_000


@contextlib.contextmanager
def repaired_passes(kmeans_of: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """Repair coremltools' passes inside the `with` block.

    Args:
        kmeans_of: takes the name of a constant; gives `coremltools` for its clusters, or `optimal`.

    Yields:
        The constants that coremltools declined so far, by name, each with the reason, which may be empty.
    """
    from coremltools.optimize.coreml import _quantization_passes as passes

    declined: dict[str, str] = {}
    current: list[str] = []
    with contextlib.ExitStack() as stack:
        messages = stack.enter_context(_collected_warnings())
        for name in _PASSES:
            watch = functools.partial(_watched, declined=declined, messages=messages, current=current)
            stack.enter_context(wrapped(getattr(passes, name), "transform_op", watch))
        cluster = functools.partial(_fast_kmeans, kmeans_of=lambda: kmeans_of(current[0]))
        stack.enter_context(wrapped(passes, "_get_kmeans_lookup_table_and_weight", cluster))
        yield declined


@contextlib.contextmanager
def only_tables() -> Iterator[None]:
    """Let `linear_quantize_weights` take lookup tables and nothing else inside the `with` block.

    Joint compression takes uncompressed weights as well, so those that `palettize_weights` declined.
    """
    from coremltools.optimize.coreml import _quantization_passes as passes

    def tables(original: Any) -> Any:
        @functools.wraps(original)
        def transform(self: Any, operation: Any) -> None:
            users = operation.outputs[0].child_ops
            if any(user.op_type.startswith("constexpr_lut_to_") for user in users):
                original(self, operation)

        return transform

    with wrapped(passes.linear_quantize_weights, "transform_op", tables):
        yield


def _watched(original: Any, declined: dict[str, str], messages: list[str], current: list[str]) -> Any:
    """Note what a pass works on and what it declines, and give a declined constant its values back.

    With a per-channel scale, `palettize_weights` divides the constant itself by the scale before it declines.
    """

    @functools.wraps(original)
    def transform(self: Any, operation: Any) -> None:
        value = operation.outputs[0].val
        before = value.copy() if isinstance(value, np.ndarray) and self.__class__.__name__ == _PASSES[-1] else None
        messages.clear()
        current[:] = [operation.outputs[0].name]
        original(self, operation)
        if operation.enclosing_block is None:
            return  # replaced, so it was compressed
        if before is not None and not np.array_equal(before, value, equal_nan=before.dtype.kind == "f"):
            np.copyto(value, before)
        if messages:
            declined[operation.outputs[0].name] = _reason(messages)

    return transform


def _reason(messages: list[str]) -> str:
    for pattern, reason in _REASONS.items():
        if any(re.search(pattern, message) for message in messages):
            return reason
    return ""


@contextlib.contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What coremltools logs as a warning inside the `with` block; records below ERROR go nowhere else.

    Its `optimize/_utils.py` takes the root logger.
    """
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR or "coremltools" not in record.pathname:
            return True
        messages.append(record.getMessage())
        return False

    loggers = logging.getLogger("coremltools"), logging.getLogger()
    level = loggers[0].level
    loggers[0].setLevel(logging.WARNING)
    for logger in loggers:
        logger.addFilter(collect)
    try:
        yield messages
    finally:
        loggers[0].setLevel(level)
        for logger in loggers:
            logger.removeFilter(collect)


def _fast_kmeans(original: Any, kmeans_of: Callable[[], str]) -> Any:
    """coremltools' clusters of single weights in less time, or the best clusters.

    scikit-learn, which coremltools takes for float32 and for small tensors, clusters float16 as float64.
    """

    @functools.wraps(original)
    def cluster(
        nbits: int,
        weight: NDArray[Any],
        force_kmeans1d: bool = False,
        cluster_dim: int = 1,
        vector_axis: int | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        is_scalar = cluster_dim == 1 and not force_kmeans1d and bool(np.isfinite(weight).all())
        if is_scalar and kmeans_of() == "optimal":
            return optimal_table(weight, nbits)
        if not is_scalar or _takes_kmeans1d(weight):
            found: tuple[NDArray[Any], NDArray[Any]] = original(
                nbits, weight, force_kmeans1d=force_kmeans1d, cluster_dim=cluster_dim, vector_axis=vector_axis
            )
            return found
        return kmeans_table(
            weight if weight.dtype in (np.float32, np.float64) else weight.astype(np.float64), nbits
        )

    return cluster


def _takes_kmeans1d(weight: NDArray[Any]) -> bool:
    from coremltools._deps import _HAS_KMEANS1D

    return bool(_HAS_KMEANS1D) and weight.dtype == np.float16 and weight.size >= _KMEANS1D_FROM
