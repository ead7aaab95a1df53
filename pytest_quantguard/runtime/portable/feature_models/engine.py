"""The engine of pipelines and of models that are no networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.runtime.engine import Outputs, State
from pytest_quantguard.runtime.portable.answers import feature_as_array
from pytest_quantguard.runtime.portable.arithmetic import ieee
from pytest_quantguard.runtime.portable.engine import PortableEngine, PortableState
from pytest_quantguard.runtime.portable.feature_models.registry import Answer
from pytest_quantguard.runtime.portable.feature_models.stages import make_stage
from pytest_quantguard.runtime.portable.feature_models.values import ValueReader


class FeatureModelEngine:
    """Runs a pipeline or a model that is no network (protocol: `runtime.engine.Engine`).

    Args:
        spec: the parsed `Model` message.
        weights_dir: the folder of the weight files of ML programs in a pipeline; None where there is none.
        name: what to call the model in errors.
        threads: threads of one prediction of a network in a pipeline.
        precision: one of `runtime.PRECISIONS`, for ML programs in a pipeline.

    Raises:
        UnsupportedModelError: a model's type, or something in it, is not supported; it is named.
        ModelFileError: a model is damaged.
    """

    def __init__(
        self, spec: Any, weights_dir: Path | None, *, name: str, threads: int = 1, precision: str = "float32"
    ) -> None:
        self._model = name
        self._description = describe(spec, name=name)
        self._reader = ValueReader(spec, self._description, model=name)
        self._stage = make_stage(
            spec,
            name=name,
            network_engine=lambda network, title: PortableEngine(
                network, weights_dir, name=title, threads=threads, precision=precision
            ),
        )

    @property
    def name(self) -> str:
        """The engine's name."""
        return "portable"

    @property
    def version(self) -> str:
        """What executes, with its version: onnxruntime if there is a network, else numpy."""
        engines = self._stage.engines
        return engines[0].version if engines else f"numpy {np.__version__}"

    def make_state(self) -> PortableState:
        """A state without entries: these models have none."""
        return PortableState({}, model=self._model)

    def predict(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does: numbers, strings, dictionaries, arrays, images and so on.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type, or has no answer; or a
                state of another model is given.
        """
        if state is not None and not (isinstance(state, PortableState) and not state.arrays):
            raise PredictionError(f"{self._model}: the state is not one of this model; make it with make_state().")
        return self._run(inputs).features

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only; takes the same inputs and raises the same errors as `predict`."""
        answer = self._run(inputs)
        description = self._description
        own = (description.label_name, description.probabilities_name) if description.labels else ()
        arrays = {name: feature_as_array(value) for name, value in answer.features.items() if name not in own}
        return Outputs(answer.scores if description.labels else None, arrays)

    def _run(self, inputs: Mapping[str, Any]) -> Answer:
        with ieee():
            return self._stage.run(self._reader.read(inputs))
