"""The portable engine answers what PyTorch answers, for five networks converted by coremltools."""

import numpy as np
import pytest
import torch
from conversion import convert, network, portable_logits
from networks import CLASSES, INPUT_SIZE, NETWORKS
from PIL import Image

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.model import from_mlmodel

# Largest absolute difference of a logit in float32, and the same relative to the largest logit.
TOLERANCE = 1e-4

KINDS = ("neuralnetwork", "mlprogram")

CANNOT_CONVERT = {}
"""Why coremltools cannot convert a network, by (network, kind). Empty: below numpy 2.4 it converts them all."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_equal_those_of_pytorch(name, kind):
    if (name, kind) in CANNOT_CONVERT:
        pytest.skip(CANNOT_CONVERT[name, kind])
    _, images, expected = network(name)
    found = portable_logits(convert(name, kind), images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_are_worth_comparing(name):
    """Different images get different answers of order one, or a small tolerance would mean nothing."""
    _, _, expected = network(name)
    assert 0.3 < expected.std() < 3
    assert np.abs(expected[0] - expected[1]).max() > 0.3


@pytest.mark.parametrize("name", ["resnet18", "vision_transformer"])
def test_half_precision_programs_answer_up_to_the_rounding_of_their_weights(name):
    _, images, expected = network(name)
    found = portable_logits(convert(name, "mlprogram", "FLOAT16"), images)
    # Weights are rounded to 11 bits (2 ** -12 relative); the engine computes in float32.
    assert 0 < np.abs(found - expected).max() <= 5e-3 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_classifiers_of_images_answer_what_pytorch_answers(kind):
    """Scale and bias of the image input, and the labels, go through as well."""
    ct = import_coremltools()
    model, images, _ = network("squeezenet1_1")
    pixels = (images * 50 + 128).clamp(0, 255).round().to(torch.uint8)
    scale, bias = 1 / 50, [-2.56, -2.5, -2.6]
    with torch.no_grad():
        expected = model(pixels * scale + torch.tensor(bias)[:, None, None]).numpy()
    mlmodel = convert(
        "squeezenet1_1",
        kind,
        inputs=[ct.ImageType(name="image", shape=(1, 3, INPUT_SIZE, INPUT_SIZE), scale=scale, bias=bias)],
        classifier_config=ct.ClassifierConfig([f"class {index}" for index in range(CLASSES)]),
    )
    classifier = from_mlmodel(mlmodel, name="classifier", engine="portable")
    for image, logits in zip(pixels, expected, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        scores = classifier.outputs({"image": picture}).scores
        assert np.abs(scores - logits).max() <= TOLERANCE
        assert classifier.predict({"image": picture})["classLabel"] == f"class {logits.argmax()}"


@pytest.mark.parametrize("scheme", ["int8", "4-bit lookup tables", "6-bit lookup tables", "int4 blocks"])
def test_quantized_programs_answer_what_their_decompressed_weights_answer(scheme):
    ct = import_coremltools()
    import coremltools.optimize.coreml as cto

    target = ct.target.iOS18 if "blocks" in scheme else ct.target.iOS16
    _, images, expected = network("squeezenet1_1")
    mlmodel = convert("squeezenet1_1", "mlprogram", target=target)
    with quiet():
        if "lookup" in scheme:
            tables = cto.OpPalettizerConfig(mode="kmeans", nbits=int(scheme[0]))
            quantized = cto.palettize_weights(mlmodel, cto.OptimizationConfig(global_config=tables))
        else:
            blocks = {"dtype": "int4", "granularity": "per_block", "block_size": 16} if "int4" in scheme else {}
            linear = cto.OpLinearQuantizerConfig(mode="linear_symmetric", **blocks)
            quantized = cto.linear_quantize_weights(mlmodel, cto.OptimizationConfig(global_config=linear))
        decompressed = cto.decompress_weights(quantized)
    found = portable_logits(quantized, images)
    assert np.abs(found - portable_logits(decompressed, images)).max() <= TOLERANCE
    # The weights were quantized indeed, and not beyond recognition.
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert TOLERANCE < error < 0.5
