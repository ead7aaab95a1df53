"""The table at the end of a run."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_quantguard.gate.rules import find_metric, metric_of, value_of
from pytest_quantguard.gate.table import align
from pytest_quantguard.gate.wording import (
    clean,
    entry_text,
    number_text,
    quoted,
    scheme_title,
    shorten,
    size_text,
)
from pytest_quantguard.reports.notes import note_lines

Result = Mapping[str, Any]

VERDICTS = {
    "passed": "passed",
    "failed": "FAILED",
    "missing": "NO BASELINE",
    "incomparable": "OTHER SAMPLES",
    "created": "created",
    "updated": "updated",
    "refused": "UPDATE REFUSED",
    "error": "BASELINE ERROR",
}
COLUMNS = (
    ("top1_agreement", "top-1"),
    ("top5_agreement", "top-5"),
    ("top1_accuracy_delta", "accuracy delta"),
    ("worst_class_delta", "worst class"),
)
"""Columns of classifiers; each is shown where a result has the metric."""


DIRECTIONS = {"incomparable": "measured on other samples"}
NUMBERS = ("size", "ratio", "top-1", "top-5", "accuracy delta", "SNR", "PSNR")


def summary_lines(results: Sequence[Result], verbosity: int = 0) -> list[str]:
    """The lines of the summary: a row per comparison, notices, and what updates changed.

    Args:
        results: results of the run in any order (see `gate/result.py`); they are sorted by test, numbers in
            test ids by value, so that the table is the same with and without xdist.
        verbosity: pytest's `-v` count; from 1 on the table names the tests, and notes tell how much of each
            model was compressed.
    """
    ordered = sorted(results, key=lambda result: _natural(result["node_id"]))
    if not ordered:
        return []
    return [*_table(ordered, verbosity), *note_lines(ordered, verbosity), *_updates(ordered)]


def _table(results: Sequence[Result], verbosity: int) -> list[str]:
    columns = [(name, title) for name, title in COLUMNS if any(name in result["metrics"] for result in results)]
    outputs = [kind for kind in ("snr", "psnr") if any(_noisiest(result, kind) for result in results)]
    header = [
        "model",
        "scheme",
        "size",
        "ratio",
        *(title for _, title in columns),
        *map(str.upper, outputs),
        "verdict",
    ]
    tests = _tests(results, verbosity)
    rows = [header + (["test"] if any(tests) else [])]
    for result, test in zip(results, tests, strict=True):
        row = [
            shorten(clean(result["model"]), 32),
            shorten(clean(scheme_title(result["scheme"])), 28),
            size_text(result["size_bytes"]),
            "-" if result["ratio"] is None else f"{result['ratio']:.2f}",
            *(_cell(result, name) for name, _ in columns),
            *(_noisiest(result, kind) or "-" for kind in outputs),
            _verdict(result),
        ]
        rows.append(row + ([test] if any(tests) else []))
    return align(rows, right=[index for index, title in enumerate(header) if title in NUMBERS])


def _tests(results: Sequence[Result], verbosity: int) -> list[str]:
    """What to call the test of each row: its node id when verbose; else its name, where model and scheme repeat.

    Several comparisons of one test are numbered.
    """
    models = Counter((result["model"], result["scheme"]) for result in results)
    names = Counter(name for name in {result["node_id"]: _name(result) for result in results}.values())
    seen: Counter[str] = Counter()
    tests = []
    for result in results:
        seen[result["node_id"]] += 1
        name = _name(result)
        text = result["node_id"] if verbosity > 0 or names[name] > 1 else name
        if seen[result["node_id"]] > 1:
            text += f" ({seen[result['node_id']]})"
        told_apart = verbosity <= 0 and models[result["model"], result["scheme"]] == 1
        tests.append("" if told_apart else clean(text))
    return tests


def _name(result: Result) -> str:
    name: str = result["node_id"].partition("::")[2]
    return name or result["node_id"]


def _cell(result: Result, name: str) -> str:
    entry = result["metrics"].get(name)
    if entry is None:
        return "-"
    value = value_of(entry)
    text = number_text(metric_of(name), value)
    return f"{text} ({shorten(clean(entry['label']), 18)})" if "label" in entry and value < 0 else text


def _noisiest(result: Result, kind: str) -> str:
    values = [value for name, value in result["metrics"].items() if name.startswith(f"{kind}:")]
    return f"{min(values):.1f} dB" if values else ""


def _verdict(result: Result) -> str:
    text: str = VERDICTS[result["outcome"]]
    worse = sum(change["direction"] == "worse" for change in result["changes"])
    if worse:
        text += f", {worse} {'metric' if worse == 1 else 'metrics'} worse"
    if result["collapsed_onto"] is not None:
        text += f", collapsed onto {quoted(result['collapsed_onto'])}"
    return text


def _updates(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        details = [f"  {what}: {old} -> {new}" for what, old, new in result["circumstances"]]
        details += [line for change in result["changes"] for line in _change(change)]
        if details:
            worse = any(change["direction"] == "worse" for change in result["changes"])
            lines += [f"{clean(result['node_id'])}: baseline {'is now worse' if worse else 'updated'}", *details]
    return lines


def _change(change: Mapping[str, Any]) -> list[str]:
    metric = find_metric(change["metric"])
    if metric is None:
        return []
    old, new = change["old"], change["new"]
    title, direction = clean(metric.title), change["direction"]
    lines = []
    moved = old != new and direction != "same"  # else another label may have the same value
    if moved:
        before = "none" if old is None else entry_text(metric, old)
        after = "none" if new is None else entry_text(metric, new)
        lines.append(f"  {title}: {before} -> {after}  {DIRECTIONS.get(direction, direction)}")
    thresholds = change["old_threshold"], change["new_threshold"]
    if change["kept"]:
        kept = change["new_threshold"]
        text = "not gated (null)" if kept is None else f"kept at {number_text(metric, kept, 2)}"
        lines.append(f"  {title}: threshold {text}, as edited")
    elif not moved and None not in thresholds and thresholds[0] != thresholds[1]:
        before, after = (number_text(metric, threshold, 2) for threshold in thresholds)
        lines.append(f"  {title}: threshold {before} -> {after}")
    return lines


def _natural(node_id: str) -> list[tuple[int, int, str]]:
    """A sort key that counts: `[8-linear]` before `[16-linear]`."""
    return [
        (0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", node_id)
    ]
