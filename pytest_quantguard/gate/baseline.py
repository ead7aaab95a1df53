"""Baselines: the stored records. Written by us and edited by people, so every field is checked when read."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.files import parse_json, read_json
from pytest_quantguard.gate.record import SCHEMA, Record
from pytest_quantguard.gate.rules import find_metric, unknown_metric, wrong_threshold

MAX_BYTES = 1_000_000
DIGEST = re.compile(r"[0-9A-Za-z]{1,128}")
"""A digest becomes part of a file name, so it must not hold anything that leads elsewhere."""
ADVICE = "correct it, restore it from version control, or delete it and run pytest with --snapshot-update"
SECTIONS = frozenset(
    ("schema", "comparison", "max_drop", "metrics", "thresholds", "pinned", "collapsed_onto"),
)


def dumps(record: Record) -> str:
    """A record as canonical JSON text: sorted keys, and a line per metric, so that a diff names what changed."""
    return _block(record, "") + "\n"


def _block(value: Any, indent: str) -> str:
    if not isinstance(value, Mapping) or not value or len(indent) >= 4:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(key)}: {_block(value[key], inner)}" for key in sorted(value)]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def read_baseline(path: Path) -> Record | None:
    """The baseline in a file; None if there is no such file.

    Raises:
        BaselineError: the file cannot be read, is no JSON, of a newer schema, or of the wrong shape; the message
            names the file and says what to do.
    """
    try:
        return check_baseline(read_json(path, MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaselineError(f"The baseline {str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BaselineError(f"The baseline {str(path)!r} is damaged: {error}; {ADVICE}.") from error
    except NewerSchemaError as error:
        raise BaselineError(f"The baseline {str(path)!r} {error}") from error


def parse_baseline(text: str) -> Record:
    """The record in the text of a baseline; raises ValueError if it is none."""
    return check_baseline(parse_json(text))


class NewerSchemaError(BaselineError):
    """A baseline was written by a newer pytest-quantguard."""


def check_baseline(value: Any) -> Record:
    """Return a record whose every field has been checked.

    Raises:
        ValueError: a field is missing or wrong; the text names it.
        NewerSchemaError: the schema number is above ours.
    """
    _require(isinstance(value, dict), "it holds no JSON object")
    schema = value.get("schema")
    _require(_is_integer(schema) and schema >= 1, "'schema' is no positive integer")
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"has schema {schema}, but this pytest-quantguard reads schemas up to {SCHEMA}; upgrade it."
        )
    unknown = sorted(set(value) - SECTIONS)
    _require(not unknown, f"it has the unknown key {unknown[0]!r}" if unknown else "")
    _check_circumstances(_dictionary(value, "comparison"))
    max_drop: Any = value.get("max_drop")
    _require(_is_number(max_drop) and 0 <= max_drop <= 1, "'max_drop' is no number between 0 and 1")
    collapsed = value.get("collapsed_onto")
    _require(collapsed is None or isinstance(collapsed, str), "'collapsed_onto' is no text")
    _check_metrics(_dictionary(value, "metrics"))
    _check_thresholds(value)
    return dict(value)


def _check_circumstances(value: dict[str, Any]) -> None:
    for key in ("scheme", "engine"):
        _text(value, f"comparison.{key}")
    model = _dictionary(value, "comparison.float_model")
    samples = _dictionary(value, "comparison.samples")
    _text(model, "comparison.float_model.name")
    _text(model, "comparison.float_model.digest")
    _text(samples, "comparison.samples.preprocessing")
    digest = _text(samples, "comparison.samples.digest")
    _require(DIGEST.fullmatch(digest) is not None, "'comparison.samples.digest' is no digest")
    count = samples.get("count")
    _require(_is_integer(count) and count >= 0, "'comparison.samples.count' is no count")
    versions = _dictionary(value, "comparison.versions")
    for name in versions:
        _text(versions, f"comparison.versions.{name}", name)


def _check_metrics(metrics: dict[str, Any]) -> None:
    for name, entry in metrics.items():
        metric = find_metric(name)
        if metric is None:
            raise ValueError(f"'metrics' has the unknown metric {name!r}; {unknown_metric(name)}")
        wrong = f"'metrics.{name}' is wrong"
        if metric.kind == "bytes":
            _require(_is_integer(entry) and entry >= 0, f"{wrong}: it is no number of bytes")
        elif metric.kind == "decibel":
            _require(_is_number(entry), f"{wrong}: it is no number")
        else:
            _require(isinstance(entry, dict) and not set(entry) - {"count", "total", "label"}, wrong)
            count: Any = entry.get("count")
            total: Any = entry.get("total")
            _require(_is_integer(count) and _is_integer(total), f"{wrong}: count and total must be integers")
            lowest = -total if metric.kind == "delta" else 0
            _require(total >= 1 and lowest <= count <= total, f"{wrong}: count is not within total")
            _require(isinstance(entry.get("label", ""), str), f"{wrong}: its label is no text")


def _check_thresholds(value: dict[str, Any]) -> None:
    thresholds = _dictionary(value, "thresholds")
    for name, threshold in thresholds.items():
        metric = find_metric(name)
        if metric is None:
            raise ValueError(f"'thresholds' has the unknown metric {name!r}; {unknown_metric(name)}")
        _require(threshold is None or _is_number(threshold), f"'thresholds.{name}' is neither a number nor null")
        wrong = "" if threshold is None else wrong_threshold(metric, threshold)
        _require(not wrong, f"'thresholds.{name}' is {threshold!r}, which is {wrong}")
    missing = sorted(set(value["metrics"]) - set(thresholds))
    _require(not missing, f"'thresholds' lacks {missing[0]!r} (null switches a gate off)" if missing else "")
    pinned = value.get("pinned", [])
    _require(
        isinstance(pinned, list) and all(isinstance(name, str) and name in thresholds for name in pinned),
        "'pinned' is no list of names in 'thresholds'",
    )


def _dictionary(value: dict[str, Any], path: str) -> dict[str, Any]:
    inner = value.get(path.rpartition(".")[2])
    _require(isinstance(inner, dict), f"{path!r} is missing or no JSON object")
    assert isinstance(inner, dict)
    return inner


def _text(value: dict[str, Any], path: str, key: str | None = None) -> str:
    text = value.get(path.rpartition(".")[2] if key is None else key)
    _require(isinstance(text, str), f"{path!r} is missing or no text")
    assert isinstance(text, str)
    return text


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise ValueError(complaint)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
