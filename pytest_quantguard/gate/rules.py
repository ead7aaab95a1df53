"""The gated metrics, and the rule that gives each of them its threshold.

| metric               | better  | threshold at creation                                                        |
| -------------------- | ------- | ---------------------------------------------------------------------------- |
| top1_agreement       | larger  | measured - max_drop, never tighter than one sample                           |
| top5_agreement       | larger  | measured - max_drop, never tighter than one sample                           |
| top1_accuracy_delta  | larger  | measured - max_drop, never tighter than one sample                           |
| worst_class_delta    | larger  | measured - max_drop, never tighter than one sample of that class             |
| float_top1_accuracy  | larger  | measured - max_drop, never tighter than one sample                           |
| most_predicted_share | smaller | measured + max_drop, never tighter than one sample                           |
| size_bytes           | smaller | measured + 1 %, never tighter than 1,024 bytes                               |
| snr:<output>         | larger  | measured - 1 dB, at most 60 dB                                               |
| psnr:<output>        | larger  | measured - 1 dB, at most 60 dB                                               |

Thresholds of shares and deltas are rounded outwards to four digits, those in decibel to two, so that rounding
never makes one tighter. Classes differ in size, so the worst class may also lose one sample of the class that is
worst when judged, whatever that weighs.

Thresholds end where the metric does: a share at 0 or 1, a delta at -1. With few samples one of them may weigh so
much that the threshold lies at that end; such a gate cannot fail.

`max_drop` speaks of accuracy, so size and noise have tolerances of their own: a file's size moves by some bytes
with the version of coremltools that writes it, and above 60 dB the noise is below the rounding of 8-bit images
(59 dB) and near that of float16, which differs between engines.

A stored threshold that differs from this rule counts as edited by a person. So changing a rule needs a new schema
number in `baseline.py`.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

SIZE_TOLERANCE = Fraction(1, 100)
SIZE_TOLERANCE_BYTES = 1024
DECIBEL_TOLERANCE = 1
DECIBEL_LIMIT = 60

Kind = Literal["share", "delta", "bytes", "decibel"]
RANGES: Mapping[Kind, tuple[float, float]] = {
    "share": (0, 1),
    "delta": (-1, 1),
    "bytes": (1, math.inf),
    "decibel": (-math.inf, math.inf),
}
"""The thresholds that make sense, by kind of metric."""
Entry = dict[str, Any] | int | float
"""A measured value as a baseline stores it: {"count", "total"[, "label"]}, bytes, or decibel."""


@dataclass(frozen=True)
class GatedMetric:
    """One metric that a baseline gates."""

    name: str
    title: str
    kind: Kind
    larger_is_better: bool = True


METRICS = (
    GatedMetric("top1_agreement", "top-1 agreement", "share"),
    GatedMetric("top5_agreement", "top-5 agreement", "share"),
    GatedMetric("top1_accuracy_delta", "top-1 accuracy delta", "delta"),
    GatedMetric("worst_class_delta", "worst class delta", "delta"),
    GatedMetric("float_top1_accuracy", "float top-1 accuracy", "share"),
    GatedMetric("most_predicted_share", "most predicted share", "share", larger_is_better=False),
    GatedMetric("size_bytes", "size", "bytes", larger_is_better=False),
)
OUTPUT_PREFIXES = {"snr:": "SNR", "psnr:": "PSNR"}
_BY_NAME = {metric.name: metric for metric in METRICS}


def find_metric(name: str) -> GatedMetric | None:
    """The gated metric of this name; None if there is none."""
    for prefix, title in OUTPUT_PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return GatedMetric(name, f"{title} of '{name.removeprefix(prefix)}'", "decibel")
    return _BY_NAME.get(name)


def metric_of(name: str) -> GatedMetric:
    """The gated metric of a name that has been validated."""
    metric = find_metric(name)
    if metric is None:
        raise KeyError(name)
    return metric


def unknown_metric(name: object) -> str:
    """Say which metrics there are, and which one an unknown name comes closest to; continues a sentence."""
    known = [*_BY_NAME, "snr:<output>", "psnr:<output>"]
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}? The" if close else "the"
    return f"{hint} metrics are {', '.join(known)}"


def wrong_threshold(metric: GatedMetric, value: object) -> str:
    """What is wrong with a threshold that a person gives, continuing "it is ..."; empty if nothing is."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "no number"
    low, high = RANGES[metric.kind]
    if low <= value <= high:
        return ""
    return f"not between {low} and {high}" if high == 1 else f"less than {low}"


def in_order(names: Iterable[str]) -> list[str]:
    """Metric names without repetition, in the order of the table; outputs last, by name."""
    position = {name: index for index, name in enumerate(_BY_NAME)}
    return sorted(set(names), key=lambda name: (position.get(name, len(position)), name))


def exact(number: float) -> Fraction:
    """A number as it is written: 0.01 is one hundredth."""
    return Fraction(str(number))


def value_of(entry: Entry) -> Fraction:
    """The value of a stored entry: count / total, bytes, or decibel."""
    return Fraction(entry["count"], entry["total"]) if isinstance(entry, Mapping) else exact(entry)


def meets(metric: GatedMetric, entry: Entry, threshold: float) -> bool:
    """Whether a value is on the right side of a threshold; equality passes."""
    value, limit = value_of(entry), exact(threshold)
    return value >= limit if metric.larger_is_better else value <= limit


def automatic_threshold(
    metric: GatedMetric, entry: Entry, max_drop: float, smallest_total: int | None = None
) -> float:
    """The threshold that creation gives a measured value, by the table above.

    Args:
        metric: what was measured.
        entry: the measured value.
        max_drop: the allowed drop of shares and deltas, between 0 and 1.
        smallest_total: makes one sample weigh at least 1 / smallest_total; for the worst class, which may be a
            smaller class when judged than when measured.
    """
    value = value_of(entry)
    if metric.kind == "bytes":
        return math.ceil(value + max(value * SIZE_TOLERANCE, Fraction(SIZE_TOLERANCE_BYTES)))
    if metric.kind == "decibel":
        return math.floor(min(value - DECIBEL_TOLERANCE, Fraction(DECIBEL_LIMIT)) * 100) / 100
    assert isinstance(entry, Mapping)
    one_sample = Fraction(1, min(entry["total"], smallest_total or entry["total"]))
    tolerance = max(exact(max_drop), one_sample)
    low, high = RANGES[metric.kind]
    if metric.larger_is_better:
        return max(float(low), math.floor((value - tolerance) * 10_000) / 10_000)
    return min(float(high), math.ceil((value + tolerance) * 10_000) / 10_000)
