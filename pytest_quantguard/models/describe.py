"""From the specification's `ModelDescription` to plain values."""

from typing import Any

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


def describe(spec: Any) -> ModelDescription:
    """Describe a model from its parsed `Model` message."""
    description = spec.description
    labels = read_labels(spec)
    return ModelDescription(
        kind=spec.WhichOneof("Type"),
        specification_version=spec.specificationVersion,
        inputs=tuple(_feature(feature) for feature in description.input),
        outputs=tuple(_feature(feature) for feature in description.output),
        labels=labels,
        label_name=description.predictedFeatureName or None if labels else None,
        probabilities_name=description.predictedProbabilitiesName or None if labels else None,
    )


def read_labels(spec: Any) -> tuple[Label, ...] | None:
    """The class labels in the order of the probabilities; None for a model that is no classifier.

    Sources: `NeuralNetworkClassifier.ClassLabels`, the MIL operation `classify`, and the classifier that ends a
    pipeline.
    """
    kind = spec.WhichOneof("Type")
    if kind == "mlProgram":
        return _program_labels(spec)
    if kind in ("pipelineClassifier", "pipeline", "pipelineRegressor"):
        pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
        found = [read_labels(model) for model in pipeline.models]
        return next((labels for labels in reversed(found) if labels), None)
    model = getattr(spec, kind)
    if "ClassLabels" not in [oneof.name for oneof in model.DESCRIPTOR.oneofs]:
        return None
    chosen = model.WhichOneof("ClassLabels")
    return tuple(getattr(model, chosen).vector) if chosen else None


def _program_labels(spec: Any) -> tuple[Label, ...] | None:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            constants = {output.name: operation for operation in block.operations for output in operation.outputs}
            for operation in block.operations:
                if operation.type == "classify":
                    binding = operation.inputs["classes"].arguments[0]
                    if binding.WhichOneof("binding") == "value":
                        return _label_values(binding.value)
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
    if kind == "imageType":
        image = feature.type.imageType
        color = COLORS.get(image.colorSpace, "RGB")
        return ImageFeature(feature.name, image.width, image.height, color, optional)
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        return ArrayFeature(feature.name, tuple(array.shape), ARRAY_TYPES.get(array.dataType, "float32"), optional)
    return OtherFeature(feature.name, str(kind), optional)
