"""Element-wise functions of one tensor (MIL family `elementwise_unary`)."""

from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import Writer, operation

SAME_FUNCTION = {
    "abs": "Abs",
    "acos": "Acos",
    "asin": "Asin",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "logical_not": "Not",
    "round": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
"""MIL operations that ONNX has with the same meaning; both round halves to even."""


def _writer(operator: str) -> Writer:
    def write(op: MilOperation) -> str:
        return op.node(operator, op.tensor("x"))

    return write


for _name, _operator in SAME_FUNCTION.items():
    operation(_name)(_writer(_operator))


@operation("square")
def square(op: MilOperation) -> str:
    """x * x"""
    x = op.tensor("x")
    return op.node("Mul", x, x)


@operation("exp2")
def exp2(op: MilOperation) -> str:
    """2 to the power of x"""
    return op.node("Pow", op.like("x", 2), op.tensor("x"))


@operation("inverse")
def inverse(op: MilOperation) -> str:
    """1 / (x + epsilon)"""
    return op.node("Reciprocal", _plus_epsilon(op, 1e-4))


@operation("log")
def log(op: MilOperation) -> str:
    """log(x + epsilon)"""
    return op.node("Log", _plus_epsilon(op, 1e-45))


@operation("rsqrt")
def rsqrt(op: MilOperation) -> str:
    """1 / sqrt(x + epsilon)"""
    return op.node("Reciprocal", op.node("Sqrt", _plus_epsilon(op, 1e-12)))


@operation("clip")
def clip(op: MilOperation) -> str:
    """min(max(x, alpha), beta)"""
    return op.node("Clip", op.tensor("x"), op.like("x", op.number("alpha")), op.like("x", op.number("beta")))


@operation("threshold")
def threshold(op: MilOperation) -> str:
    """max(x, alpha)"""
    return op.node("Max", op.tensor("x"), op.like("x", op.number("alpha")))


@operation("cast")
def cast(op: MilOperation) -> str:
    """Conversion; floating point to whole numbers drops the fraction, to bool compares with zero"""
    x = op.tensor("x")
    source, target = op.computed_type("x"), op.text("dtype")
    if target not in COMPUTED_TYPES or target in ("int4", "uint1", "uint2", "uint3", "uint4", "uint6", "uint32"):
        op.refuse(f"dtype '{target}'")
    computed = COMPUTED_TYPES[target]
    if source != computed:
        x = op.cast(x, computed)
    if computed == "int32" and target != "int32":
        # The narrow type keeps the low bits only.
        x = op.cast(op.cast(x, target), "int32")
    return x


def _plus_epsilon(op: MilOperation, default: float) -> str:
    epsilon = op.number("epsilon", default)
    return op.node("Add", op.tensor("x"), op.array(epsilon, "float32"))
