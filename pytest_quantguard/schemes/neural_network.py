"""Quantizing the weights of neural networks (`.mlmodel`), alone or inside pipelines."""

import copy
from collections.abc import Iterator
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.kinds import NETWORKS, PIPELINES, stages
from pytest_quantguard.schemes.lookup_table import for_networks
from pytest_quantguard.schemes.repairs import repaired
from pytest_quantguard.schemes.scheme import Scheme

# The mode's name in coremltools.models, as in the `qmode_mapping` of `quantize_weights`.
_MODES = {
    "linear": "_QUANTIZATION_MODE_LINEAR_QUANTIZATION",
    "linear_symmetric": "_QUANTIZATION_MODE_LINEAR_SYMMETRIC",
    "linear_lut": "_QUANTIZATION_MODE_LOOKUP_TABLE_LINEAR",
    "kmeans_lut": "_QUANTIZATION_MODE_LOOKUP_TABLE_KMEANS",
    "custom_lut": "_QUANTIZATION_MODE_CUSTOM_LOOKUP_TABLE",
}


def quantize_networks(spec: Any, scheme: Scheme, *, name: str) -> Any:
    """Quantize the neural network, or every neural network in the pipeline, that a `Model` message holds.

    Does what coremltools' `quantize_weights` does, which also loads the result where Apple's framework is, and
    fails on `pipelineClassifier` and `pipelineRegressor`.

    Args:
        spec: a `Model` message; it is not changed.
        scheme: a scheme that neural networks have.
        name: what to call the model in an error.

    Returns:
        The quantized `Model` message.

    Raises:
        SchemeError: coremltools cannot quantize the network.
    """
    spec = copy.deepcopy(spec)
    for network, network_name in _networks(spec, name):
        _quantize_network(network, scheme, network_name)
    _raise_version(spec)
    return spec


def _networks(spec: Any, name: str) -> Iterator[tuple[Any, str]]:
    """The `Model` messages that are neural networks, each with a name."""
    kind = spec.WhichOneof("Type")
    if kind in NETWORKS:
        yield spec, name
    elif kind in PIPELINES:
        for index, (stage, model) in enumerate(stages(spec)):
            yield from _networks(model, f"{name}, model {index} ({stage}) of the pipeline")


def _quantize_network(spec: Any, scheme: Scheme, name: str) -> None:
    from coremltools import models
    from coremltools.models.neural_network import quantization_utils

    if spec.isUpdatable:
        # Core ML refuses an updatable model with quantized weights, coremltools one with float16 weights.
        raise SchemeError(
            f"{name} is updatable, and training on a device needs float32 weights; export it frozen."
        )
    mode = getattr(models, _MODES[scheme.mode if scheme.bits < 16 else "linear"])
    options = {"lut_function": for_networks(scheme.lut_function)} if scheme.lut_function else {}
    outputs = frozenset(feature.name for feature in spec.description.output)
    with repaired(outputs):
        quantization_utils._quantize_spec_weights(spec, scheme.bits, mode, **options)


def _raise_version(spec: Any) -> None:
    """A pipeline needs the newest specification version that one of its models needs."""
    if spec.WhichOneof("Type") in PIPELINES:
        for _, model in stages(spec):
            _raise_version(model)
            spec.specificationVersion = max(spec.specificationVersion, model.specificationVersion)
