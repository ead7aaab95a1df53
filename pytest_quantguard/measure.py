"""From two models' outputs over the same samples to a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.comparison import Comparison, Compression, ModelIdentity, OutputDistortion, SampleSet
from pytest_quantguard.errors import PredictionError, SampleError
from pytest_quantguard.metrics.classifier import classifier_metrics
from pytest_quantguard.metrics.distortion import Distortion, distortion, summarize
from pytest_quantguard.metrics.notes import classifier_notes
from pytest_quantguard.metrics.validity import check_scores, is_constant, is_finite, refuse_samples
from pytest_quantguard.models.description import Label
from pytest_quantguard.outputs import StreamedOutputs, collect_outputs, for_each_sample
from pytest_quantguard.runtime.engine import Outputs

__all__ = ["StreamedOutputs", "build_comparison", "collect_outputs"]

_Scores = NDArray[np.float32]


def build_comparison(
    float_outputs: Sequence[Outputs],
    quantized_outputs: Sequence[Outputs],
    *,
    names: Sequence[str],
    labels: Sequence[Label] | None,
    float_model: ModelIdentity,
    quantized_model: ModelIdentity,
    engine: str,
    versions: Mapping[str, str],
    samples: SampleSet,
    sample_labels: Sequence[str | None] | None = None,
    scheme: str = "",
    compression: Compression | None = None,
    max_drop: float = 0.01,
    workers: int | None = None,
) -> Comparison:
    """Compare two models by their outputs over the same samples.

    Each sample's outputs are looked at once. With `StreamedOutputs` the models run side by side meanwhile, and
    only scores and a few numbers per sample stay in memory.

    Args:
        float_outputs: of the float model, one per sample: a tuple, or `StreamedOutputs`.
        quantized_outputs: of the quantized model, in the same order.
        names: the samples' names, in the same order.
        labels: the model's labels, one per score; None for a model that is no classifier.
        float_model: what to say of the float model.
        quantized_model: what to say of the quantized model.
        engine: `coreml` or `portable`.
        versions: library name to version.
        samples: what identifies the samples.
        sample_labels: the samples' labels as text. Accuracy is measured if every sample has one.
        scheme: `str(Scheme)`; empty for a ready-made model.
        compression: the proof that quantization happened.
        max_drop: the allowed drop as a share, for the note on samples that are too few to resolve it.
        workers: threads that run `StreamedOutputs`; by default as many as cores.

    Raises:
        PredictionError: outputs are NaN, infinite or constant, or do not fit each other or the labels.
        SampleError: there is no sample, or a sample's label is none of the model's.
    """
    titles = _titles(float_model, quantized_model, scheme)
    texts = [str(label) for label in labels] if labels else None
    truths = [None] * len(names) if sample_labels is None else list(sample_labels)
    _check_samples(names, truths, texts, len(float_outputs), len(quantized_outputs))

    measured = _measure(float_outputs, quantized_outputs, names, 0 if texts is None else len(texts), workers)
    classifier = None
    notes = list(compression.notes) if compression else []
    if texts is not None:
        for scores, title in zip(measured.scores, titles, strict=True):
            check_scores(scores, names, title)
        classifier = classifier_metrics(*measured.scores, texts, names, truths)
        notes += classifier_notes(classifier, texts, max_drop)
    numeric = {name: pairs for name, pairs in measured.arrays.items() if all(pair.numeric for pair in pairs)}
    left_out = [name for name in measured.arrays if name not in numeric]
    notes += [f"Output {name!r} is left out: it holds no numbers." for name in left_out]
    return Comparison(
        scheme=scheme,
        float_model=float_model,
        quantized_model=quantized_model,
        engine=engine,
        versions=dict(versions),
        samples=samples,
        classifier=classifier,
        outputs=tuple(_distortion(name, pairs, names, titles) for name, pairs in numeric.items()),
        compression=compression,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _ArrayPair:
    """What is kept of one output of one sample, float model first; the arrays themselves may be large."""

    numeric: bool
    finite: tuple[bool, bool] = (True, True)
    constant: tuple[bool, bool] = (False, False)
    distortion: Distortion | None = None


@dataclass(frozen=True)
class _Measured:
    """What is kept of all samples."""

    scores: tuple[_Scores, _Scores]
    """Of the float and the quantized model, shape (samples, places)."""
    arrays: dict[str, list[_ArrayPair]]


def _titles(float_model: ModelIdentity, quantized_model: ModelIdentity, scheme: str) -> tuple[str, str]:
    suffix = f" ({scheme})" if scheme else ""
    return f"the float model {float_model.name}", f"the quantized model {quantized_model.name}{suffix}"


def _check_samples(
    names: Sequence[str], truths: Sequence[str | None], labels: Sequence[str] | None, *counts: int
) -> None:
    if any(count != len(names) for count in (*counts, len(truths))):
        raise ValueError(f"outputs and labels for {(*counts, len(truths))} samples, but {len(names)} names")
    if not names:
        raise SampleError("There is no sample to compare the models on; give at least one.")
    known = set(labels or ())
    for name, truth in zip(names, truths, strict=True):
        if labels is not None and truth is not None and truth not in known:
            raise SampleError(
                f"Sample {name!r} has the label {truth!r}, which is none of the model's; correct it."
            )


def _measure(
    float_outputs: Sequence[Outputs],
    quantized_outputs: Sequence[Outputs],
    names: Sequence[str],
    places: int,
    workers: int | None,
) -> _Measured:
    """Look at every sample once; `places` is the number of scores, 0 for models that are no classifiers."""

    def look(index: int) -> tuple[_Scores, _Scores, dict[str, _ArrayPair]]:
        before, after = float_outputs[index], quantized_outputs[index]
        return _scores(before, places), _scores(after, places), _array_pairs(before.arrays, after.arrays)

    streamed = isinstance(float_outputs, StreamedOutputs) or isinstance(quantized_outputs, StreamedOutputs)
    scores = (
        np.empty((len(names), places), dtype=np.float32),
        np.empty((len(names), places), dtype=np.float32),
    )
    arrays: dict[str, list[_ArrayPair]] = {}
    looked = for_each_sample(look, names, workers=workers if streamed else 1)
    for index, (float_scores, quantized_scores, pairs) in enumerate(looked):
        scores[0][index], scores[1][index] = float_scores, quantized_scores
        if index and pairs.keys() != arrays.keys():
            raise PredictionError(
                f"Sample {names[index]!r} has other outputs than {names[0]!r}; keep them the same."
            )
        for name, pair in pairs.items():
            arrays.setdefault(name, []).append(pair)
    return _Measured(scores, arrays)


def _scores(outputs: Outputs, places: int) -> _Scores:
    scores = np.empty(0, dtype=np.float32) if outputs.scores is None else outputs.scores.ravel()
    if scores.size != places:
        raise PredictionError(
            f"the model answers {scores.size} scores but has {places} labels; compare models with the same labels."
        )
    return scores


def _array_pairs(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> dict[str, _ArrayPair]:
    if before.keys() != after.keys():
        raise PredictionError(
            f"the float model has the outputs {sorted(before)}, the quantized model {sorted(after)}; "
            "compare models with the same outputs."
        )
    return {name: _array_pair(name, before[name], after[name]) for name in sorted(before)}


def _array_pair(name: str, before: NDArray[Any], after: NDArray[Any]) -> _ArrayPair:
    if before.dtype.kind not in "biuf" or after.dtype.kind not in "biuf":
        return _ArrayPair(numeric=False)
    if before.shape != after.shape or before.size == 0:
        raise PredictionError(
            f"output {name!r} has the shape {before.shape} in the float model and {after.shape} in the quantized "
            "model; compare models whose outputs have the same shape, and are not empty."
        )
    finite = is_finite(before), is_finite(after)
    return _ArrayPair(
        numeric=True,
        finite=finite,
        constant=(is_constant(before), is_constant(after)),
        distortion=distortion(before, after) if all(finite) else None,
    )


def _distortion(
    name: str, pairs: Sequence[_ArrayPair], names: Sequence[str], titles: tuple[str, str]
) -> OutputDistortion:
    """Summarize an output over all samples.

    It is constant, and so no answer, if each of the quantized model's arrays holds one value only although none of
    the float model's does. A single such array may be right: a mask in which nothing is found.
    """
    for model, title in enumerate(titles):
        infinite = np.array([not pair.finite[model] for pair in pairs])
        refuse_samples(infinite, names, title, f"NaN or infinite values in output {name!r}")
    constant = np.array([pair.constant for pair in pairs])
    if constant[:, 1].all() and not constant[:, 0].any():
        refuse_samples(constant[:, 1], names, titles[1], f"one constant value in output {name!r}")
    distortions = [pair.distortion for pair in pairs if pair.distortion is not None]
    return summarize(name, distortions, names)
