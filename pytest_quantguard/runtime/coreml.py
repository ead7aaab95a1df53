"""Apple's engine, through coremltools' `MLModel.predict`; macOS only."""

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import ModelDescription
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.runtime.engine import Outputs, State
from pytest_quantguard.runtime.portable.answers import feature_as_array


class CoreMLEngine:
    """Runs a model with Apple's framework (protocol: `runtime.engine.Engine`).

    Args:
        mlmodel: the loaded coremltools `MLModel`.
        name: what to call the model in errors.
        function_name: the function that `mlmodel` was loaded with, of a package with several.

    Raises:
        UnsupportedModelError: this is no macOS.
    """

    def __init__(self, mlmodel: Any, *, name: str, function_name: str | None = None) -> None:
        if platform.system() != "Darwin":
            raise UnsupportedModelError(
                f"{name} cannot run with engine='coreml': Apple's framework is there on macOS only; use "
                "engine='portable'."
            )
        self._mlmodel = mlmodel
        self._model = name
        spec = select_function(mlmodel.get_spec(), function_name, name=name)
        self._description: ModelDescription = describe(spec)

    @property
    def name(self) -> str:
        """The engine's name."""
        return "coreml"

    @property
    def version(self) -> str:
        """What executes, with its version."""
        return f"macOS {platform.mac_ver()[0]}"

    def make_state(self) -> State:
        """A new state for `predict`.

        Raises:
            PredictionError: the model has no states.
        """
        try:
            state: State = self._mlmodel.make_state()
        # coremltools passes Apple's errors on as RuntimeError, and raises plain exceptions of its own.
        except Exception as error:
            raise PredictionError(f"{self._model}: Apple's framework makes no state: {error}") from error
        return state

    def predict(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Raises:
            PredictionError: Apple's framework refuses the inputs.
        """
        try:
            answer: dict[str, Any] = self._mlmodel.predict(dict(inputs), **({"state": state} if state else {}))
        # coremltools passes Apple's errors on as RuntimeError, and raises plain exceptions of its own.
        except Exception as error:
            raise PredictionError(f"{self._model}: Apple's framework refuses to predict: {error}") from error
        return answer

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only; takes the same inputs as `predict`.

        Raises:
            PredictionError: Apple's framework refuses the inputs, or a classifier gives no probabilities.
        """
        answer = self.predict(inputs, self.make_state() if self._description.states else None)
        description = self._description
        own = (description.label_name, description.probabilities_name) if description.labels else ()
        arrays = {name: feature_as_array(value) for name, value in answer.items() if name not in own}
        if not description.labels:
            return Outputs(None, arrays)
        probabilities = answer.get(description.probabilities_name or "")
        if not isinstance(probabilities, Mapping):
            raise PredictionError(
                f"{self._model} is a classifier without probabilities, so its answers cannot be measured; add a "
                "predictedProbabilitiesName to its description."
            )
        return Outputs(self._scores(probabilities), arrays)

    def _scores(self, probabilities: Mapping[Any, float]) -> NDArray[np.float32]:
        """Probabilities in label order; the dictionary has one for a label that occurs twice: its first place."""
        left = dict(probabilities)
        labels = self._description.labels or ()
        return np.array([left.pop(label, 0.0) for label in labels], np.float32)
