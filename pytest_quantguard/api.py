"""Quantize and compare without pytest, in a notebook or a script; the fixtures are thin wrappers around these."""

import functools
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.comparison import Comparison, Compression, ModelIdentity
from pytest_quantguard.errors import PredictionError, SampleError, SchemeError
from pytest_quantguard.inputs import InputSet, make_inputs
from pytest_quantguard.measure import StreamedOutputs, build_comparison
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.runtime import PRECISIONS
from pytest_quantguard.runtime import model as runtime_model
from pytest_quantguard.samples.prepare import check_readable
from pytest_quantguard.samples.sample import SampleFolder
from pytest_quantguard.schemes.scheme import ALIASES, MODES, Scheme, make_scheme

MEASURING_LIBRARIES = ("coremltools", "numpy", "pillow", "protobuf", "scikit-learn")
"""Libraries whose version may change a measurement, besides the engine's own: with another protobuf, coremltools
computes scales in another precision."""


@dataclass(frozen=True, eq=False, repr=False)
class Model(runtime_model.Model):
    """A Core ML model that is read, and can be executed and quantized."""

    def quantize(
        self,
        scheme: Scheme | str,
        *,
        calibration: str | Path | SampleFolder | Sequence[Mapping[str, Any]] | None = None,
        crop_and_scale: str = "center_crop",
    ) -> "QuantizedModel":
        """Quantize the model with a `Scheme` or its text; see `quantize`, which also says what is raised."""
        return quantize(self, scheme=scheme, calibration=calibration, crop_and_scale=crop_and_scale)


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedModel(Model):
    """A quantized model: a `Model` that knows its scheme and the proof that quantization happened.

    `mlmodel` is what was quantized, byte for byte. The file that `save` writes names the scheme at the end of its
    short description; `size_bytes` and `digest` are those of this file.
    """

    scheme: Scheme
    compression: Compression

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model, with its scheme in the short description, and return the path.

        Equal models and schemes give equal bytes.

        Raises:
            ModelFileError: the path exists and `overwrite` is false, or cannot be written.
        """
        return save_model(self.mlmodel, path, overwrite=overwrite, note=_note(self.scheme))


def load_model(
    model: str | Path | Any, *, engine: str = "auto", precision: str = "float32", function_name: str | None = None
) -> Model:
    """Read a Core ML model and make it executable; takes and raises what `runtime.load_model` does."""
    found = runtime_model.load_model(model, engine=engine, precision=precision, function_name=function_name)
    return found if isinstance(found, Model) else Model(**vars(found))


def quantize(
    model: str | Path | Any,
    *,
    scheme: Scheme | str | None = None,
    bits: int | None = None,
    mode: str | None = None,
    calibration: str | Path | SampleFolder | Sequence[Mapping[str, Any]] | None = None,
    crop_and_scale: str = "center_crop",
    engine: str = "auto",
    precision: str = "float32",
    **options: Any,
) -> QuantizedModel:
    """Quantize a model; the file on disk stays as it is.

    Args:
        model: path of a `.mlmodel` file or a `.mlpackage` folder, a coremltools `MLModel`, or a `Model`.
        scheme: a `Scheme`, or its text (`linear:4,per_block=32`), instead of bits, mode and options.
        bits: bits per weight, 16 or 8 down to 1; 8 by default.
        mode: `linear`, `linear_symmetric`, `linear_lut`, `kmeans_lut` (the default), `custom_lut`, another mode of
            `Scheme`, or a third party's. Which pairs of bits and mode exist depends on the kind of model.
        calibration: samples on which the ranges of activations are measured, for schemes with activations; what
            `compare` takes as samples.
        crop_and_scale: how images of `calibration` are brought to the input size.
        engine: what executes a model given by path: `auto`, `coreml` or `portable`; a `Model` keeps its engine.
        precision: how the portable engine computes a model given by path, `float32` or `float16`.
        options: further arguments of `Scheme`, for instance `lut_function`, `skip_layers` or `config`.

    Raises:
        SchemeError: the scheme does not exist for this kind of model, or nothing could be compressed.
        ModelFileError: there is no such model.
        UnsupportedModelError: the engine cannot run it.
        SampleError: samples for calibration are missing, unreadable, or do not fit the model.
    """
    said = {"scheme": scheme, "bits": bits, "mode": mode}
    arguments = {**{name: value for name, value in said.items() if value is not None}, **options}
    if not {"scheme", "config"} & set(arguments) and arguments.get("mode", MODES[0]) in (*MODES, *ALIASES):
        arguments.setdefault("bits", 8)
    float_model = load_model(model, engine=engine, precision=precision)
    samples = None
    if calibration is not None:
        samples = make_inputs(
            calibration,
            float_model.description,
            model_name=float_model.name,
            crop_and_scale=crop_and_scale,
            allow_unknown_labels=True,
        )
    return quantize_with(float_model, make_scheme(arguments), samples)


def quantize_with(model: Model, scheme: Scheme, calibration: InputSet | None = None) -> QuantizedModel:
    """Quantize a model with a scheme, to be run by the same engine; raises what `quantize` raises.

    Args:
        model: the float model.
        scheme: how to quantize.
        calibration: samples on which the ranges of activations are measured, for schemes with activations.
    """
    from pytest_quantguard.schemes.quantize import quantize_model

    if isinstance(model, QuantizedModel):
        raise SchemeError(f"{model.name} is quantized already ({model.scheme}); start from the float model.")
    calibrate = None if calibration is None else functools.partial(_run_calibration, model, calibration)
    quantized = quantize_model(model.mlmodel, scheme, name=model.name, calibrate=calibrate)
    executable = runtime_model.from_mlmodel(
        quantized.mlmodel,
        name=model.name,
        engine=model.engine.name,
        precision=model.precision,
        function_name=model.function_name,
        note=_note(scheme),
    )
    return QuantizedModel(**vars(executable), scheme=scheme, compression=quantized.compression)


def _note(scheme: Scheme) -> str:
    """What the short description of a quantized model's file says."""
    return f"Quantized with {scheme}."


