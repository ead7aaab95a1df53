"""A classifier whose answers spread over all its classes, and images for it."""

import numpy as np
from model_makers import SIZE, small_network
from PIL import Image

from pytest_quantguard import load_model


def photos(count, seed=1):
    """Coloured blocks that spread over the classes of `balanced_network`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        blocks = rng.integers(0, 2, (4, 4, 3)) * rng.integers(0, 256, 3)
        yield Image.fromarray(np.kron(blocks, np.ones((SIZE // 4, SIZE // 4, 1))).astype(np.uint8))


def balanced_network(seed=0):
    """The small network with a bias that makes every class about as likely, as training would."""
    mlmodel = small_network(seed=seed)
    model = load_model(mlmodel)
    scores = np.array([model.outputs({"image": image}).scores for image in photos(200, seed=2)])
    spec = mlmodel.get_spec()
    dense = next(layer for layer in spec.neuralNetworkClassifier.layers if layer.name == "dense").innerProduct
    bias = np.array(dense.bias.floatValue) - np.log(scores).mean(axis=0)
    dense.bias.floatValue[:] = (20 * bias).tolist()
    dense.weights.floatValue[:] = (20 * np.array(dense.weights.floatValue)).tolist()
    return type(mlmodel)(spec, skip_model_load=True)
