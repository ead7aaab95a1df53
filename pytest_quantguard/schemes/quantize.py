"""Quantizing a model with a scheme, and proving that it happened."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.schemes.activations import Calibrate
from pytest_quantguard.schemes.compression import Compression, compare_tensors, list_tensors, measure_compression
from pytest_quantguard.schemes.kinds import PROGRAM
from pytest_quantguard.schemes.ml_program import quantize_program
from pytest_quantguard.schemes.neural_network import quantize_in_place, restore_float_weights
from pytest_quantguard.schemes.repairs import LOCK
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.supported import check_supported
from pytest_quantguard.schemes.tensor import ALREADY_FLOAT16, ALREADY_QUANTIZED, DECLINED, SKIPPED, Tensor
from pytest_quantguard.schemes.third_party import apply_scheme


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantized model and the proof that it is one."""

    mlmodel: Any
    """A coremltools `MLModel`."""
    compression: Compression


def quantize_model(
    mlmodel: Any, scheme: Scheme, *, name: str, calibrate: Calibrate | None = None
) -> QuantizedModel:
    """Quantize the weights of a neural network, of the networks in a pipeline, or of an ML program.

    The same model and scheme give the same bytes, on any number of cores. Quantizations in several threads run one
    after the other, because coremltools keeps its settings in globals.

    Args:
        mlmodel: a coremltools `MLModel`, loaded or with `skip_model_load=True`; neither it nor its files change.
        scheme: bits and mode.
        name: what to call the model in errors, for instance its file name.
        calibrate: for schemes with activations; runs a model over samples.

    Returns:
        The quantized model, loaded if `mlmodel` is.

    Raises:
        SchemeError: this kind of model does not have the scheme, coremltools cannot apply it, or nothing was
            compressed.
    """
    import_coremltools()
    spec = mlmodel.get_spec()
    kind = spec.WhichOneof("Type")
    check_supported(scheme, kind, name)
    try:
        with LOCK, quiet():
            if not scheme.is_own:
                quantized = apply_scheme(mlmodel, scheme, name=name)
                compression = measure_compression(spec, quantized.get_spec())
            elif kind == PROGRAM:
                with _one_thread(scheme):
                    program = quantize_program(mlmodel, scheme, name=name, calibrate=calibrate)
                quantized, float_tensors = program.mlmodel, list_tensors(spec)
                compression = compare_tensors(float_tensors, quantized.get_spec(), program.kept)
                notes = (*program.notes, *_growth(compression, float_tensors, scheme))
                compression = replace(compression, notes=notes)
            else:
                if scheme.requantize:
                    restore_float_weights(spec, scheme, name=name)
                float_tensors = list_tensors(spec)
                kept = quantize_in_place(spec, scheme, name=name)
                compression = compare_tensors(float_tensors, spec, kept)
                # A message keeps the memory of values that are deleted from it; a new one has none of theirs.
                message, data = type(spec), spec.SerializeToString()
                del spec
                quantized = _like(mlmodel, message.FromString(data))
    except Exception as error:
        # coremltools raises anything, plain Exception included, and may replace a SchemeError of ours by its own.
        ours = _scheme_error(error)
        if ours:
            raise ours from ours.__cause__
        raise SchemeError(
            f"{name} cannot be quantized with {scheme.title} ({type(error).__name__}: {error}); use "
            "another scheme, or convert the model again."
        ) from error
    if not compression.compressed and scheme.mode != "float":
        raise SchemeError(_nothing_changed(compression, scheme, name, kind))
    return QuantizedModel(quantized, compression)


@contextlib.contextmanager
def _one_thread(scheme: Scheme) -> Iterator[None]:
    """Let k-means use one thread: its sums, and so its tables, depend on how many there are."""
    if not {"kmeans_lut", "config"} & {scheme.mode, *(override.mode for _, override in scheme.overrides)}:
        yield
        return
    import sklearn.cluster  # noqa: F401  loads the OpenMP library that is to be limited
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    with threadpool_limits(1):
        yield


def _growth(compression: Compression, float_tensors: Sequence[Tensor], scheme: Scheme) -> Iterator[str]:
    """A note where scales and tables take more than quantizing saves."""
    before = sum(tensor.bits for tensor in float_tensors) / max(1, compression.weights)
    after = compression.bits_per_weight
    if after > before:
        yield f"{scheme.title}: quantized weights take {after:.1f} bits each, more than the {before:.1f} before."


def _like(mlmodel: Any, spec: Any) -> Any:
    """An MLModel of another specification, loaded if the given one is."""
    from coremltools.models import MLModel

    return MLModel(
        spec,
        weights_dir=mlmodel.weights_dir,
        compute_units=mlmodel.compute_unit,
        skip_model_load=mlmodel.__proxy__ is None,
    )


def _scheme_error(error: BaseException | None) -> SchemeError | None:
    """The SchemeError that an exception is, or that it was raised in the place of."""
    while error is not None and not isinstance(error, SchemeError):
        error = error.__context__
    return error


def _nothing_changed(compression: Compression, scheme: Scheme, name: str, kind: str) -> str:
    if not scheme.is_own:
        return f"{scheme.title} changes nothing in {name}: its function returned no smaller weights; correct it."
    reasons = Counter(reason for _, _, reason in compression.skipped)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "it has none"
    advice = "there is nothing to gate, so take the mark off"
    if set(reasons) & {ALREADY_FLOAT16, ALREADY_QUANTIZED}:
        advice = "quantize the float32 model it was made from"
        advice += "" if kind == PROGRAM else ", or restore float weights with requantize=True"
    elif scheme.weight_threshold is not None or any(reason.startswith((DECLINED, SKIPPED)) for reason in reasons):
        advice = "change the scheme, or take the mark off"
    return (
        f"{scheme.title} changes nothing in {name}, because its weight tensors are left as they are "
        f"({why}); {advice}."
    )
