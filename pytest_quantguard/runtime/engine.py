"""The protocol that every engine fulfils."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outputs:
    """A model's answer for one sample, as arrays.

    Args:
        scores: a classifier's probabilities, float32 of shape (labels,), in the order of the model's labels;
            None for a model that is no classifier.
        arrays: every other output by name: numbers as arrays of shape (), multi-arrays as they are, images
            as float32 of shape (height, width, channels) with values 0 to 255 in RGB order (or one channel).
    """

    scores: NDArray[np.float32] | None
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


class State(Protocol):
    """What a stateful model remembers from one prediction to the next; not for several threads at once."""

    def read_state(self, name: str) -> NDArray[Any]:
        """The value of a state, float16 states as float32 arrays; raises PredictionError for an unknown name."""

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state; raises PredictionError for an unknown name or another shape."""


class Engine(Protocol):
    """Executes one model. All methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """`coreml` or `portable`."""

    @property
    def version(self) -> str:
        """What executes, with its version, for instance `onnxruntime 1.31.1`."""

    def make_state(self) -> State:
        """A new state, all zeros, for `predict`."""

    def predict(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Args:
            inputs: by input name: PIL images for image inputs, numpy arrays or numbers for the others.
            state: what a stateful model reads and updates; made by `make_state` of the same engine.

        Returns:
            By output name: the label, a dictionary of probabilities by label, arrays, PIL images.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type, or a stateful model got
                no state.
        """

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only, for measuring; takes the same inputs as `predict`.

        A stateful model starts from a new state, so that the answer depends on the sample alone.
        """
