"""What the end of a session tells: results carried by the reports, and orphaned baselines."""

from pathlib import Path
from typing import Any

import pytest

RESULTS = pytest.StashKey[list[dict[str, Any]]]()
"""Of a test: the results of its gates."""
TESTS = pytest.StashKey[dict[str, list[str]]]()
"""Of the session: snapshot names of the gated tests by test file."""
WORKER_KEY = "quantguard_tests"


def remember_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the names of all collected tests of files that hold a gate, for the list of orphans.

    Files that were asked for by `::` are left out, and all with `--lf`: only some of their tests are collected.
    """
    gated = {item.path for item in items if "accuracy_snapshot" in getattr(item, "fixturenames", ())}
    if not gated or config.getoption("lf", False):
        return
    from pytest_quantguard.gate.orphans import snapshot_names

    parts = {Path(argument.split("::")[0]).name for argument in config.args if "::" in argument}
    names = snapshot_names(item for item in items if item.path in gated and item.path.name not in parts)
    config.stash[TESTS] = {str(path): sorted(tests) for path, tests in names.items()}


def send_to_controller(config: pytest.Config) -> None:
    """On a worker of pytest-xdist: hand the names over when the session ends."""
    if hasattr(config, "workeroutput") and TESTS in config.stash:
        config.workeroutput[WORKER_KEY] = config.stash[TESTS]


def receive_from_worker(node: Any) -> None:
    """On the controller: take the names of a worker; every worker collects the same."""
    tests = getattr(node, "workeroutput", {}).get(WORKER_KEY)
    if tests:
        node.config.stash[TESTS] = tests


def write_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the table of results and the list of orphaned baselines, if there are any."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    results = [result for report in reports for result in getattr(report, "quantguard_results", ())]
    orphans = _orphans(config.stash.get(TESTS, {}))
    if not results and not orphans:
        return
    from pytest_quantguard.reports.terminal import summary_lines

    terminalreporter.write_sep("=", "quantguard")
    for line in summary_lines(results, config.get_verbosity()):
        terminalreporter.write_line(line)
    if orphans:
        from pytest_quantguard.gate.orphans import orphan_lines

        for line in orphan_lines(orphans, config.rootpath):
            terminalreporter.write_line(line)


def _orphans(tests: dict[str, list[str]]) -> list[Path]:
    if not tests:
        return []
    from pytest_quantguard.gate.orphans import find_orphans

    collected = {Path(path): names for path, names in tests.items()}
    return find_orphans({path.parent for path in collected}, collected)
