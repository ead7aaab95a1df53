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


class Engine(Protocol):
    """Executes one model. Both methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """`coreml` or `portable`."""

    @property
    def version(self) -> str:
        """What executes, with its version, for instance `onnxruntime 1.31.1`."""

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Args:
            inputs: by input name: PIL images for image inputs, numpy arrays or numbers for the others.

        Returns:
            By output name: the label, a dictionary of probabilities by label, arrays, PIL images.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type.
        """

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only, for measuring; takes the same inputs as `predict`."""
