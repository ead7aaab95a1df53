"""States: what a program remembers from one prediction to the next.

Source: MIL operations `read_state` (iOS 18) and `write_state`, which stand for coremltools'
`coreml_update_state` in a file.
"""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("read_state")
def read_state(op: MilOperation) -> str:
    """The newest value of a state."""
    return op.read_state("input")


@operation("write_state")
def write_state(op: MilOperation) -> list[str]:
    """Set a state; it has no output."""
    op.write_state("input", op.tensor("data"))
    return []
