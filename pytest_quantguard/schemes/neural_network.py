"""Quantizing the weights of neural networks (`.mlmodel`), alone or inside pipelines.

Gives what coremltools' `quantize_weights` gives, byte for byte, where that works. Layers are fused by coremltools
itself; weights are quantized by `weight_quantizers`, several tensors at a time.

Where coremltools 9.0 raises an error, it gives what coremltools 8.2 with protobuf 5.29 gives. There, protobuf's
numbers are float64 in numpy, and float32 with protobuf 7; the last bits of scales and tables depend on it.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.cores import available_cores
from pytest_quantguard.errors import SchemeError
from pytest_quantguard.models.neural_network_weights import decode_weights, replace_floats
from pytest_quantguard.schemes.kinds import NETWORKS, PIPELINES, stages
from pytest_quantguard.schemes.kmeans import one_blas_thread
from pytest_quantguard.schemes.layer_selection import check_patterns, selection
from pytest_quantguard.schemes.packing import pack_integers
from pytest_quantguard.schemes.repairs import fuses_batchnorm_right, repaired, stores_kmeans_table
from pytest_quantguard.schemes.schedule import each_by_size
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.tensor import SKIPPED, TINY_RANGE
from pytest_quantguard.schemes.weight_fields import WeightField, weight_fields
from pytest_quantguard.schemes.weight_quantizers import (
    Quantized,
    Quantizer,
    TinyRange,
    quantize_product,
    quantizer,
)

# Specification versions that first held float16 weights, quantized weights, and products of integers.
_FLOAT16_VERSION, _QUANTIZED_VERSION, _INT8_VERSION = 2, 3, 5


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
        SchemeError: the network cannot be quantized.
    """
    spec = copy.deepcopy(spec)
    if scheme.requantize:
        restore_float_weights(spec, scheme, name=name)
    quantize_in_place(spec, scheme, name=name)
    return spec


def quantize_in_place(spec: Any, scheme: Scheme, *, name: str) -> dict[str, str]:
    """Quantize the networks of a `Model` message itself; raises what `quantize_networks` raises.

    Returns:
        Tensors that keep their float values and why, by the names that `list_tensors` gives.
    """
    networks = list(_networks(spec, name))
    check_patterns(scheme, [_network(model) for model, _, _ in networks], name)
    for model, model_name, _ in networks:
        _check_frozen(model, model_name)
    if scheme.activations and not sum([_use_integer_products(*network[:2], scheme) for network in networks]):
        raise SchemeError(
            f"activations={scheme.activations!r} changes nothing in {name}: it has no innerProduct or "
            "batchedMatmul layer with float32 weights that the scheme selects; leave activations out."
        )
    if scheme.mode == "float":
        _raise_version(spec)
        return {
            prefix + field: reason
            for model, _, prefix in networks
            for field, reason in _left_out(_network(model)).items()
        }
    found, is_repaired = [], False
    for model, _, _ in networks:
        fields, has_repaired_fusion = _fused_fields(model, scheme)
        found.append(fields)
        is_repaired |= has_repaired_fusion
    kept: dict[str, str] = {}
    for (model, model_name, prefix), fields in zip(networks, found, strict=True):
        work = _Work(scheme, model_name, _type_to_compute_with(scheme, is_repaired))
        reasons = _quantize_fields(fields, work)
        reasons = _left_out(_network(model)) | reasons
        kept |= {prefix + field: reason for field, reason in reasons.items()}
    _raise_version(spec)
    return kept


def _type_to_compute_with(scheme: Scheme, is_repaired: bool) -> Any:
    """None for the type that protobuf chose, where coremltools works."""
    if scheme.bits == 16 or scheme.kmeans == "optimal":
        return np.float32  # as in the file
    return np.float64 if is_repaired or (scheme.mode == "kmeans_lut" and not stores_kmeans_table()) else None


def restore_float_weights(spec: Any, scheme: Scheme, *, name: str) -> None:
    """Give the layers that a scheme quantizes float32 weights in place of float16 or quantized ones."""
    for model, model_name, _ in _networks(spec, name):
        _check_frozen(model, model_name)
        for field in weight_fields(_network(model), selection(scheme), _leave):
            weights = field.weights
            if weights.float16Value or weights.rawValue or weights.int8RawValue:
                where = f"{model_name}: {field.name}"
                values = decode_weights(weights, field.shape, axis=field.axis, name=where)
                weights.Clear()
                replace_floats(weights, values)
                if "int8DynamicQuantize" in field.parameters.DESCRIPTOR.fields_by_name:
                    field.parameters.int8DynamicQuantize = False


def _networks(spec: Any, name: str, prefix: str = "") -> Iterator[tuple[Any, str, str]]:
    """The `Model` messages that are neural networks, each with a name and what its tensors' names begin with."""
    kind = spec.WhichOneof("Type")
    if kind in NETWORKS:
        yield spec, name, prefix
    elif kind in PIPELINES:
        for index, (stage, model) in enumerate(stages(spec)):
            inner = f"{prefix}{index}:{stage}/"
            yield from _networks(model, f"{name}, model {index} ({stage}) of the pipeline", inner)


def _network(model: Any) -> Any:
    return getattr(model, model.WhichOneof("Type"))


def _every_layer(layer: Any, **weight_param: str) -> bool:
    return True


def _leave(network: Any) -> None:
    """Prepare nothing."""


def _check_frozen(spec: Any, name: str) -> None:
    if spec.isUpdatable:
        # Core ML refuses an updatable model with quantized weights, coremltools one with float16 weights.
        raise SchemeError(
            f"{name} is updatable, and training on a device needs float32 weights; export it frozen."
        )


