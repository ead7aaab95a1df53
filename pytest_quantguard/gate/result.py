"""The result of one gated comparison as JSON values: it travels on pytest's reports and feeds every summary."""

from collections import Counter
from typing import Any

from pytest_quantguard.comparison import Comparison, Compression
from pytest_quantguard.gate.record import Record
from pytest_quantguard.gate.update import Acceptance
from pytest_quantguard.gate.verdict import Verdict
from pytest_quantguard.gate.wording import scheme_title

Result = dict[str, Any]

OUTCOMES = (
    "passed",
    "failed",
    "missing",
    "incomparable",
    "created",
    "updated",
    "refused",
    "error",
)
"""What can come of a comparison; `refused` is an update that misses an edited or pinned threshold, `error` a
baseline that cannot be read or written."""


def make_result(
    comparison: Comparison,
    record: Record,
    *,
    outcome: str,
    sentence: str,
    node_id: str,
    baseline_path: str,
    verdict: Verdict | None = None,
    acceptance: Acceptance | None = None,
) -> Result:
    """The result of a comparison, made of exact JSON types.

    `metrics` holds the values as baselines store them (see `record.py`); `rows` the verdict's rows, `changes` and
    `circumstances` what an update changes; `compression` how much was quantized, None for a ready-made model.
    """
    size, float_size = int(comparison.quantized_model.size_bytes), int(comparison.float_model.size_bytes)
    return {
        "node_id": node_id,
        "baseline": baseline_path,
        "outcome": outcome,
        "sentence": sentence,
        "scheme": record["comparison"]["scheme"],
        "title": scheme_title(record["comparison"]["scheme"]),
        "model": record["comparison"]["float_model"]["name"],
        "engine": record["comparison"]["engine"],
        "samples": record["comparison"]["samples"]["count"],
        "size_bytes": size,
        "float_size_bytes": float_size,
        "ratio": size / float_size if float_size else None,
        "metrics": record["metrics"],
        "collapsed_onto": record.get("collapsed_onto"),
        "rows": verdict.row_dicts() if verdict is not None else [],
        "changes": acceptance.change_dicts() if acceptance is not None else [],
        "circumstances": [list(change) for change in acceptance.circumstances] if acceptance is not None else [],
        "notices": list(verdict.notices) if verdict is not None else [],
        "notes": [str(note) for note in comparison.notes],
        "compression": _compression(comparison.compression),
    }


def _compression(compression: Compression | None) -> Result | None:
    """Weights, and the tensors that were not compressed, counted by reason; the most weights first."""
    if compression is None:
        return None
    tensors: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for _, count, reason in compression.skipped:
        tensors[reason] += 1
        weights[reason] += int(count)
    return {
        "weights": int(compression.weights),
        "compressed": int(compression.compressed),
        "bits_per_weight": float(compression.bits_per_weight),
        "skipped": [[reason, tensors[reason], count] for reason, count in weights.most_common()],
    }
