"""From the model's inputs to the tensors that its layers see."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.description import ArrayFeature, Feature, ImageFeature
from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network, Shape, ShapeError, known

GRAY = ("GRAYSCALE", "GRAYSCALE_FLOAT16")


def input_blob(net: Network, network: Any, feature: Feature, shape: Sequence[int] | None, model: str) -> Blob:
    """Declare the graph input of a feature; returns the tensor in the shape the network's mapping gives it.

    Args:
        net: takes the graph input.
        network: the `NeuralNetwork` message (or classifier, regressor).
        feature: what the model's description says of the input.
        shape: the shape of the array, or (height, width) of the image, where it is not the described one.
        model: the model's name, for errors.

    Raises:
        UnsupportedModelError: the feature is neither an image nor a multi-array, or too large.
    """
    try:
        return _input_blob(net, network, feature, shape, model)
    except ShapeError as error:
        raise UnsupportedModelError(
            f"{model}: input {feature.name!r}: {error} is not supported by the portable engine."
        ) from error


def _input_blob(net: Network, network: Any, feature: Feature, shape: Sequence[int] | None, model: str) -> Blob:
    if isinstance(feature, ImageFeature):
        height, width = shape or (feature.height, feature.width)
        channels = 1 if feature.color in GRAY else 3
        image = net.input(feature.name, (1, channels, height, width))
        blob = _preprocessed(net, network, feature, image, model)
        rank4 = network.imageInputShapeMapping == 1
        return net.blob(blob.value, blob.shape if rank4 else (1, *blob.shape))
    if isinstance(feature, ArrayFeature):
        sizes = tuple(shape or feature.shape)
        if not sizes or min(sizes) < 1:
            raise UnsupportedModelError(
                f"{model}: input {feature.name!r} states no shape, which is not supported by the portable engine."
            )
        array = net.input(feature.name, sizes)
        exact = network.arrayInputShapeMapping == 1
        return array if exact else net.blob(array.value, _rank_five(feature, sizes, model))
    raise UnsupportedModelError(
        f"{model}: input {feature.name!r}: type {feature.type_name!r} is not supported by the portable engine."
    )


def _rank_five(feature: ArrayFeature, shape: tuple[int, ...], model: str) -> Shape:
    """Rank 5 from an array's shape (specification: `RANK5_ARRAY_MAPPING`).

    A vector is (channels), an image (channels, height, width); sequence and batch may come in front: for a
    described vector as (sequence, batch, channels).
    """
    if len(shape) == 5:
        return shape
    vector = len(feature.shape) == 1
    if vector and len(shape) in (1, 3):
        return (*(1,) * (3 - len(shape)), *shape, 1, 1)
    if not vector and len(shape) in (3, 4):
        return (*(1,) * (5 - len(shape)), *shape)
    raise UnsupportedModelError(
        f"{model}: input {feature.name!r}: shape {shape} is not supported by the portable engine; give "
        "(channels), (channels, height, width) or (sequence, batch, channels, height, width)."
    )


def _preprocessed(net: Network, network: Any, feature: ImageFeature, image: Blob, model: str) -> Blob:
    """Apply the scalers and mean images for this input, in the order of the file."""
    for step in network.preprocessing:
        # Files of the first specification leave the name empty: then it is for every image.
        if step.featureName not in ("", feature.name):
            continue
        kind = step.WhichOneof("preprocessor")
        if kind == "scaler":
            image = _scaled(net, step.scaler, feature, image)
        elif kind == "meanImage":
            image = _without_mean(net, step.meanImage, feature, image, model)
    return image


def _scaled(net: Network, scaler: Any, feature: ImageFeature, image: Blob) -> Blob:
    """`NeuralNetworkImageScaler`: one factor, one bias per channel."""
    biases = {
        "RGB": [scaler.redBias, scaler.greenBias, scaler.blueBias],
        "BGR": [scaler.blueBias, scaler.greenBias, scaler.redBias],
    }.get(feature.color, [scaler.grayBias])
    bias = np.array(biases, np.float32).reshape(-1, 1, 1)
    scaled = net.map("Mul", image, net.constant(float(scaler.channelScale)))
    return net.map("Add", scaled, net.constant(bias)) if bias.any() else scaled


def _without_mean(net: Network, mean: Any, feature: ImageFeature, image: Blob, model: str) -> Blob:
    """`NeuralNetworkMeanImage`: (channels, height, width), channels in the order of the input."""
    values = np.array(mean.meanImage, np.float32)
    if values.size != image.size:
        raise ModelFileError(
            f"{model}: the mean image of input {feature.name!r} has {values.size} values where the image has "
            f"{image.size}; export the model again."
        )
    return net.map("Sub", image, net.constant(values.reshape(known(image.shape)), "mean_image"))
