"""What became of each test, kept in a file so that a run can be resumed, and the tables of it."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from families import family

PASSED, FAILED, EXPECTED, NOT_APPLICABLE = "passed", "failed", "expected failure", "not applicable"


@dataclass(frozen=True)
class Result:
    """What became of one test.

    Args:
        test: its id.
        outcome: passed, failed, expected failure or not applicable.
        reason: why it failed or is not applicable.
        seconds: how long it took.
    """

    test: str
    outcome: str
    reason: str
    seconds: float


def read_journal(path: Path) -> dict[str, Result]:
    """The results of earlier runs by test; a line that was cut off by a crash is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            result = Result(**json.loads(line))
        except json.JSONDecodeError:
            continue
        found[result.test] = result
    return found


def as_line(result: Result) -> str:
    """A result as a line of the journal."""
    return json.dumps(asdict(result)) + "\n"


def markdown(results: Iterable[Result]) -> str:
    """The table of families, and under it why tests failed as expected, failed, or are not applicable."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        counts[family(result.test)][result.outcome] += 1
        if result.outcome != PASSED:
            reasons[result.outcome][general(result.reason)] += 1
    lines = ["| family | passed | failed | of those expected | share passed | not applicable |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name in sorted(counts):
        lines.append(_row(name, counts[name]))
    lines.append(_row("all", sum(counts.values(), Counter())))
    for outcome in (FAILED, EXPECTED, NOT_APPLICABLE):
        if reasons[outcome]:
            lines += ["", f"| {outcome}: why | tests |", "| --- | ---: |"]
            lines += [f"| {_cell(reason)} | {count} |" for reason, count in reasons[outcome].most_common()]
    return "\n".join(lines) + "\n"


def _row(name: str, count: Counter[str]) -> str:
    failed = count[FAILED] + count[EXPECTED]
    applicable = count[PASSED] + failed
    share = f"{100 * count[PASSED] / applicable:.2f} %" if applicable else ""
    return f"| {name} | {count[PASSED]} | {failed} | {count[EXPECTED]} | {share} | {count[NOT_APPLICABLE]} |"


def general(reason: str) -> str:
    """A reason without what differs from test to test: temporary names and numbers."""
    reason = re.sub(r" Mismatched elements: .*", "", reason)
    reason = re.sub(r"\btmp\w+\.ml(model|package)\b", "the model", reason)
    return re.sub(r"-?\b\d+(\.\d+)?(e[+-]?\d+)?", "N", reason)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
