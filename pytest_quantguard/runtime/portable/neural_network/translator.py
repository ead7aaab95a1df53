"""Neural networks (specification: NeuralNetwork.proto) to ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_quantguard.models.describe import describe
from pytest_quantguard.runtime.portable.constants_file import ConstantsFile
from pytest_quantguard.runtime.portable.neural_network import layers as _register_layers  # noqa: F401
from pytest_quantguard.runtime.portable.neural_network.assemble import add_layer
from pytest_quantguard.runtime.portable.neural_network.inputs import input_blob
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network
from pytest_quantguard.runtime.portable.neural_network.outputs import declare_outputs
from pytest_quantguard.runtime.portable.neural_network.registry import OpenShapeError
from pytest_quantguard.runtime.portable.neural_network.steps import check_network, needs_steps
from pytest_quantguard.runtime.portable.neural_network.stepwise import translate_stepwise
from pytest_quantguard.runtime.portable.translation import Translation

KINDS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
"""The model types that this translator takes."""

Shapes = Mapping[str, Sequence[int]]


def translate(
    spec: Any, *, name: str, input_shapes: Shapes | None = None, file: ConstantsFile | None = None
) -> Translation:
    """Translate a neural network, a classifier or a regressor for fixed input shapes.

    The result is one ONNX graph where that is possible. Control flow, layers that are computed with numpy, and
    shapes that depend on input values make it run step by step (`Translation.stepwise`).

    Args:
        spec: the parsed `Model` message.
        name: what to call the model in errors.
        input_shapes: by input name the shape of the array, or (height, width) of the image, where it is not the
            one that the description states.
        file: takes the large constants, where the result is one graph; without it they are in the graph.

    Raises:
        UnsupportedModelError: a layer, or a value of one of its parameters, has no translation; names the layer.
        ModelFileError: weights are missing or do not fit their layer.
    """
    shapes = input_shapes or {}
    check_layers(spec, name=name)
    if needs_steps(getattr(spec, spec.WhichOneof("Type")).layers):
        return translate_stepwise(spec, shapes, name)
    try:
        return _one_graph(spec, shapes, name, file)
    except OpenShapeError:
        return translate_stepwise(spec, shapes, name)


def check_layers(spec: Any, *, name: str) -> None:
    """Refuse a model with a layer type that has no translation, whatever the shapes of its inputs.

    Raises:
        UnsupportedModelError: there is such a layer; names the first.
    """
    check_network(getattr(spec, spec.WhichOneof("Type")), name)


def moves_sequence(spec: Any) -> bool:
    """Whether a network of rank 5 takes its sequence for another dimension, and so may need one of its own length.

    The described shape of an input says nothing of the sequence.
    """
    for message in getattr(spec, spec.WhichOneof("Type")).layers:
        order, target = message.permute.axis, message.reshape.targetShape
        if (order and order[0] != 0) or len(target) == 4:
            return True
    return False


def _one_graph(spec: Any, shapes: Shapes, name: str, file: ConstantsFile | None) -> Translation:
    description = describe(spec)
    network = getattr(spec, description.kind)
    net = Network(name, file=file)
    blobs: dict[str, Blob] = {}
    for feature in description.inputs:
        blobs[feature.name] = input_blob(net, network, feature, shapes.get(feature.name), name)
    for message in network.layers:
        add_layer(net, message, blobs, name)
    outputs, scores = declare_outputs(net, network, description, blobs, name)
    return Translation(onnx_model=net.graph.build(), inputs=net.inputs, outputs=outputs, scores=scores)
