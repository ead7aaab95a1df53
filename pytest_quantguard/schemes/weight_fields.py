"""Which fields of a neural network's layers hold the weights that coremltools quantizes, and their shapes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class WeightField:
    """A `WeightParams` message and what its layer says of it."""

    name: str
    """The layer's name and the field's path, as in `network_tensors`."""
    parameters: Any
    """The layer's own message, for instance a `ConvolutionLayerParams`."""
    weights: Any
    shape: tuple[int, ...]
    axis: int = 0
    """The axis of the output channels: 1 for a deconvolution."""


Select = Callable[..., bool]
"""As `QuantizedLayerSelector.do_quantize`: takes a layer, and `weight_param="bias"` when asked for its bias."""
Prepare = Callable[[Any], None]
"""Takes a network before its layers are visited."""
_Shapes = Iterator[tuple[str, tuple[int, ...]]]

NESTED = {"branch": ("ifBranch", "elseBranch"), "loop": ("conditionNetwork", "bodyNetwork")}
_HAVE_SELECTED_BIAS = ("convolution", "innerProduct", "batchedMatmul")


def weight_fields(network: Any, select: Select, prepare: Prepare, path: str = "") -> Iterator[WeightField]:
    """The weights that are to be quantized, layer by layer.

    Source: coremltools' `quantization_utils._quantize_nn_spec`.

    Args:
        network: a `NeuralNetwork`, `NeuralNetworkClassifier` or `NeuralNetworkRegressor` message.
        select: whether a layer is to be quantized.
        prepare: called with the network, and with each network inside a selected loop or branch.
        path: what the names begin with.
    """
    prepare(network)
    for layer in network.layers:
        kind = layer.WhichOneof("layer")
        if kind not in QUANTIZABLE or not select(layer):
            continue
        parameters = getattr(layer, kind)
        if kind in NESTED:
            for part in NESTED[kind]:
                yield from weight_fields(getattr(parameters, part), select, prepare, f"{path}{layer.name}.{part}.")
            continue
        for field, shape, axis in layer_fields(layer):
            if field == "bias" and kind in _HAVE_SELECTED_BIAS and not select(layer, weight_param="bias"):
                continue
            name = f"{path}{layer.name}.{kind}." if path else f"{layer.name}."
            yield WeightField(name + field, parameters, _field(parameters, field), shape, axis)


def layer_fields(layer: Any) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Path, shape and axis of each weight tensor that coremltools quantizes in one NeuralNetworkLayer."""
    kind = layer.WhichOneof("layer")
    if kind not in _SHAPES:
        return
    parameters = getattr(layer, kind)
    for field, shape in _SHAPES[kind](parameters):
        yield field, shape, int(kind == "convolution" and field == "weights" and parameters.isDeconvolution)


def _field(message: Any, path: str) -> Any:
    for name in path.split("."):
        field, _, index = name.rstrip("]").partition("[")
        message = getattr(message, field)
        if index:
            message = message[int(index)]
    return message


def _convolution(layer: Any) -> _Shapes:
    kernel = layer.kernelSize or (3, 3)  # the specification's default
    if layer.isDeconvolution:
        shape = (layer.kernelChannels, layer.outputChannels // max(layer.nGroups, 1), *kernel)
    else:
        shape = (layer.outputChannels, layer.kernelChannels, *kernel)
    yield "weights", shape
    if layer.hasBias:
        yield "bias", (layer.outputChannels,)


def _matrix(outputs: str, inputs: str) -> Callable[[Any], _Shapes]:
    def shapes(layer: Any) -> _Shapes:
        yield "weights", (getattr(layer, outputs), getattr(layer, inputs))
        if layer.hasBias:
            yield "bias", (getattr(layer, outputs),)

    return shapes


def _batchnorm(layer: Any) -> _Shapes:
    for field in ("gamma", "beta", "mean", "variance"):
        yield field, (layer.channels,)


def _scale(layer: Any) -> _Shapes:
    yield "scale", (int(np.prod(layer.shapeScale)),)
    if layer.hasBias:
        yield "bias", (int(np.prod(layer.shapeBias)),)


def _whole(field: str) -> Callable[[Any], _Shapes]:
    def shapes(layer: Any) -> _Shapes:
        yield field, (int(np.prod(layer.shape)),)

    return shapes


def _simple_recurrent(layer: Any) -> _Shapes:
    inputs, outputs = layer.inputVectorSize, layer.outputVectorSize
    yield "weightMatrix", (outputs, inputs)
    yield "recursionMatrix", (outputs, outputs)
    if layer.hasBiasVector:
        yield "biasVector", (outputs,)


def _gru(layer: Any) -> _Shapes:
    gates = ("updateGate", "resetGate", "outputGate")
    inputs, outputs = layer.inputVectorSize, layer.outputVectorSize
    yield from ((f"{gate}WeightMatrix", (outputs, inputs)) for gate in gates)
    yield from ((f"{gate}RecursionMatrix", (outputs, outputs)) for gate in gates)
    if layer.hasBiasVectors:
        yield from ((f"{gate}BiasVector", (outputs,)) for gate in gates)


def _lstm(layer: Any) -> _Shapes:
    parts = ("inputGate", "forgetGate", "blockInput", "outputGate")
    inputs, outputs = layer.inputVectorSize, layer.outputVectorSize
    both = layer.DESCRIPTOR.name == "BiDirectionalLSTMLayerParams"
    for path in (
        [f"weightParams[{index}]" for index in range(len(layer.weightParams))] if both else ["weightParams"]
    ):
        yield from ((f"{path}.{part}WeightMatrix", (outputs, inputs)) for part in parts)
        yield from ((f"{path}.{part}RecursionMatrix", (outputs, outputs)) for part in parts)
        yield from ((f"{path}.{part}BiasVector", (outputs,)) for part in parts)
        if layer.params.hasPeepholeVectors:
            yield from ((f"{path}.{part}PeepholeVector", (outputs,)) for part in parts if part != "blockInput")


_SHAPES: dict[str, Callable[[Any], _Shapes]] = {
    "convolution": _convolution,
    "innerProduct": _matrix("outputChannels", "inputChannels"),
    "batchedMatmul": _matrix("weightMatrixSecondDimension", "weightMatrixFirstDimension"),
    "embedding": _matrix("outputChannels", "inputDim"),
    "embeddingND": _matrix("embeddingSize", "vocabSize"),
    "batchnorm": _batchnorm,
    "scale": _scale,
    "bias": _whole("bias"),
    "loadConstant": _whole("data"),
    "loadConstantND": _whole("data"),
    "simpleRecurrent": _simple_recurrent,
    "gru": _gru,
    "uniDirectionalLSTM": _lstm,
    "biDirectionalLSTM": _lstm,
}
QUANTIZABLE = frozenset((*_SHAPES, *NESTED))
"""The types of layers that coremltools quantizes, by the specification's names."""