def _fused_fields(spec: Any, scheme: Scheme) -> tuple[list[WeightField], bool]:
    """Fuse layers below 16 bits; the tensors to quantize, and whether coremltools would have failed to fuse."""
    from coremltools.models.neural_network import optimization_utils

    half = scheme.bits == 16
    spec.specificationVersion = max(spec.specificationVersion, _FLOAT16_VERSION if half else _QUANTIZED_VERSION)
    outputs = frozenset(feature.name for feature in spec.description.output)
    vanished = 0

    def fuse(network: Any) -> None:
        nonlocal vanished
        before = _count_batchnorms(network)
        optimization_utils._optimize_nn(network.layers)
        vanished += before - _count_batchnorms(network)

    with repaired(outputs):
        found = list(weight_fields(_network(spec), selection(scheme), _leave if half else fuse))
    fields = [field for field in found if len(field.weights.floatValue)]
    return fields, vanished > 0 and not fuses_batchnorm_right()


def _count_batchnorms(network: Any) -> int:
    return sum(layer.WhichOneof("layer") == "batchnorm" for layer in network.layers)


@dataclass(frozen=True)
class _Work:
    """How to quantize the tensors of one network."""

    scheme: Scheme
    name: str
    dtype: Any
    """The type to compute with; None for the one that protobuf chose."""

    @cached_property
    def quantize(self) -> Quantizer:
        return quantizer(self.scheme)


def _quantize_fields(fields: list[WeightField], work: _Work) -> dict[str, str]:
    """Quantize tensors where they are; returns those that keep their values, and why."""

    def quantize(number: int) -> str | None:
        field = fields[number]
        result = _quantized(field, work)
        if result is None:
            return TINY_RANGE
        _store(field.weights, *result, bits=work.scheme.bits)
        return None

    if work.scheme.lut_function:  # a project's function may want its layers in turn
        reasons = [quantize(number) for number in range(len(fields))]
    else:
        sizes = [len(field.weights.floatValue) for field in fields]
        with one_blas_thread(work.scheme.mode == "kmeans_lut"):
            reasons = each_by_size(quantize, sizes, available_cores())
    return {field.name: reason for field, reason in zip(fields, reasons, strict=True) if reason}


def _use_integer_products(model: Any, name: str, scheme: Scheme) -> int:
    """Let the selected matrix products compute with int8 weights and inputs; how many there are.

    Source: coremltools' `quantization_utils.activate_int8_int8_matrix_multiplications`.
    """
    count = 0
    for field in weight_fields(_network(model), selection(scheme), _leave):
        is_product = "int8DynamicQuantize" in field.parameters.DESCRIPTOR.fields_by_name
        if not is_product or not field.name.endswith(".weights") or not len(field.weights.floatValue):
            continue
        integers, scale = quantize_product(_finite_weights(field, name, None))
        del field.weights.floatValue[:]
        field.weights.int8RawValue = integers.tobytes()
        field.weights.quantization.numberOfBits = 8
        field.weights.quantization.linearQuantization.scale.append(scale)
        field.parameters.int8DynamicQuantize = True
        model.specificationVersion = max(model.specificationVersion, _INT8_VERSION)
        count += 1
    return count


def _finite_weights(field: WeightField, name: str, dtype: Any) -> NDArray[Any]:
    weights = np.array(field.weights.floatValue, dtype)
    if not np.isfinite(weights).all():
        raise SchemeError(f"{name}: {field.name} holds values that are not finite; export the model again.")
    return weights


def _left_out(network: Any) -> dict[str, str]:
    """Tensors that could have been quantized and hold float32 values still."""
    fields = weight_fields(network, _every_layer, _leave)
    return {field.name: SKIPPED for field in fields if len(field.weights.floatValue)}


def _quantized(field: WeightField, work: _Work) -> tuple[Quantized | None, bytes] | None:
    """What a tensor becomes, and its bytes; None if it cannot be quantized without losing its values."""
    weights = _finite_weights(field, work.name, work.dtype)
    where = f"{work.name}: {field.name}"
    if work.scheme.bits == 16:
        with np.errstate(over="ignore"):
            halves = weights.astype("<f2")
        if not np.isfinite(halves).all():
            raise SchemeError(f"{where} holds values beyond the range of float16; use 8 bits or fewer.")
        return None, halves.tobytes()
    try:
        weights = weights.reshape(field.shape)
    except ValueError as error:
        raise SchemeError(
            f"{where} holds {weights.size} values where the layer needs {field.shape}; export the model again."
        ) from error
    try:
        quantized = work.quantize(weights, field.axis)
    except TinyRange:
        return None
    return quantized, pack_integers(quantized.indices, work.scheme.bits)


def _store(weights: Any, quantized: Quantized | None, data: bytes, *, bits: int) -> None:
    """Put quantized values in the place of a `WeightParams` message's float values."""
    del weights.floatValue[:]
    if quantized is None:
        weights.float16Value = data
        return
    weights.rawValue = data
    weights.quantization.numberOfBits = bits
    if quantized.table is not None:
        weights.quantization.lookupTableQuantization.floatValue.extend(quantized.table)
    else:
        weights.quantization.linearQuantization.scale.extend(quantized.scale)
        weights.quantization.linearQuantization.bias.extend(quantized.bias)


def _raise_version(spec: Any) -> None:
    """A pipeline needs the newest specification version that one of its models needs."""
    if spec.WhichOneof("Type") in PIPELINES:
        for _, model in stages(spec):
            _raise_version(model)
            spec.specificationVersion = max(spec.specificationVersion, model.specificationVersion)
