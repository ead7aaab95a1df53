"""The stages that a model is made of: a network, a pipeline of stages, or a model computed with numpy."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.describe import classification, describe, pipeline_stages
from pytest_quantguard.models.description import OtherFeature
from pytest_quantguard.runtime.portable.answers import as_prediction
from pytest_quantguard.runtime.portable.arithmetic import ieee
from pytest_quantguard.runtime.portable.engine import ML_PROGRAM, NEURAL_NETWORKS, PortableEngine
from pytest_quantguard.runtime.portable.feature_models.refusals import unsupported_type
from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, entry_of
from pytest_quantguard.runtime.portable.feature_models.values import READABLE_TYPES, ValueReader, fitted
from pytest_quantguard.runtime.portable.shapes import allowed_shapes

NetworkEngine = Callable[[Any, str], PortableEngine]
"""Makes the engine of a network from its specification and its name."""


class Stage(Protocol):
    """One model of a pipeline, or a model by itself."""

    @property
    def engines(self) -> tuple[PortableEngine, ...]:
        """The networks in it."""

    def run(self, features: Mapping[str, Any]) -> Answer:
        """Answer for the features that the pipeline has so far; takes its own inputs from them."""


def make_stage(spec: Any, *, name: str, network_engine: NetworkEngine) -> Stage:
    """The stage for a model of any type.

    Args:
        spec: the parsed `Model` message.
        name: what to call the model in errors.
        network_engine: makes the engine of a network.

    Raises:
        UnsupportedModelError: the model's type, or something in it, is not supported; it is named.
        ModelFileError: the model contradicts itself or the specification.
    """
    from pytest_quantguard.runtime.portable.feature_models import families  # noqa: F401  (fills the registry)

    kind = spec.WhichOneof("Type")
    if kind is None:
        raise ModelFileError(f"{name} names no model type; export the model again.")
    if kind in (*NEURAL_NETWORKS, ML_PROGRAM):
        return NetworkStage(spec, name=name, engine=network_engine(spec, name))
    if pipeline_stages(spec) is not None:
        return PipelineStage(spec, name=name, network_engine=network_engine)
    return ModelStage(spec, name=name)


class ModelStage:
    """A model that is computed with numpy."""

    engines: tuple[PortableEngine, ...] = ()

    def __init__(self, spec: Any, *, name: str) -> None:
        entry = entry_of(spec.WhichOneof("Type"))
        if entry is None:
            raise unsupported_type(spec, name=name)
        model = FeatureModel(spec, name=name)
        for feature in (*model.description.inputs, *model.description.outputs):
            if isinstance(feature, OtherFeature) and feature.type_name not in READABLE_TYPES:
                raise model.refuse(f"{feature.name!r} of type {feature.type_name}")
        self._reader = ValueReader(spec, model.description, model=name)
        self._model = model
        self._takes_optional = entry.takes_optional
        with ieee():
            self._predict = entry.make(model)

    def run(self, features: Mapping[str, Any]) -> Answer:
        values = self._reader.read_from(features)
        for name, value in values.items():
            if value is None and not self._takes_optional:
                raise self._model.failed(f"its input {name!r} is missing, and it has no default")
        return self._predict(values)


class NetworkStage:
    """A neural network or an ML program in a pipeline."""

    def __init__(self, spec: Any, *, name: str, engine: PortableEngine) -> None:
        self.engines = (engine,)
        self._engine = engine
        self._model = name
        self._description = describe(spec)
        self._shapes = {feature.name: allowed_shapes(feature) for feature in spec.description.input}
        if self._description.states:
            raise UnsupportedModelError(
                f"{name}: a model with states in a pipeline is not supported by the portable engine."
            )

    def run(self, features: Mapping[str, Any]) -> Answer:
        own = {}
        for name, allowed in self._shapes.items():
            value = features.get(name)
            if value is not None:
                own[name] = fitted(value, allowed) if isinstance(value, np.ndarray) else value
        outputs = self._engine.outputs(own)
        return Answer(as_prediction(self._description, outputs, model=self._model), outputs.scores)


class PipelineStage:
    """Stages one after the other; each takes its inputs by name from those of the pipeline and earlier outputs.

    Source: `Pipeline` in `Model.proto`.
    """

    def __init__(self, spec: Any, *, name: str, network_engine: NetworkEngine) -> None:
        models = pipeline_stages(spec) or ()
        if not models:
            raise ModelFileError(f"{name}: the pipeline has no models; export the model again.")
        self._model = name
        self._outputs = [feature.name for feature in spec.description.output]
        classified = classification(spec)
        self._classifier = classified.stage if classified else None
        self._stages = []
        known = {feature.name for feature in spec.description.input}
        for index, model in enumerate(models):
            title = f"{name}, model {index + 1} of {len(models)}"
            for feature in model.description.input:
                if feature.name not in known and not feature.type.isOptional:
                    raise ModelFileError(
                        f"{title}: nothing gives its input {feature.name!r}; export the model again."
                    )
            self._stages.append(make_stage(model, name=title, network_engine=network_engine))
            known |= {feature.name for feature in model.description.output}
        missing = [output for output in self._outputs if output not in known]
        if missing:
            raise ModelFileError(f"{name}: nothing gives the output {missing[0]!r}; export the model again.")
        self.engines = tuple(engine for stage in self._stages for engine in stage.engines)

    def run(self, features: Mapping[str, Any]) -> Answer:
        pool = dict(features)
        scores = None
        for index, stage in enumerate(self._stages):
            answer = stage.run(pool)
            pool |= answer.features
            if index == self._classifier:
                scores = answer.scores
        return Answer({name: pool[name] for name in self._outputs if pool.get(name) is not None}, scores)
