"""Branches and loops (MIL family `control_flow`, without the lists)."""

from pytest_quantguard.runtime.portable.graph import ELEMENT_TYPES, GraphBuilder
from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

# A damaged program must not run forever.
MOST_TURNS = 1_000_000


@operation("cond", blocks=2)
def cond(op: MilOperation) -> list[str]:
    """The results of the first block where pred holds, else those of the second"""
    dtypes = op.computed_output_types()
    branches = []
    for block in op.blocks:
        branch = op.graph.subgraph("branch")
        for result, dtype in zip(block(branch, [], op.turn), dtypes, strict=True):
            branch.output(result, "branch_result", dtype)
        branches.append(branch)
    condition = _scalar(op.graph, op.tensor("pred"))
    return op.nodes("If", [condition], len(dtypes), then_branch=branches[0], else_branch=branches[1])


@operation("while_loop", blocks=2)
def while_loop(op: MilOperation) -> list[str]:
    """The loop variables after as many turns of the second block as the first one allows

    ONNX's `Loop` wants the condition before the first turn and at the end of each, so its block is written twice.
    """
    dtypes = op.computed_output_types()
    condition, step = op.blocks
    start = op.tensors("loop_vars")
    (begin,) = condition(op.graph, start, op.turn)
    begin = _scalar(op.graph, begin)
    body = op.graph.subgraph("loop")
    turn = _turn(op, body)
    # ONNX does not give the last condition as a result, so it is a loop variable as well.
    body.input("loop_condition", "bool", ())
    body.input("loop_unfinished", "bool", ())
    results = step(body, [body.input("loop_variable", dtype, None) for dtype in dtypes], turn)
    (again,) = condition(body, results, turn)
    again = _scalar(body, again)
    for result, dtype in zip([again, again, *results], ["bool", "bool", *dtypes], strict=True):
        body.output(result, "loop_variable", dtype)
    inputs = [op.array(MOST_TURNS, "int64"), begin, begin, *start]
    unfinished, *results = op.nodes("Loop", inputs, len(inputs) - 2, body=body)
    return _finished(op, unfinished, results, dtypes)


def _finished(op: MilOperation, unfinished: str, results: list[str], dtypes: list[str]) -> list[str]:
    """The results of a loop; the run fails where it ended by the limit only."""
    passed, failed = op.graph.subgraph("loop_ended"), op.graph.subgraph("loop_has_no_end")
    outside = failed.node("Cast", [unfinished], to=ELEMENT_TYPES["int64"])
    # There is no element 1. onnxruntime's message has the node's name.
    name = f"the loop of '{op.output_names[0]}' did not end within {MOST_TURNS} turns"
    nothing = failed.node("Gather", [failed.constant([0]), outside], name=name)
    for result, dtype in zip(results, dtypes, strict=True):
        passed.output(result, "loop_result", dtype)
        failed.output(failed.node("Cast", [nothing], to=ELEMENT_TYPES[dtype]), "loop_result", dtype)
    return op.nodes("If", [unfinished], len(results), then_branch=failed, else_branch=passed)


def _scalar(graph: GraphBuilder, condition: str) -> str:
    """A truth value without dimensions; programs also give vectors of one element."""
    return graph.node("Reshape", [condition, graph.constant([])])


def _turn(op: MilOperation, body: GraphBuilder) -> str:
    """A number of the turn that differs from those of all other turns, also of a loop inside of another one."""
    index = body.input("loop_turn", "int64", ())
    if op.turn is None:
        return index
    return body.node("Add", [index, body.node("Mul", [op.turn, body.constant(2**32)])])
