"""Feature engineering on numbers and arrays: scaler, normalizer, imputer, extractor, vectorizer, identity."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_quantguard.models.description import ArrayFeature, Feature
from pytest_quantguard.runtime.portable.feature_models.registry import Answer, FeatureModel, Predict, feature_model
from pytest_quantguard.runtime.portable.feature_models.vectors import MAX_DIMENSIONS, Vector

# By field of the imputed value the types of feature that it may stand for (coremltools' `ImputerValidator.cpp`).
_IMPUTED_TYPES = {
    "imputedDoubleValue": ("doubleType", "multiArrayType"),
    "imputedInt64Value": ("int64Type",),
    "imputedStringValue": ("stringType",),
    "imputedDoubleArray": ("multiArrayType",),
    "imputedInt64Array": ("multiArrayType",),
    "imputedStringDictionary": ("dictionaryType",),
    "imputedInt64Dictionary": ("dictionaryType",),
}


@feature_model("identity", takes_optional=True)
def identity(model: FeatureModel) -> Predict:
    """Every input as the output of the same name, or of the same place where the names differ.

    An optional input that is not given has no output.
    """
    inputs, outputs = model.description.inputs, model.description.outputs
    if {output.name for output in outputs} <= {taken.name for taken in inputs}:
        pairs = [(output, model.input_named(output.name)) for output in outputs]
    elif len(inputs) == len(outputs):
        pairs = list(zip(outputs, inputs, strict=True))
    else:
        raise model.damaged("its inputs and outputs do not fit each other")

    def predict(values: Mapping[str, Any]) -> Answer:
        given = [(output, values[taken.name]) for output, taken in pairs if values[taken.name] is not None]
        return Answer({output.name: model.value(output, value) for output, value in given})

    return predict


@feature_model("scaler")
def scaler(model: FeatureModel) -> Predict:
    """scaleValue * (x + shiftValue), each empty, one value, or one per entry."""
    taken, output = model.only_input("int64Type", "doubleType", "multiArrayType"), model.only_output()
    shift = _one_or_each(model, taken, model.params.shiftValue, 0.0)
    scale = _one_or_each(model, taken, model.params.scaleValue, 1.0)

    def predict(values: Mapping[str, Any]) -> Answer:
        x = np.asarray(values[taken.name], np.float64)
        try:
            scaled = (x.reshape(-1) + shift) * scale
        except ValueError as error:
            raise model.failed(f"{x.size} entries do not fit its {max(len(shift), len(scale))}") from error
        return Answer({output.name: model.value(output, scaled.reshape(x.shape))})

    return predict


@feature_model("normalizer")
def normalizer(model: FeatureModel) -> Predict:
    """x divided by its norm: the largest entry (`LMax`), the sum of magnitudes (`L1`), the length (`L2`).

    Zeros stay zeros. The largest entry is max(x), without magnitudes, as the specification writes it.
    """
    taken, output = model.only_input("multiArrayType"), model.only_output()
    norm_type = model.params.normType
    if norm_type not in model.params.NormType.values():
        raise model.damaged(f"there is no norm {norm_type}")
    norms: dict[int, Callable[[Vector], float]] = {
        model.params.LMax: lambda x: x.max(initial=-np.inf),
        model.params.L1: lambda x: np.abs(x).sum(),
        model.params.L2: lambda x: float(np.linalg.norm(x)),
    }

    def predict(values: Mapping[str, Any]) -> Answer:
        x = np.asarray(values[taken.name], np.float64)
        norm = norms[norm_type](x.reshape(-1))
        return Answer({output.name: model.value(output, x / norm if norm and x.size else x)})

    return predict


@feature_model("imputer", takes_optional=True)
def imputer(model: FeatureModel) -> Predict:
    """Replace what is missing, or equal to `ReplaceValue`, by `ImputedValue`.

    Missing is an input that is not given, and NaN where no `ReplaceValue` says otherwise. A dictionary that is
    not given becomes the imputed one, and its NaN values those of the imputed one.
    """
    kind = model.params.WhichOneof("ImputedValue")
    if kind is None:
        raise model.damaged("it has no imputed value")
    taken, output = model.only_input(*_IMPUTED_TYPES[kind]), model.only_output()
    imputed = getattr(model.params, kind)
    if kind.endswith("Dictionary"):
        imputed = dict(imputed.map)
    elif kind.endswith("Array"):
        imputed = _imputed_array(model, taken, imputed)
    chosen = model.params.WhichOneof("ReplaceValue")
    replaced = getattr(model.params, chosen) if chosen else np.nan

    def predict(values: Mapping[str, Any]) -> Answer:
        value = values[taken.name]
        if value is None:
            value = imputed
        elif isinstance(value, np.ndarray):
            value = np.where(_equals(value, replaced), imputed, value)
        elif isinstance(value, dict):
            value = {key: imputed.get(key, entry) if entry != entry else entry for key, entry in value.items()}
        elif _equals(value, replaced):
            value = imputed
        return Answer({output.name: model.value(output, value)})

    return predict


@feature_model("arrayFeatureExtractor")
def array_feature_extractor(model: FeatureModel) -> Predict:
    """The entries at `extractIndex` of an array, counted from 0 in row-major order."""
    taken, output = model.only_input("multiArrayType"), model.only_output()
    indices = list(model.params.extractIndex)
    if not indices or (len(indices) != 1 and not isinstance(output, ArrayFeature)):
        raise model.damaged(f"{len(indices)} indices do not fit its output")
    size = _size(taken)
    if max(indices) >= (MAX_DIMENSIONS if size is None else size):
        raise model.damaged(f"it extracts entry {max(indices)} of {'an array' if size is None else size}")

    def predict(values: Mapping[str, Any]) -> Answer:
        x = values[taken.name].reshape(-1)
        if max(indices) >= x.size:
            raise model.failed(f"it extracts entry {max(indices)}, but the array has {x.size}")
        return Answer({output.name: model.value(output, x[indices])})

    return predict


@feature_model("featureVectorizer")
def feature_vectorizer(model: FeatureModel) -> Predict:
    """The inputs one after the other, each with `inputDimensions` places.

    A dictionary fills the places that its keys number from 0; the others are zero.
    """
    columns = [(column.inputColumn, int(column.inputDimensions)) for column in model.params.inputList]
    output = model.only_output()
    total = sum(places for _, places in columns)
    if not columns or any(places < 1 for _, places in columns) or total > MAX_DIMENSIONS:
        raise model.damaged(f"it has {len(columns)} columns of {total} places together")
    for name, places in columns:
        size = _size(model.input_named(name, "int64Type", "doubleType", "multiArrayType", "dictionaryType"))
        if size is not None and size != places:
            raise model.damaged(f"input {name!r} has {size} entries for {places} places")

    def predict(values: Mapping[str, Any]) -> Answer:
        parts = [_column(model, name, values[name], places) for name, places in columns]
        return Answer({output.name: model.value(output, np.concatenate(parts))})

    return predict


@feature_model("classConfidenceThresholding")
def class_confidence_thresholding(model: FeatureModel) -> Predict:
    """The confidences, shape (classes,), and below them a row of ones: every class is taken.

    The specification keeps the precision-recall curves for the app; the model itself does not apply them.
    """
    taken, output = model.only_input("multiArrayType"), model.only_output()

    def predict(values: Mapping[str, Any]) -> Answer:
        confidences = np.asarray(values[taken.name], np.float64).reshape(-1)
        return Answer({output.name: model.value(output, np.stack([confidences, np.ones_like(confidences)]))})

    return predict


def _one_or_each(model: FeatureModel, taken: Feature, values: Any, default: float) -> Vector:
    found = np.array(list(values) or [default], np.float64)
    size = _size(taken)
    if len(found) != 1 and size is not None and len(found) != size:
        raise model.damaged(f"{len(found)} values do not fit the {size} entries of input {taken.name!r}")
    return found


def _imputed_array(model: FeatureModel, taken: Feature, values: Any) -> Vector:
    imputed = np.array(values.vector)
    if isinstance(taken, ArrayFeature) and taken.shape and imputed.size == _size(taken):
        return imputed.reshape(taken.shape)
    raise model.damaged(f"its {imputed.size} imputed values do not fit the input {taken.name!r}")


def _equals(value: Any, replaced: Any) -> Any:
    return np.isnan(value) if isinstance(replaced, float) and np.isnan(replaced) else value == replaced


def _column(model: FeatureModel, name: str, value: Any, places: int) -> Vector:
    column = np.zeros(places)
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, int) or not 0 <= key < places:
                raise model.failed(f"input {name!r} has the key {key!r}, but its keys are 0 to {places - 1}")
            column[key] = entry
        return column
    entries = np.asarray(value, np.float64).reshape(-1)
    if entries.size != places:
        raise model.failed(f"input {name!r} has {entries.size} entries for {places} places")
    return entries


def _size(feature: Feature) -> int | None:
    """Entries of an array or number; None for a dictionary and where the file does not state it."""
    if isinstance(feature, ArrayFeature):
        return int(np.prod(feature.shape, dtype=object)) if feature.shape else None
    return 1 if getattr(feature, "type_name", "") in ("int64Type", "doubleType") else None
