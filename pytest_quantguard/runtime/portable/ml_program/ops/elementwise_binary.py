"""Element-wise functions of several tensors, with numpy's broadcasting (MIL family `elementwise_binary`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import Writer, operation

SAME_FUNCTION = {
    "add": "Add",
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "pow": "Pow",
    "sub": "Sub",
}
"""MIL operations that ONNX has with the same meaning."""


def _writer(operator: str) -> Writer:
    def write(op: MilOperation) -> str:
        return op.node(operator, op.tensor("x"), op.tensor("y"))

    return write


for _name, _operator in SAME_FUNCTION.items():
    operation(_name)(_writer(_operator))


@operation("not_equal")
def not_equal(op: MilOperation) -> str:
    """x != y"""
    return op.node("Not", op.node("Equal", op.tensor("x"), op.tensor("y")))


@operation("real_div")
def real_div(op: MilOperation) -> str:
    """x / y; whole numbers are cut off towards zero, as coremltools' test of this operation expects"""
    return op.node("Div", op.tensor("x"), op.tensor("y"))


@operation("floor_div")
def floor_div(op: MilOperation) -> str:
    """x / y rounded towards minus infinity"""
    x, y = op.tensor("x"), op.tensor("y")
    if op.is_float("x"):
        return op.node("Floor", op.node("Div", x, y))
    # ONNX divides whole numbers towards zero, but has the remainder with the divisor's sign.
    return op.node("Div", op.node("Sub", x, op.node("Mod", x, y)), y)


@operation("mod")
def mod(op: MilOperation) -> str:
    """The remainder with the sign of y, as numpy has it"""
    x, y = op.tensor("x"), op.tensor("y")
    if not op.is_float("x"):
        return op.node("Mod", x, y)
    # For floating point ONNX has only the remainder with the sign of x.
    remainder = op.node("Mod", x, y, fmod=1)
    zero = op.array(0, "float32")
    wrong_sign = op.node("Less", op.node("Mul", remainder, op.node("Sign", y)), zero)
    return op.node("Where", wrong_sign, op.node("Add", remainder, y), remainder)


@operation("select")
def select(op: MilOperation) -> str:
    """a where cond holds, b elsewhere"""
    condition, a, b = op.tensor("cond"), op.tensor("a"), op.tensor("b")
    if op.computed_type("a") == "bool":
        # onnxruntime does not select between truth values.
        return op.node("Or", op.node("And", condition, a), op.node("And", op.node("Not", condition), b))
    return op.node("Where", condition, a, b)
