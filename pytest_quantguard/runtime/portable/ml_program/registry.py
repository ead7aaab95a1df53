"""The table of MIL operations that the portable engine knows.

To add an operation, write a function in the file of its family under `ops/` and decorate it:

    @operation("relu")
    def relu(op: MilOperation) -> str:
        return op.node("Relu", op.tensor("x"))
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation

Result = str | list[str] | NDArray[Any]
Writer = Callable[[MilOperation], Result]
Decoder = Callable[[MilOperation], NDArray[Any] | tuple[NDArray[Any], ...]]

WRITERS: dict[str, Writer] = {}
"""Operations that write ONNX nodes, by MIL name; they return the outputs' ONNX names.

One that knows its only output already may return it as an array."""

DECODERS: dict[str, Decoder] = {}
"""Operations that hold compressed weights, by MIL name; they return the decoded arrays, one per output."""

UNFOLDABLE: set[str] = set()
"""Operations that are left to onnxruntime even if all their inputs are known now."""

NESTED_BLOCKS: dict[str, int] = {}
"""How many blocks an operation of control flow has, by MIL name."""


def operation(*names: str, foldable: bool = True, blocks: int = 0) -> Callable[[Writer], Writer]:
    """Register a function for MIL operations.

    Args:
        names: their MIL names.
        foldable: whether to compute the results while translating where all inputs are known.
        blocks: how many blocks the operations have.
    """

    def register(writer: Writer) -> Writer:
        for name in names:
            assert name not in WRITERS, f"operation {name} is registered twice"
            WRITERS[name] = writer
            if not foldable or blocks:
                UNFOLDABLE.add(name)
            if blocks:
                NESTED_BLOCKS[name] = blocks
        return writer

    return register


def weight_operation(name: str) -> Callable[[Decoder], Decoder]:
    """Register a function for a MIL operation that decodes weights."""

    def register(decoder: Decoder) -> Decoder:
        assert name not in DECODERS, f"operation {name} is registered twice"
        DECODERS[name] = decoder
        return decoder

    return register
