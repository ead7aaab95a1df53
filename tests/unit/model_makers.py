"""Small Core ML models for tests: made in a moment, without a training framework, from seeded weights."""

import numpy as np

from pytest_quantguard.quiet import import_coremltools, quiet

LABELS = ("apple", "bread", "cheese", "date", "egg", "fig")
SIZE = 8


def small_network(seed=0, labels=LABELS):
    """A NeuralNetwork classifier (`.mlmodel`): image 8x8 RGB, two convolutions, inner product, softmax."""
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    rng = np.random.default_rng(seed)
    with quiet():
        builder = NeuralNetworkBuilder(
            [("image", ct.models.datatypes.Array(3, SIZE, SIZE))], [("probabilities", None)], mode="classifier"
        )
        _add_convolution(builder, rng, "conv1", "image", "conv1", 3, 8)
        builder.add_activation("relu1", "RELU", "conv1", "relu1")
        _add_convolution(builder, rng, "conv2", "relu1", "conv2", 8, 32)
        builder.add_activation("relu2", "RELU", "conv2", "relu2")
        builder.add_pooling("pool", 2, 2, 2, 2, "MAX", "VALID", "relu2", "pool")
        builder.add_flatten("flatten", 0, "pool", "flat")
        weights, bias = _weights(rng, len(labels), 32 * 16), _weights(rng, len(labels))
        builder.add_inner_product("dense", weights, bias, 32 * 16, len(labels), True, "flat", "logits")
        builder.add_softmax("softmax", "logits", "probabilities")
        builder.set_pre_processing_parameters(image_input_names=["image"], image_scale=1 / 255)
        builder.set_class_labels(list(labels), "label", "probabilities")
        return ct.models.MLModel(builder.spec, skip_model_load=True)


def small_program(target=None, seed=0, labels=LABELS):
    """An ML program classifier (`.mlpackage`) of the same shape, float16.

    Args:
        target: a `coremltools.target`; None for iOS16, the oldest that holds lookup tables.
        seed: of the weights.
        labels: of the classes.
    """
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    rng = np.random.default_rng(seed)
    target = target or ct.target.iOS16
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, SIZE, SIZE))], opset_version=target)
        def program(image):
            x = mb.conv(x=image, weight=_weights(rng, 8, 3, 3, 3), bias=_weights(rng, 8), pad_type="same")
            x = mb.relu(x=x)
            x = mb.conv(x=x, weight=_weights(rng, 32, 8, 3, 3), bias=_weights(rng, 32), pad_type="same")
            x = mb.relu(x=x)
            x = mb.max_pool(x=x, kernel_sizes=(2, 2), strides=(2, 2), pad_type="valid")
            x = mb.reshape(x=x, shape=(1, 32 * 16))
            x = mb.linear(x=x, weight=_weights(rng, len(labels), 32 * 16), bias=_weights(rng, len(labels)))
            return mb.softmax(x=x, axis=-1, name="probabilities")

        return ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[ct.ImageType(name="image", shape=(1, 3, SIZE, SIZE), scale=1 / 255)],
            classifier_config=ct.ClassifierConfig(list(labels)),
            minimum_deployment_target=target,
            skip_model_load=True,
        )


def _add_convolution(builder, rng, name, source, target, channels, filters):
    """A 3x3 convolution with bias that keeps height and width; weights in the builder's order (3, 3, in, out)."""
    weights, bias = _weights(rng, 3, 3, channels, filters, fan_in=9 * channels), _weights(rng, filters)
    builder.add_convolution(
        name, channels, filters, 3, 3, 1, 1, "same", 1, weights, bias, True, input_name=source, output_name=target
    )


def _weights(rng, *shape, fan_in=None):
    """Normal float32 values, scaled so that activations keep their size."""
    fan_in = fan_in or int(np.prod(shape[1:])) or 1
    return (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)
