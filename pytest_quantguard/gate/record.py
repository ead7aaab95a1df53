"""The record of a comparison: what a baseline stores, as plain JSON values.

    {"schema": 1,
     "comparison": {"scheme", "engine", "float_model": {"name", "digest"},
                    "samples": {"count", "digest", "preprocessing"}, "versions": {...}},
     "collapsed_onto": "hot dog",                          only where the model has collapsed
     "max_drop": 0.01,
     "metrics": {"top1_agreement": {"count": 449, "total": 450}, "size_bytes": 12345, "snr:image": 31.2, ...},
     "thresholds": {"top1_agreement": 0.9877, ...},        null switches a gate off
     "pinned": ["top1_agreement"]}                         only where a marker pins thresholds

Of a share only count and total are stored, so that no number depends on rounding.
"""

import math
from typing import Any

from pytest_quantguard.comparison import ClassifierMetrics, Comparison, LabelledMetrics
from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.rules import Entry, automatic_threshold, metric_of
from pytest_quantguard.metrics.share import Share

SCHEMA = 1
Record = dict[str, Any]


def make_record(comparison: Comparison, limits: Limits) -> Record:
    """The record of a comparison, with the thresholds that its creation would give.

    Deterministic, free of numpy values, and made of exact JSON types (execnet and `json` take it as it is).

    Raises:
        BaselineError: a measured value is NaN or infinite.
    """
    metrics = _metrics(comparison)
    automatic = {
        name: automatic_threshold(metric_of(name), entry, limits.max_drop) for name, entry in metrics.items()
    }
    record: Record = {
        "schema": SCHEMA,
        "comparison": _circumstances(comparison),
        "max_drop": limits.max_drop,
        "metrics": metrics,
        "thresholds": {**automatic, **limits.thresholds},
    }
    if limits.thresholds:
        record["pinned"] = sorted(limits.thresholds)
    if comparison.classifier is not None and comparison.classifier.collapsed_onto is not None:
        record["collapsed_onto"] = _text(comparison.classifier.collapsed_onto)
    return record


def _circumstances(comparison: Comparison) -> Record:
    samples = comparison.samples
    return {
        "scheme": _text(comparison.scheme),
        "engine": _text(comparison.engine),
        "float_model": {"name": _text(comparison.float_model.name), "digest": comparison.float_model.digest},
        "samples": {
            "count": len(samples.entries),
            "digest": samples.digest,
            "preprocessing": _text(samples.preprocessing),
        },
        "versions": {name: _text(version) for name, version in sorted(comparison.versions.items())},
    }


def _metrics(comparison: Comparison) -> dict[str, Entry]:
    metrics: dict[str, Entry] = {"size_bytes": int(comparison.quantized_model.size_bytes)}
    if comparison.classifier is not None:
        metrics |= _classifier_metrics(comparison.classifier)
    for output in comparison.outputs:
        metrics[f"snr:{_text(output.name)}"] = _decibel(output.name, output.mean_snr)
        metrics[f"psnr:{_text(output.name)}"] = _decibel(output.name, output.mean_psnr)
    return metrics


def _classifier_metrics(classifier: ClassifierMetrics) -> dict[str, Entry]:
    concentration = classifier.quantized_concentration
    metrics: dict[str, Entry] = {
        "top1_agreement": _share(classifier.top1_agreement),
        "most_predicted_share": {
            **_share(concentration.most_predicted_share),
            "label": _text(concentration.most_predicted),
        },
    }
    if classifier.top5_agreement is not None:
        metrics["top5_agreement"] = _share(classifier.top5_agreement)
    if classifier.labelled is not None:
        metrics |= _labelled_metrics(classifier.labelled)
    return metrics


def _labelled_metrics(labelled: LabelledMetrics) -> dict[str, Entry]:
    worst = labelled.worst_class
    return {
        "float_top1_accuracy": _share(labelled.float_top1),
        "top1_accuracy_delta": _delta(labelled.float_top1, labelled.quantized_top1),
        "worst_class_delta": {
            **_delta(worst.float_accuracy, worst.quantized_accuracy),
            "label": _text(worst.label),
        },
    }


def _share(share: Share) -> dict[str, Any]:
    return {"count": int(share.count), "total": int(share.total)}


def _delta(before: Share, after: Share) -> dict[str, Any]:
    return {"count": int(after.count) - int(before.count), "total": int(before.total)}


def _decibel(output: str, value: float) -> float:
    if not math.isfinite(value):
        raise BaselineError(f"The noise of output {output!r} is {value}, which no baseline can hold.")
    return round(float(value), 2)


def _text(text: str) -> str:
    """Text that UTF-8 can hold: file names may carry bytes that are no text."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
