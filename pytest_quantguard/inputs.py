"""Samples as the inputs of a model: a folder of images, or a list of input dictionaries."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pytest_quantguard.comparison import SampleSet
from pytest_quantguard.errors import SampleError
from pytest_quantguard.models.description import ModelDescription
from pytest_quantguard.samples.folder import read_sample_folder
from pytest_quantguard.samples.prepare import prepare_image
from pytest_quantguard.samples.sample import SampleFolder


@dataclass(frozen=True)
class InputSet:
    """The inputs of a model for every sample; an image is decoded when it is asked for.

    Args:
        names: the samples' names, in order.
        labels: the samples' labels as text; None where a sample has none.
        samples: what identifies the set in a baseline.
        make: gives the input dictionary of the sample at an index.
        folder: the folder behind it; None for a list of input dictionaries.
    """

    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    samples: SampleSet
    make: Callable[[int], Mapping[str, Any]]
    folder: SampleFolder | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.make(index)


def make_inputs(
    samples: str | Path | SampleFolder | Sequence[Mapping[str, Any]],
    description: ModelDescription,
    *,
    model_name: str,
    crop_and_scale: str = "center_crop",
    allow_unknown_labels: bool = False,
) -> InputSet:
    """The inputs of a model for samples of any form.

    Args:
        samples: a sample folder or its path, or a list of input dictionaries as coremltools' `compare_models`
            takes it.
        description: the model's inputs and labels.
        model_name: for messages.
        crop_and_scale: how images are brought to the model's input size; one of samples.sample.CROP_AND_SCALE.
        allow_unknown_labels: whether folders may be named after no label of the model.

    Raises:
        SampleError: the samples are missing or empty, or do not fit the model.
    """
    if isinstance(samples, str | Path):
        samples = read_sample_folder(samples, description.labels, allow_unknown_labels=allow_unknown_labels)
    if isinstance(samples, SampleFolder):
        return _from_folder(samples, description, model_name, crop_and_scale)
    return _from_list(samples, model_name)


def _from_folder(folder: SampleFolder, description: ModelDescription, name: str, option: str) -> InputSet:
    required = [feature.name for feature in description.inputs if not feature.optional]
    images = description.image_inputs
    if len(images) != 1 or any(feature != images[0].name for feature in required):
        listed = ", ".join(required) or "none"
        raise SampleError(
            f"{name} does not take one image and nothing else (inputs: {listed}), so a folder of images cannot be "
            "its samples; let the fixture quantguard_samples return a list of input dictionaries."
        )
    image = images[0]
    samples = folder.samples

    def make(index: int) -> Mapping[str, Any]:
        path = samples[index].path
        return {image.name: prepare_image(path, image.width, image.height, image.color, option)}

    entries = tuple((sample.name, sample.digest) for sample in samples)
    return InputSet(
        names=tuple(sample.name for sample in samples),
        labels=tuple(sample.label for sample in samples),
        samples=_sample_set(entries, option),
        make=make,
        folder=folder,
    )


def _from_list(samples: Sequence[Mapping[str, Any]], model_name: str) -> InputSet:
    if not isinstance(samples, Sequence) or not all(isinstance(inputs, Mapping) for inputs in samples):
        raise SampleError(
            f"The samples for {model_name} are neither a folder nor a list of input dictionaries; give one."
        )
    if not samples:
        raise SampleError(f"The list of samples for {model_name} is empty; give at least one input dictionary.")
    width = len(str(len(samples) - 1))
    names = tuple(f"sample {index:0{width}}" for index in range(len(samples)))
    digests = [_digest(inputs, name) for inputs, name in zip(samples, names, strict=True)]
    return InputSet(
        names=names,
        labels=(None,) * len(samples),
        samples=_sample_set(tuple(zip(names, digests, strict=True)), ""),
        make=samples.__getitem__,
    )


def _sample_set(entries: tuple[tuple[str, str], ...], preprocessing: str) -> SampleSet:
    digest = hashlib.sha256()
    for name, content in entries:
        digest.update(f"{name}\0{content}\n".encode())
    return SampleSet(entries=entries, digest=digest.hexdigest(), preprocessing=preprocessing)


def _digest(inputs: Mapping[str, Any], sample: str) -> str:
    """SHA-256 over the values of an input dictionary: types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        value = inputs[name]
        if isinstance(value, Image.Image):
            kind, shape, data = value.mode, value.size, value.tobytes()
        else:
            array = np.ascontiguousarray(value)
            if array.dtype == object:
                raise SampleError(f"{sample}: the input {name!r} is no array, number or image; give one of them.")
            kind, shape, data = array.dtype.str, array.shape, array.tobytes()
        digest.update(f"{name}\0{kind}\0{shape}\0".encode())
        digest.update(data)
    return digest.hexdigest()
