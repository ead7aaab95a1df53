"""Converting the networks with coremltools, and asking both sides for their answers."""

from functools import lru_cache

import networks
import numpy as np
import torch

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.model import from_mlmodel

IMAGES = 3


@lru_cache(maxsize=1)
def network(name):
    """A network, three images, and PyTorch's logits for them as (3, classes)."""
    torch.set_num_threads(1)
    model = networks.build(name)
    images = networks.inputs(IMAGES)
    with torch.no_grad():
        return model, images, model(images).numpy()


def convert(name, kind, precision="FLOAT32", target=None, **options):
    """The network as a coremltools model with input `image` and output `logits`."""
    ct = import_coremltools()
    model, images, _ = network(name)
    options.setdefault("inputs", [ct.TensorType(name="image", shape=(1, *images.shape[1:]))])
    if kind == "mlprogram":
        options["compute_precision"] = getattr(ct.precision, precision)
    # Tracing and converting print progress and warn of versions.
    with quiet(), torch.no_grad():
        return ct.convert(
            torch.jit.trace(model, images[:1]),
            outputs=None if "classifier_config" in options else [ct.TensorType(name="logits")],
            convert_to=kind,
            minimum_deployment_target=target,
            skip_model_load=True,
            **options,
        )


def portable_logits(mlmodel, images):
    """The portable engine's logits for images, as (images, classes)."""
    model = from_mlmodel(mlmodel, name="model", engine="portable")
    answers = [model.outputs({"image": image[None].numpy()}).arrays["logits"] for image in images]
    return np.concatenate(answers)
