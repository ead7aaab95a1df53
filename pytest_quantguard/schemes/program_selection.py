"""Which operations and constants of an ML program a scheme is about."""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.program_tensors import all_operations, is_float, shape_of
from pytest_quantguard.schemes.scheme import Scheme

_TYPE = "type:"


@dataclass(frozen=True)
class ProgramOperation:
    """An operation of a program, by the names under which coremltools knows it.

    Args:
        name: the operation's name.
        kind: its type, for instance `conv`.
        names: its name and those of its outputs.
    """

    name: str
    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A constant of a floating-point type that operations use.

    Args:
        operation: the constant itself.
        tensor: the name of its value, as `program_tensors` gives it.
        shape: of its value.
        users: the operations that take it.
    """

    operation: ProgramOperation
    tensor: str
    shape: tuple[int, ...]
    users: tuple[ProgramOperation, ...]

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names the constant or an operation that takes it."""
        return any(matches(pattern, operation) for operation in (self.operation, *self.users))


def matches(pattern: str, operation: ProgramOperation) -> bool:
    """Whether an operation has the name, fits the pattern (`*`, `?`, `[...]`) or is of the type (`type:...`)."""
    if pattern.startswith(_TYPE):
        return operation.kind == pattern.removeprefix(_TYPE)
    return any(pattern == name or fnmatchcase(name, pattern) for name in operation.names)


@dataclass(frozen=True)
class Selection:
    """The operations of a program and which scheme each gets."""

    operations: tuple[ProgramOperation, ...]
    constants: tuple[Constant, ...]
    scheme: Scheme

    @property
    def is_all(self) -> bool:
        """Whether everything gets the scheme itself."""
        return not (self.scheme.skip_layers or self.scheme.only_layers or self.scheme.overrides)

    def scheme_of(self, constant: Constant) -> Scheme | None:
        """The scheme that a constant gets; None for one that keeps its values."""
        for pattern, override in self.scheme.overrides:
            if constant.matches(pattern):
                return override
        only = self.scheme.only_layers
        if any(map(constant.matches, self.scheme.skip_layers)) or (only and not any(map(constant.matches, only))):
            return None
        return self.scheme

    def kmeans_of(self, tensor: str) -> str:
        """Which clusters a constant gets, as `Scheme.kmeans`; also after zeros were set in it."""
        names = {tensor, dense_name(tensor)}
        schemes = [self.scheme_of(constant) for constant in self.constants if constant.tensor in names]
        return next((scheme.kmeans for scheme in schemes if scheme is not None), self.scheme.kmeans)

    def is_left_out(self, operation: ProgramOperation) -> bool:
        """Whether an operation's activations are left as they are."""
        only = self.scheme.only_layers
        skipped = any(matches(pattern, operation) for pattern in self.scheme.skip_layers)
        return skipped or bool(only and not any(matches(pattern, operation) for pattern in only))


def select(program: Any, scheme: Scheme, *, name: str) -> Selection:
    """What a scheme says about the parts of a MIL `Program` message.

    Raises:
        SchemeError: a pattern matches nothing; the message has the closest names.
    """
    operations: list[ProgramOperation] = []
    constants: list[tuple[ProgramOperation, Any]] = []
    users: dict[str, list[ProgramOperation]] = {}
    for operation in all_operations(program):
        known = _operation(operation)
        if known.kind == "const":
            constants.append((known, operation.outputs[0]))
            continue
        operations.append(known)
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                users.setdefault(binding.name, []).append(known)
    found = tuple(
        Constant(known, output.name, shape_of(output.type), tuple(users[output.name]))
        for known, output in constants
        if is_float(output.type) and shape_of(output.type) and output.name in users
    )
    _check_patterns(scheme, (*operations, *(constant.operation for constant in found)), name)
    return Selection(tuple(operations), found, scheme)


def dense_name(tensor: str) -> str:
    """The name of a constant before `prune_weights` stored it without its zeros; coremltools adds to it."""
    return re.sub(r"_sparsified(_nonzero_data.*)?$", "", tensor)


def count_of(constant: Constant) -> int:
    """How many weights a constant holds."""
    return math.prod(constant.shape)


def _operation(operation: Any) -> ProgramOperation:
    outputs = [output.name for output in operation.outputs]
    name = outputs[0] if outputs else ""
    if "name" in operation.attributes:
        values = operation.attributes["name"].immediateValue.tensor.strings.values
        name = values[0] if values else name
    return ProgramOperation(name, operation.type, tuple(dict.fromkeys([name, *outputs])))


def _check_patterns(scheme: Scheme, operations: Sequence[ProgramOperation], name: str) -> None:
    patterns = [("skip_layers", pattern) for pattern in scheme.skip_layers]
    patterns += [("only_layers", pattern) for pattern in scheme.only_layers]
    patterns += [("overrides", pattern) for pattern, _ in scheme.overrides]
    for option, pattern in patterns:
        if any(matches(pattern, operation) for operation in operations):
            continue
        kinds = {f"{_TYPE}{operation.kind}" for operation in operations} - {f"{_TYPE}const"}
        names = sorted(kinds) if _TYPE in pattern else [operation.name for operation in operations]
        close = difflib.get_close_matches(pattern, names, 3, 0.3) or names[:3]
        hint = f"did you mean {', '.join(close)}?" if close else "it has none."
        raise SchemeError(f"{option}: {pattern!r} matches no operation of {name}; {hint}")
