"""From the arguments of `quantguard predict` to the inputs of a model."""

import json
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantguard.cli.usage import UsageError
from pytest_quantguard.errors import SampleError
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature, ModelDescription


@dataclass(frozen=True)
class Case:
    """One prediction.

    Args:
        name: the image's path; empty without images.
        inputs: as `Model.predict` takes them, without the image.
        image: the input that takes the image; None without images.
    """

    name: str
    inputs: Mapping[str, Any]
    image: ImageFeature | None = None

    def complete(self, crop_and_scale: str) -> dict[str, Any]:
        """The inputs with the image, decoded and scaled as samples are."""
        if self.image is None:
            return dict(self.inputs)
        return {**self.inputs, self.image.name: _prepare(Path(self.name), self.image, crop_and_scale)}


def make_cases(
    description: ModelDescription, images: Sequence[Path], given: Sequence[str], *, name: str, crop_and_scale: str
) -> list[Case]:
    """What to predict: one case per image, or one without images.

    Args:
        description: the model's inputs.
        images: image files, and folders whose images are all meant.
        given: `NAME=VALUE` for other inputs.
        name: what to call the model in errors.
        crop_and_scale: for images that `given` names.

    Raises:
        UsageError: the arguments do not fit the model's inputs.
        SampleError: a file cannot be read.
    """
    inputs = dict(_parse(text, description, name, crop_and_scale) for text in given)
    if len(inputs) < len(given):
        raise UsageError("--input gives an input twice; give each once.")
    left = [feature for feature in description.inputs if feature.name not in inputs]
    image = _image_input(left, name) if images else None
    missing = [feature.name for feature in left if feature is not image and not feature.optional]
    if missing:
        how = "name image files, or " if isinstance(left[0], ImageFeature) else ""
        raise UsageError(f"{name} misses its input {missing[0]!r}; {how}give --input {missing[0]}=VALUE.")
    if image is None:
        return [Case("", inputs)]
    return [Case(str(path), inputs, image) for path in _files(images)]


def _image_input(left: Sequence[Feature], name: str) -> ImageFeature:
    """The input that the images are for: the only one left, or the only one that is required."""
    found = [feature for feature in left if isinstance(feature, ImageFeature)]
    if len(found) > 1:
        found = [feature for feature in found if not feature.optional] or found
    if not found:
        raise UsageError(f"{name} has no image input left to take the images; give --input NAME=VALUE.")
    if len(found) > 1:
        names = ", ".join(feature.name for feature in found)
        raise UsageError(f"{name} has several image inputs ({names}); give all but one by --input NAME=FILE.")
    return found[0]


def _files(images: Sequence[Path]) -> Iterator[Path]:
    from pytest_quantguard.samples.folder import read_sample_folder

    for path in images:
        if path.is_dir():
            yield from (sample.path for sample in read_sample_folder(path, None).samples)
        elif path.exists():
            yield path
        else:
            raise SampleError(f"There is no image {path}; name image files, or folders of images.")


def _prepare(path: Path, image: ImageFeature, crop_and_scale: str) -> Any:
    from pytest_quantguard.samples.prepare import prepare_image

    return prepare_image(path, image.width, image.height, image.color, crop_and_scale)


def _parse(text: str, description: ModelDescription, name: str, crop_and_scale: str) -> tuple[str, Any]:
    """An input's name and value from `NAME=VALUE`."""
    key, separator, value = text.partition("=")
    features = {feature.name: feature for feature in description.inputs}
    if not separator or key not in features:
        known = ", ".join(features) or "none"
        raise UsageError(f"--input {text}: write NAME=VALUE with an input of {name}: {known}.")
    feature = features[key]
    try:
        if isinstance(feature, ImageFeature):
            return key, _prepare(Path(value), feature, crop_and_scale)
        if isinstance(feature, ArrayFeature):
            return key, _array(value, feature)
        return key, _VALUES[feature.type_name](value, feature.entries)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        kind = "array" if isinstance(feature, ArrayFeature) else getattr(feature, "type_name", "image")
        raise UsageError(f"--input {text}: {value!r} is no value for {key!r} ({kind}); {_HINTS[kind]}.") from error


def _array(text: str, feature: ArrayFeature) -> Any:
    """An array from a .npy file, or from numbers with commas, which are brought to the described shape."""
    import numpy as np

    if not text.endswith(".npy"):
        values = np.array([float(part) for part in text.split(",")])
        return values.reshape(feature.shape) if values.size == np.prod(feature.shape) else values
    try:
        # Mapped, because a damaged header would otherwise be answered with as much memory as it names.
        return np.array(np.load(text, mmap_mode="r", allow_pickle=False))
    # numpy reads the header with Python's own parser.
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or holds no numbers"
        raise SampleError(f"{text} cannot be read as an array: {reason}; save it with numpy.save.") from error


def _entries(text: str, entries: str) -> Any:
    """A dictionary or a list from JSON, or from a .json file; JSON has text as keys, Core ML also int64."""
    value = json.loads(Path(text).read_text(encoding="utf-8") if text.endswith(".json") else text)
    if isinstance(value, dict) and entries == "int64":
        return {int(key): entry for key, entry in value.items()}
    if not isinstance(value, dict | list):
        raise ValueError("neither dictionary nor list")
    return value


_VALUES = {
    "doubleType": lambda text, entries: float(text),
    "int64Type": lambda text, entries: int(text),
    "stringType": lambda text, entries: text,
    "dictionaryType": _entries,
    "sequenceType": _entries,
}
_HINTS = {
    "array": "give a .npy file, or numbers with commas between them",
    "image": "give an image file",
    "doubleType": "give a number",
    "int64Type": "give a whole number",
    "stringType": "give text",
    "dictionaryType": "give a JSON object, or a .json file",
    "sequenceType": "give a JSON list, or a .json file",
}
