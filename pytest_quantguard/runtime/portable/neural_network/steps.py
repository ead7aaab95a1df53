"""Dividing a network that is no single graph into steps.

A step is a run of layers that become one ONNX graph, a layer that is computed with numpy, or control flow with
steps of its own. Between steps the network's tensors are numpy arrays by their names in the file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_quantguard.runtime.custom_layers import custom_layer
from pytest_quantguard.runtime.portable.neural_network.registry import (
    CONTROL_FLOW,
    Layer,
    is_step,
    layer_function,
    read_layer,
    step_function,
)

_CONSTANTS = ("loadConstant", "loadConstantND")


@dataclass(frozen=True, eq=False)
class GraphStep:
    """Layers that are computed as one ONNX graph, or as several one after the other."""

    layers: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class NumpyStep:
    """A layer that is computed with numpy."""

    message: Any
    layer: Layer


@dataclass(frozen=True, eq=False)
class BranchStep:
    """`BranchLayerParams`: the first steps where the condition's value is not 0, else the second."""

    condition: str
    then: "Steps"
    otherwise: "Steps"


@dataclass(frozen=True, eq=False)
class LoopStep:
    """`LoopLayerParams`: the body, as long as the condition holds and the limit is not reached.

    Args:
        name: the layer's name.
        limit: the tensor with the number of iterations, or that number; None for no limit.
        condition: computes the tensor `variable` before each iteration; empty for a loop without condition.
        variable: the tensor that ends the loop where it is 0.
        body: what is repeated.
    """

    name: str
    limit: str | int | None
    condition: "Steps"
    variable: str
    body: "Steps"


@dataclass(frozen=True, eq=False)
class JumpStep:
    """`LoopBreakLayerParams` (`leave` is true) or `LoopContinueLayerParams`."""

    leave: bool


Step = GraphStep | NumpyStep | BranchStep | LoopStep | JumpStep
Steps = tuple[Step, ...]


def needs_steps(layers: Iterable[Any]) -> bool:
    """Whether a network has a layer that no ONNX graph of its own layers can hold."""
    return any(message.WhichOneof("layer") in CONTROL_FLOW or _by_numpy(message) for message in layers)


def check_network(network: Any, model: str, *, in_loop: bool = False) -> None:
    """Refuse a network with a layer type that does not run, also in its branches and loops.

    Raises:
        UnsupportedModelError: there is such a layer; names the first.
    """
    for message in network.layers:
        layer = read_layer(message, model)
        if layer.kind == "branch":
            check_network(layer.params.ifBranch, model, in_loop=in_loop)
            check_network(layer.params.elseBranch, model, in_loop=in_loop)
        elif layer.kind == "loop":
            check_network(layer.params.conditionNetwork, model)
            check_network(layer.params.bodyNetwork, model, in_loop=True)
        elif layer.kind in CONTROL_FLOW and not in_loop:
            raise layer.unsupported(f"type {layer.kind!r} outside of a loop")
        elif _by_numpy(message):
            step_function(layer, len(message.input))
            _check_custom(layer)
        elif layer.kind not in CONTROL_FLOW:
            layer_function(layer, len(message.input))


def _check_custom(layer: Layer) -> None:
    if layer.kind == "custom" and custom_layer(layer.params.className) is None:
        raise layer.unsupported(
            f"a custom layer of class {layer.params.className!r}, for which "
            "pytest_quantguard.runtime.register_custom_layer was not called,"
        )


def _by_numpy(message: Any) -> bool:
    kind = message.WhichOneof("layer") or ""
    # Which axes a slice drops, and so its rank, depends on the seventh input; other slices are ONNX's.
    return is_step(kind) and (kind != "sliceDynamic" or len(message.input) == 7)


def all_layers(network: Any) -> Iterator[Any]:
    """Every layer of a network, also those in its branches and loops."""
    for message in network.layers:
        yield message
        kind = message.WhichOneof("layer")
        if kind == "branch":
            yield from all_layers(message.branch.ifBranch)
            yield from all_layers(message.branch.elseBranch)
        elif kind == "loop":
            yield from all_layers(message.loop.conditionNetwork)
            yield from all_layers(message.loop.bodyNetwork)


def constants(network: Any) -> dict[str, Any]:
    """The layers whose output is the same throughout, by its name: constants that nothing overwrites."""
    written = Counter(name for message in all_layers(network) for name in message.output)
    return {
        message.output[0]: message
        for message in all_layers(network)
        if message.WhichOneof("layer") in _CONSTANTS and [written[name] for name in message.output] == [1]
    }


def divide(network: Any, fixed: dict[str, Any], model: str) -> Steps:
    """The steps of a network, without the constants in `fixed`."""
    steps: list[Step] = []
    plain: list[Any] = []
    for message in network.layers:
        layer = read_layer(message, model)
        if layer.kind in _CONSTANTS and message.output[0] in fixed:
            continue
        if layer.kind not in CONTROL_FLOW and not _by_numpy(message):
            plain.append(message)
            continue
        if plain:
            steps.append(GraphStep(tuple(plain)))
            plain = []
        steps.append(_step(message, layer, fixed, model))
    return (*steps, GraphStep(tuple(plain))) if plain else tuple(steps)


def _step(message: Any, layer: Layer, fixed: dict[str, Any], model: str) -> Step:
    params = layer.params
    if layer.kind == "branch":
        if len(message.input) != 1:
            raise layer.unsupported(f"a branch with {len(message.input)} inputs")
        return BranchStep(
            message.input[0],
            divide(params.ifBranch, fixed, model),
            divide(params.elseBranch, fixed, model),
        )
    if layer.kind == "loop":
        return _loop(message, layer, fixed, model)
    if layer.kind in CONTROL_FLOW:
        return JumpStep(leave=layer.kind == "loopBreak")
    return NumpyStep(message, layer)


def _loop(message: Any, layer: Layer, fixed: dict[str, Any], model: str) -> LoopStep:
    params = layer.params
    condition = divide(params.conditionNetwork, fixed, model)
    limit = message.input[0] if len(message.input) else int(params.maxLoopIterations) or None
    if len(message.input) > 1 or (limit is None and not params.conditionVar):
        raise layer.unsupported(f"a loop with {len(message.input)} inputs and no end")
    if condition and not params.conditionVar:
        raise layer.unsupported("a condition without conditionVar")
    return LoopStep(layer.name, limit, condition, params.conditionVar, divide(params.bodyNetwork, fixed, model))


def needed(steps: Sequence[Step]) -> set[str]:
    """The tensors that a step or a condition takes from outside of it."""
    names: set[str] = set()
    for step in steps:
        if isinstance(step, GraphStep):
            names |= set(inputs_of(step.layers))
        elif isinstance(step, NumpyStep):
            names |= set(step.message.input)
        elif isinstance(step, BranchStep):
            names |= {step.condition} | needed(step.then) | needed(step.otherwise)
        elif isinstance(step, LoopStep):
            names |= {name for name in (step.limit, step.variable) if isinstance(name, str) and name}
            names |= needed(step.condition) | needed(step.body)
    return names


def inputs_of(layers: Iterable[Any]) -> list[str]:
    """The tensors that layers read before any of them writes them, in the order of their use."""
    written: set[str] = set()
    names: dict[str, None] = {}
    for message in layers:
        names |= dict.fromkeys(name for name in message.input if name not in written)
        written |= set(message.output)
    return list(names)
