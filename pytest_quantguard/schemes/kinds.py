"""Kinds of models, by the specification's names of the model type, and what pipelines are made of."""

from typing import Any

NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")
PROGRAM = "mlProgram"


def stages(spec: Any) -> list[tuple[str, Any]]:
    """Name and `Model` message of each model of a pipeline; one without a name is called by its number."""
    kind = spec.WhichOneof("Type")
    pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    names = list(pipeline.names)
    return [
        (names[index] if index < len(names) else str(index), model) for index, model in enumerate(pipeline.models)
    ]
