"""What a translator gives to the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LoadGraph = Callable[[bytes], Any]
"""Makes an onnxruntime session of a serialized ONNX `ModelProto`."""


@dataclass(frozen=True)
class StateTensor:
    """One state of a model: read at the start of a prediction, written at its end.

    Args:
        read: the ONNX input that takes its value, float32.
        written: the ONNX output with its new value.
        shape: its shape.
    """

    read: str
    written: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Translation:
    """A Core ML network as an ONNX model.

    Args:
        onnx_model: the serialized ONNX `ModelProto`.
        inputs: Core ML input name to ONNX input name. An image input is float32 of shape
            (1, channels, height, width), values 0 to 255, channels in the order of the feature's colour layout
            (BGR for `BGR`). A multi-array input has the shape that the model states; the graph itself brings
            it to the shape the network computes with.
        outputs: Core ML output name to ONNX output name, in the shape that `MLModel.predict` returns. An image
            output is float32 (channels, height, width) in the order of its colour layout. The label and the
            probabilities of a classifier are not among them.
        scores: the ONNX output with a classifier's probabilities, any shape, one value per label.
        states: by Core ML name.
        stepwise: given for a network that is no single graph. Takes the session of `onnx_model`, which then only
            prepares the inputs, and the function that makes sessions; returns what runs in place of that
            session: an object whose `run(names, feeds)` takes `inputs` and gives `outputs` and `scores`.
    """

    onnx_model: bytes
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    scores: str | None = None
    states: Mapping[str, StateTensor] = field(default_factory=dict)
    stepwise: Callable[[Any, LoadGraph], Any] | None = None
