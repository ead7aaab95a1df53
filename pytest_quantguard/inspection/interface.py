"""Inputs, outputs and states of a model as JSON values."""

from collections.abc import Sequence
from typing import Any

from pytest_quantguard.models.describe import ARRAY_TYPES, COLORS
from pytest_quantguard.runtime.portable.shapes import allowed_shapes


def feature_entry(feature: Any) -> dict[str, Any]:
    """A `FeatureDescription` message as JSON values.

    Returns:
        `name`, `type` (image, array, int64, double, string, dictionary, sequence, state), `optional`, and by type:
        `color`, `width` and `height`; `dtype` and `shape`; `keys`; `entries`. `flexible` says which other shapes
        (of images: height x width) are allowed, None for none.
    """
    kind = feature.type.WhichOneof("Type") or "unknown"
    entry: dict[str, Any] = {"name": feature.name, "type": kind.removesuffix("Type")}
    if kind == "imageType":
        image = feature.type.imageType
        entry |= {"type": "image", "color": COLORS.get(image.colorSpace, "unknown")}
        entry |= {"width": int(image.width), "height": int(image.height), "flexible": _flexible(feature)}
    elif kind == "multiArrayType":
        entry |= {"type": "array", **_array(feature.type.multiArrayType), "flexible": _flexible(feature)}
    elif kind == "stateType":
        entry |= _array(feature.type.stateType.arrayType)
    elif kind == "dictionaryType":
        keys = feature.type.dictionaryType.WhichOneof("KeyType") or "unknown"
        entry["keys"] = keys.removesuffix("KeyType")
    elif kind == "sequenceType":
        entries = feature.type.sequenceType.WhichOneof("Type") or "unknown"
        entry["entries"] = entries.removesuffix("Type")
    return {**entry, "optional": bool(feature.type.isOptional), "description": feature.shortDescription}


def _array(array: Any) -> dict[str, Any]:
    dtype = ARRAY_TYPES.get(array.dataType, f"type {array.dataType}") if array.dataType else "unknown"
    return {"dtype": dtype, "shape": [int(size) for size in array.shape]}


def _flexible(feature: Any) -> str | None:
    allowed = allowed_shapes(feature)
    return str(allowed) if allowed.ranges or allowed.listed - {allowed.default} else None


def feature_text(entry: dict[str, Any]) -> str:
    """An entry as a reader says it: `image RGB 8 x 8`, `array float32 1 x 3 x 8 x 8, optional`."""
    words = [entry["type"]]
    if entry["type"] == "image":
        words += [entry["color"], _sizes((entry["width"], entry["height"]))]
    elif "dtype" in entry:
        words += [entry["dtype"], _sizes(entry["shape"]) or "of any shape"]
    elif "keys" in entry:
        words.append(f"by {entry['keys']}")
    elif "entries" in entry:
        words.append(f"of {entry['entries']}")
    text = " ".join(words)
    if entry.get("flexible"):
        text += f" (flexible: {entry['flexible']})"
    return text + (", optional" if entry["optional"] else "")


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
