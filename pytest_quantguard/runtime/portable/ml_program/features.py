"""The inputs and outputs of an ML program: from the model's features to graph tensors and back."""

from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.runtime.portable.limits import fits
from pytest_quantguard.runtime.portable.ml_program.mil_types import COMPUTED_TYPES, TensorType, read_tensor_type
from pytest_quantguard.runtime.portable.ml_program.scope import Scope, Value
from pytest_quantguard.runtime.portable.translation import StateTensor


def declare_inputs(scope: Scope, description: Any, function: Any) -> dict[str, str]:
    """Add the function's inputs to the graph and the scope; returns their ONNX names by Core ML name.

    An image input is declared with four dimensions, whatever the function takes; all inputs are declared in the
    type that the engine computes with.
    """
    images = {feature.name for feature in description.input if feature.type.WhichOneof("Type") == "imageType"}
    names = {}
    for declared in function.inputs:
        name = declared.name
        if declared.type.WhichOneof("type") == "stateType":
            continue
        tensor_type = read_tensor_type(declared.type)
        if tensor_type is None or tensor_type.shape is None or tensor_type.dtype not in COMPUTED_TYPES:
            kind = declared.type.WhichOneof("type") if tensor_type is None else _describe(tensor_type)
            raise UnsupportedModelError(f"input '{name}' ({kind}) is not supported by the portable engine")
        shape = tensor_type.shape
        # Features have no scalars: a vector of one element stands for them.
        extra = (name in images and len(shape) == 3) or not shape
        names[name] = scope.graph.input(name, COMPUTED_TYPES[tensor_type.dtype], (1, *shape) if extra else shape)
        node = names[name]
        if extra:
            node = scope.graph.node("Squeeze", [node, scope.graph.constant([0])], name)
        scope.values[name] = Value(name, tensor_type, node=scope.round(node, tensor_type))
    return names


def declare_states(scope: Scope, function: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Add the function's states to the graph's inputs and the scope; returns ONNX name and shape of each."""
    states = {}
    for declared in function.inputs:
        if declared.type.WhichOneof("type") != "stateType":
            continue
        name = declared.name
        tensor_type = read_tensor_type(declared.type.stateType.wrappedType)
        if tensor_type is None or tensor_type.shape is None or tensor_type.dtype not in ("fp16", "fp32"):
            raise UnsupportedModelError(
                f"state '{name}' is no float tensor, which the portable engine does not support"
            )
        shape = tuple(size for size in tensor_type.shape if size is not None)
        if len(shape) != len(tensor_type.shape):
            raise UnsupportedModelError(
                f"state '{name}' of flexible shape is not supported by the portable engine"
            )
        if not fits(shape):
            raise UnsupportedModelError(f"state '{name}' of shape {shape} is too large to be supported")
        node = scope.graph.input(name, "float32", shape)
        scope.values[name] = Value(name, tensor_type, node=node)
        scope.states[name] = node
        states[name] = (node, shape)
    return states


def written_states(scope: Scope, states: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, StateTensor]:
    """Add the newest value of each state to the graph's outputs."""
    return {
        name: StateTensor(node, scope.graph.output(scope.states[name], f"{name}_written", "float32"), shape)
        for name, (node, shape) in states.items()
    }


def declare_outputs(scope: Scope, description: Any, block: Any, classified: Value | None) -> dict[str, str]:
    """Add the model's outputs, other than a classifier's label and probabilities, to the graph's outputs."""
    names = {}
    for feature in description.output:
        name = feature.name
        if classified is not None and name not in scope.values and name in block.outputs:
            continue
        if name not in scope.values or name not in block.outputs:
            raise ModelFileError(
                f"The program does not compute the model's output '{name}'; the model is damaged."
            )
        value = scope.values[name]
        if value.type is None or value.type.dtype not in COMPUTED_TYPES:
            raise UnsupportedModelError(
                f"output '{name}' is no tensor, which the portable engine does not support"
            )
        node = scope.write(value)
        if feature.type.WhichOneof("Type") == "imageType":
            node = _image(scope, value.type, node, name)
        elif value.type.shape == ():
            node = scope.graph.node("Unsqueeze", [node, scope.graph.constant([0])], name)
        names[name] = scope.graph.output(node, name, COMPUTED_TYPES[value.type.dtype])
    return names


def _image(scope: Scope, tensor_type: TensorType, node: str, name: str) -> str:
    """An image without its batch dimension."""
    shape = tensor_type.shape
    if shape is not None and len(shape) == 3:
        return node
    if shape is None or len(shape) != 4 or shape[0] not in (1, None):
        raise UnsupportedModelError(
            f"image output '{name}' ({_describe(tensor_type)}) is not supported by the portable engine"
        )
    return scope.graph.node("Squeeze", [node, scope.graph.constant([0])], name)


def _describe(tensor_type: TensorType) -> str:
    if tensor_type.shape is None:
        return f"{tensor_type.dtype} of unknown rank"
    sizes = " x ".join("?" if size is None else str(size) for size in tensor_type.shape)
    return f"{tensor_type.dtype} {sizes}"
