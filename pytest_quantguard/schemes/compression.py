"""Proof that quantization happened: the float model and the quantized model, weight by weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pytest_quantguard.schemes.kinds import NETWORKS, PIPELINES, PROGRAM, stages
from pytest_quantguard.schemes.network_tensors import network_tensors
from pytest_quantguard.schemes.program_tensors import program_tensors
from pytest_quantguard.schemes.tensor import FUSED, NO_NETWORK, Tensor

_SMALLER = ("float32", "float16", "quantized")


@dataclass(frozen=True)
class Compression:
    """Proof that quantization happened."""

    weights: int
    """Weights in the float model."""
    compressed: int
    """Weights that are compressed in the quantized model."""
    bits_per_weight: float
    """Bits that the compressed weights take on average, lookup tables and scales included."""
    skipped: tuple[tuple[str, int, str], ...] = ()
    """(name, weights, reason) of what was not compressed: left as it is, or fused into another layer."""
    notes: tuple[str, ...] = ()
    """Sentences to know: operations that coremltools declined, settings that were not followed."""

    @property
    def share(self) -> float:
        """The compressed share of all weights."""
        return self.compressed / self.weights if self.weights else 0.0


def measure_compression(float_spec: Any, quantized_spec: Any) -> Compression:
    """Count the weights that take fewer bits in the quantized model than in the float model.

    Args:
        float_spec: the `Model` message before quantization.
        quantized_spec: the `Model` message after it. The messages state types and shapes of everything that an ML
            program stores in its weight files, so the files are not read.
    """
    return compare_tensors(list_tensors(float_spec), quantized_spec)


def compare_tensors(
    float_tensors: Sequence[Tensor], quantized_spec: Any, kept: Mapping[str, str] = MappingProxyType({})
) -> Compression:
    """The same, from the tensors before quantization, and reasons why some of them keep their float values."""
    before = {tensor.name: tensor for tensor in float_tensors}
    after = [_with_weights(tensor, before.get(tensor.name)) for tensor in list_tensors(quantized_spec)]
    smaller = {tensor.name for tensor in after if _is_smaller(tensor, before.get(tensor.name))}
    compressed = [tensor for tensor in after if tensor.name in smaller]
    skipped = [
        (tensor.name, tensor.weights, kept.get(tensor.name, tensor.reason))
        for tensor in after
        if tensor.name not in smaller
    ]
    if (
        quantized_spec.WhichOneof("Type") != PROGRAM
    ):  # there, coremltools renames what it compresses and fuses nothing
        names = {tensor.name for tensor in after}
        skipped += [(name, tensor.weights, FUSED) for name, tensor in before.items() if name not in names]
    count = sum(tensor.weights for tensor in compressed)
    return Compression(
        weights=sum(tensor.weights for tensor in before.values()),
        compressed=count,
        bits_per_weight=sum(tensor.bits for tensor in compressed) / count if count else 0.0,
        skipped=tuple(skipped),
    )


def list_tensors(spec: Any) -> list[Tensor]:
    """Every weight tensor of a `Model` message: a neural network, an ML program, or a pipeline.

    A model in a pipeline that is no neural network counts as one tensor without weights.
    """
    kind = spec.WhichOneof("Type")
    if kind in NETWORKS:
        return network_tensors(getattr(spec, kind))
    if kind == PROGRAM:
        return program_tensors(spec.mlProgram)
    found = []
    for index, (stage, model) in enumerate(stages(spec) if kind in PIPELINES else []):
        name = f"{index}:{stage}"
        if model.WhichOneof("Type") in (*NETWORKS, *PIPELINES):
            found += [replace(tensor, name=f"{name}/{tensor.name}") for tensor in list_tensors(model)]
        else:
            found.append(Tensor(name, 0, 0, "float32", NO_NETWORK))
    return found


def _is_smaller(after: Tensor, before: Tensor | None) -> bool:
    """Whether a tensor is stored smaller than before; a new one (a bias that fusing made) counts if quantized."""
    storage = before.storage if before else "float16"
    return _SMALLER.index(after.storage) > _SMALLER.index(storage)


def _with_weights(after: Tensor, before: Tensor | None) -> Tensor:
    """Packed bits do not always tell the number of weights; the float tensor does."""
    return replace(after, weights=before.weights) if before else after
