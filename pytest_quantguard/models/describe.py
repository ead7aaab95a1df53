"""From the specification's `ModelDescription` to plain values."""

from dataclasses import dataclass
from typing import Any

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.description import (
    ArrayFeature,
    Feature,
    ImageFeature,
    Label,
    ModelDescription,
    OtherFeature,
)

# FeatureTypes.proto: ArrayFeatureType.ArrayDataType
ARRAY_TYPES = {
    0: "float32",
    65552: "float16",
    65568: "float32",
    65600: "float64",
    131104: "int32",
    131080: "int8",
}
# FeatureTypes.proto: ImageFeatureType.ColorSpace
COLORS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}

PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")
MAX_COUNTED_CLASSES = 1 << 16
"""Classes that a tree ensemble may have without naming them."""


def describe(spec: Any, *, name: str = "The model") -> ModelDescription:
    """Describe a model from its parsed `Model` message.

    Raises:
        ModelFileError: the description is damaged; the message begins with `name`.
    """
    try:
        return _describe(spec)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error


def _describe(spec: Any) -> ModelDescription:
    description = spec.description
    classified = classification(spec) or Classification(None)
    return ModelDescription(
        kind=spec.WhichOneof("Type"),
        specification_version=spec.specificationVersion,
        inputs=tuple(_feature(feature) for feature in description.input),
        outputs=tuple(_feature(feature) for feature in description.output),
        labels=classified.labels,
        label_name=classified.label_name,
        probabilities_name=classified.probabilities_name,
        states=tuple(state.name for state in description.state),
    )


def pipeline_stages(spec: Any) -> tuple[Any, ...] | None:
    """The `Model` messages of a pipeline, in order; None for a model that is none."""
    kind = spec.WhichOneof("Type")
    if kind not in PIPELINES:
        return None
    pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    return tuple(pipeline.models)


@dataclass(frozen=True)
class Classification:
    """What makes a model a classifier.

    Args:
        labels: the class labels in the order of the probabilities.
        label_name: the output with the label.
        probabilities_name: the output with the probabilities.
        stage: the index of the pipeline's stage that they come from.
    """

    labels: tuple[Label, ...] | None
    label_name: str | None = None
    probabilities_name: str | None = None
    stage: int | None = None


def classification(spec: Any) -> Classification | None:
    """Labels and outputs of a classifier; None for a model that is none.

    Sources: `ClassLabels` of a classifier, the MIL operation `classify`, and the classifier in a pipeline.
    """
    stages = pipeline_stages(spec)
    if stages is not None:
        return _pipeline_classification(spec, stages)
    labels = _program_labels(spec) if spec.WhichOneof("Type") == "mlProgram" else _model_labels(spec)
    return Classification(labels, *_described_outputs(spec)) if labels else None


def _pipeline_classification(spec: Any, stages: tuple[Any, ...]) -> Classification | None:
    """The last classifier whose label or probabilities the pipeline gives as they are.

    In a `pipelineClassifier` that gives neither, the last classifier. A pipeline's own description need not repeat
    which outputs they are.
    """
    outputs = {feature.name for feature in spec.description.output}
    found = [(index, classified) for index, stage in enumerate(stages) if (classified := classification(stage))]
    given = [
        (index, classified)
        for index, classified in found
        if classified.label_name in outputs or classified.probabilities_name in outputs
    ]
    if not given and spec.WhichOneof("Type") == "pipelineClassifier":
        given = found
    if not given:
        return None
    index, classified = given[-1]
    names = _described_outputs(spec)
    if not any(names):
        label, probabilities = classified.label_name, classified.probabilities_name
        names = label if label in outputs else None, probabilities if probabilities in outputs else None
    return Classification(classified.labels, *names, stage=index)


def _described_outputs(spec: Any) -> tuple[str | None, str | None]:
    description = spec.description
    return description.predictedFeatureName or None, description.predictedProbabilitiesName or None


def _model_labels(spec: Any) -> tuple[Label, ...] | None:
    """The labels of a model that is neither a program nor a pipeline.

    Nearest neighbours store a label per point: here each stands once, sorted. Trees without labels count their
    classes. The boxes that a detector keeps have class labels, too, but no single answer.
    """
    kind = spec.WhichOneof("Type")
    model = getattr(spec, kind) if kind else None
    if model is None or kind == "nonMaximumSuppression":
        return None
    if "ClassLabels" not in [oneof.name for oneof in model.DESCRIPTOR.oneofs]:
        return None
    chosen = model.WhichOneof("ClassLabels")
    labels = tuple(getattr(model, chosen).vector) if chosen else ()
    if kind == "kNearestNeighborsClassifier":
        default = model.WhichOneof("DefaultClassLabel")
        return tuple(sorted(set(labels))) or ((getattr(model, default),) if default else None)
    if kind == "treeEnsembleClassifier" and not labels:
        count = max(2, model.treeEnsemble.numPredictionDimensions)
        return tuple(range(count)) if count <= MAX_COUNTED_CLASSES else None
    return labels or None


def _program_labels(spec: Any) -> tuple[Label, ...] | None:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            constants = {output.name: operation for operation in block.operations for output in operation.outputs}
            for operation in block.operations:
                if operation.type == "classify":
                    arguments = operation.inputs["classes"].arguments
                    if not arguments:
                        raise ModelFileError("operation 'classify' has no classes; the model is damaged.")
                    binding = arguments[0]
                    if binding.WhichOneof("binding") == "value":
                        return _label_values(binding.value)
                    if binding.name not in constants:
                        raise ModelFileError(f"the program never computes the classes '{binding.name}'.")
                    return _label_values(constants[binding.name].attributes["val"])
    return None


def _label_values(value: Any) -> tuple[Label, ...]:
    """Labels of a MIL value: a list of scalars, or a one-dimensional tensor."""
    immediate = value.immediateValue
    if immediate.WhichOneof("value") == "list":
        return tuple(label for entry in immediate.list.values for label in _label_values(entry))
    kind = immediate.tensor.WhichOneof("value")
    return tuple(getattr(immediate.tensor, kind).values) if kind else ()


def _feature(feature: Any) -> Feature:
    kind = feature.type.WhichOneof("Type")
    optional = feature.type.isOptional
    if kind is None:
        raise ModelFileError(
            f"feature '{feature.name}' has no type that this version knows; the model is damaged, or too new."
        )
    if kind == "imageType":
        image = feature.type.imageType
        color = COLORS.get(image.colorSpace, "RGB")
        return ImageFeature(feature.name, image.width, image.height, color, optional)
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        return ArrayFeature(feature.name, tuple(array.shape), ARRAY_TYPES.get(array.dataType, "float32"), optional)
    return OtherFeature(feature.name, kind, optional, _entries(feature, kind))


def _entries(feature: Any, kind: str) -> str:
    if kind == "dictionaryType":
        return str(feature.type.dictionaryType.WhichOneof("KeyType") or "").removesuffix("KeyType")
    if kind == "sequenceType":
        return str(feature.type.sequenceType.WhichOneof("Type") or "").removesuffix("Type")
    return ""