def _run_calibration(model: Model, samples: InputSet, probe: Any) -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs and outputs of a coremltools `MLModel` for each sample, run as `model` is."""
    engine = runtime_model.from_mlmodel(
        probe, name=model.name, engine=model.engine.name, precision=model.precision
    ).engine
    for index in range(len(samples)):
        inputs = samples[index]
        yield {**{name: np.asarray(value) for name, value in inputs.items()}, **engine.outputs(inputs).arrays}


def compare(
    float_model: str | Path | Any,
    quantized_model: str | Path | Any,
    samples: str | Path | SampleFolder | Sequence[Mapping[str, Any]],
    *,
    crop_and_scale: str = "center_crop",
    max_drop: float = 0.01,
    allow_unknown_labels: bool = False,
    engine: str = "auto",
    precision: str = "float32",
    workers: int | None = None,
) -> Comparison:
    """Run two models over the same samples and measure how their answers differ.

    Args:
        float_model: a path, a coremltools `MLModel` or a `Model`: the reference.
        quantized_model: the same, of the model to judge.
        samples: a sample folder or its path, or a list of input dictionaries, as coremltools' `compare_models`
            takes it.
        crop_and_scale: how images are brought to the input size: `center_crop`, `scale_fit` or `scale_fill`.
        max_drop: the allowed drop as a share; a note tells when the samples are too few to resolve it.
        allow_unknown_labels: whether folders may be named after no label; agreement is then all that counts.
        engine: what executes models given by path: `auto`, `coreml` or `portable`.
        precision: how the portable engine computes models given by path, `float32` or `float16`.
        workers: samples to run side by side; all cores by default.

    Raises:
        SampleError: samples are missing, unreadable, or do not fit the model.
        PredictionError: the models have different labels, or one answers NaN, infinite or constant values; the
            message names the samples.
    """
    reference = load_model(float_model, engine=engine, precision=precision)
    inputs = make_inputs(
        samples,
        reference.description,
        model_name=reference.name,
        crop_and_scale=crop_and_scale,
        allow_unknown_labels=allow_unknown_labels,
    )
    judged = load_model(quantized_model, engine=engine, precision=precision)
    return compare_outputs(reference, judged, inputs, max_drop=max_drop, workers=workers)


def compare_outputs(
    float_model: Model,
    quantized_model: Model,
    inputs: InputSet,
    *,
    float_outputs: StreamedOutputs | None = None,
    max_drop: float = 0.01,
    workers: int | None = None,
) -> Comparison:
    """Compare two models over inputs; raises what `compare` raises.

    Args:
        float_model: the reference.
        quantized_model: the model to judge.
        inputs: for every sample.
        float_outputs: the reference's outputs over the same inputs, to be shared between comparisons.
        max_drop: the allowed drop as a share.
        workers: samples to run side by side; all cores by default.
    """
    if float_model.labels != quantized_model.labels:
        raise PredictionError(
            f"{quantized_model.name} has other labels than the float model {float_model.name}, or in another "
            "order; compare models with the same labels."
        )
    try:
        return build_comparison(
            float_outputs or StreamedOutputs(float_model.engine, inputs),
            StreamedOutputs(quantized_model.engine, inputs, keep_bytes=0),
            names=inputs.names,
            labels=float_model.labels,
            float_model=_identity(float_model),
            quantized_model=_identity(quantized_model),
            engine=_engine(float_model, quantized_model),
            versions=_versions(quantized_model),
            samples=inputs.samples,
            sample_labels=inputs.labels if float_model.labels else None,
            scheme=str(quantized_model.scheme) if isinstance(quantized_model, QuantizedModel) else "",
            compression=quantized_model.compression if isinstance(quantized_model, QuantizedModel) else None,
            max_drop=max_drop,
            workers=workers,
        )
    except SampleError:
        if inputs.folder is not None:
            check_readable(inputs.folder.samples)  # names all unreadable files, not only the first
        raise


def _identity(model: Model) -> ModelIdentity:
    return ModelIdentity(name=model.name, digest=model.digest, size_bytes=model.size_bytes)


def _engine(float_model: Model, quantized_model: Model) -> str:
    names = [
        model.engine.name if model.precision == PRECISIONS[0] else f"{model.engine.name} in {model.precision}"
        for model in (float_model, quantized_model)
    ]
    return names[0] if names[0] == names[1] else " and ".join(names)


def _versions(model: Model) -> dict[str, str]:
    name, _, version = model.engine.version.partition(" ")
    return {name: version, **{library: importlib.metadata.version(library) for library in MEASURING_LIBRARIES}}
