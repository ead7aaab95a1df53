"""What a project allows a quantized model to lose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from pytest_quantguard.gate.rules import find_metric, unknown_metric, wrong_threshold


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a metric may move, as marker and settings say.

    Args:
        max_drop: how far shares and deltas may fall below the measured value, between 0 and 1.
        thresholds: pinned thresholds by metric name (see `rules.py`). They win over those in the baseline and
            hold even while a baseline is updated. Where smaller is better (size, most predicted share) they are
            ceilings.

    Raises:
        pytest.UsageError: a metric does not exist, or a value is out of range.
    """

    max_drop: float = 0.01
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_number(self.max_drop) or not 0 <= self.max_drop <= 1:
            raise pytest.UsageError(f"max_drop={self.max_drop!r} is no share; give a number between 0 and 1.")
        check_thresholds(self.thresholds)
        object.__setattr__(self, "max_drop", float(self.max_drop))
        plain = {name: int(v) if isinstance(v, int) else float(v) for name, v in self.thresholds.items()}
        object.__setattr__(self, "thresholds", plain)


def check_thresholds(thresholds: Mapping[str, float]) -> None:
    """Check pinned thresholds: metric name to number.

    Raises:
        pytest.UsageError: a metric does not exist, or a value is no number or out of range.
    """
    if not isinstance(thresholds, Mapping):
        raise pytest.UsageError(f"thresholds={thresholds!r} is no dictionary of metric names and numbers.")
    for name, value in thresholds.items():
        metric = find_metric(name) if isinstance(name, str) else None
        if metric is None:
            raise pytest.UsageError(f"thresholds= has the unknown metric {name!r}; {unknown_metric(name)}.")
        wrong = wrong_threshold(metric, value)
        if wrong:
            raise pytest.UsageError(f"thresholds={{{name!r}: {value!r}}} is {wrong}; correct it.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
