"""The fixture's value: syrupy's assertion, judging by the gate and failing with the gate's text."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_quantguard.comparison import Comparison
from pytest_quantguard.errors import BaselineError
from pytest_quantguard.gate.baseline import read_baseline
from pytest_quantguard.gate.explanation import explain
from pytest_quantguard.gate.extension import QuantguardExtension
from pytest_quantguard.gate.limits import Limits
from pytest_quantguard.gate.manifest import SampleChanges, read_manifest, sample_changes, write_manifest
from pytest_quantguard.gate.record import Record, make_record
from pytest_quantguard.gate.result import Result, make_result
from pytest_quantguard.gate.update import Acceptance, accept
from pytest_quantguard.gate.verdict import Verdict, judge
from pytest_quantguard.gate.wording import update_command


def make_accuracy_snapshot(
    snapshot: SnapshotAssertion,
    *,
    limits: Limits,
    node_id: str = "",
    verbosity: int = 0,
    on_result: Callable[[Result], None] | None = None,
) -> "AccuracySnapshot":
    """The assertion of one test, made from syrupy's fixture.

    Args:
        snapshot: the `snapshot` fixture; its session, location and update flags are taken over.
        limits: the allowed drop and the pinned thresholds.
        node_id: the test, from pytest's root directory; the location's own where empty.
        verbosity: pytest's `-v` count.
        on_result: called with each result (see `result.py`), before the test fails.
    """
    assertion = AccuracySnapshot(
        session=snapshot.session,
        extension_class=QuantguardExtension,
        test_location=snapshot.test_location,
        update_snapshots=snapshot.update_snapshots,
        update_new_snapshots_only=snapshot.update_new_snapshots_only,
    )
    assertion.limits = limits
    assertion.node_id = node_id or snapshot.test_location.nodeid
    assertion.verbosity = verbosity
    assertion.on_result = on_result
    return assertion


class AccuracySnapshot(SnapshotAssertion):
    """Equal to a comparison that passes its baseline; fails the test itself otherwise.

    pytest would shorten the explanation of `assert comparison == accuracy_snapshot`, so the whole text is given to
    `pytest.fail`. With `--snapshot-update` the baseline is written, with
    `--snapshot-update-new-only` a missing one.
    """

    limits: Limits = Limits()
    node_id: str = ""
    verbosity: int = 0
    on_result: Callable[[Result], None] | None = None

    def with_defaults(self, **options: Any) -> SnapshotAssertion:
        """As syrupy's; limits and the rest are kept."""
        assertion = super().with_defaults(**options)
        for name in ("limits", "node_id", "verbosity", "on_result"):
            setattr(assertion, name, getattr(self, name))
        return assertion

    def __eq__(self, other: object) -> bool:
        __tracebackhide__ = True
        if not isinstance(other, Comparison):
            raise TypeError(
                f"accuracy_snapshot compares with a Comparison, such as the fixture `comparison`, not with "
                f"{type(other).__name__}; use syrupy's `snapshot` for other values."
            )
        return self._gate(other)

    def _gate(self, comparison: Comparison) -> bool:
        __tracebackhide__ = True
        path = Path(self.extension.get_location(test_location=self.test_location, index=self.index))
        try:
            record = make_record(comparison, self.limits)
        except BaselineError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        try:
            baseline = self._read_baseline(record, path)
            if self.update_snapshots or (self.update_new_snapshots_only and baseline is None):
                return self._update(comparison, record, baseline, path)
            return self._judge(comparison, record, baseline, path)
        except BaselineError as error:
            self._report(comparison, record, path, "error", str(error))
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    @property
    def _config(self) -> pytest.Config:
        return self.session.pytest_session.config

    @property
    def _command(self) -> str:
        """What accepts the measurement, run where pytest was: with the test's path from there, and our flags."""
        file, separator, test = self.node_id.partition("::")
        node_id = f"{self._seen_from_here(self._config.rootpath / file)}{separator}{test}" if file else ""
        return update_command(node_id, own_flags(self._config))

    def _seen_from_here(self, path: Path) -> str:
        try:
            return Path(os.path.relpath(path, self._config.invocation_params.dir)).as_posix()
        except ValueError:  # on Windows: another drive
            return str(path)

    def _judge(self, comparison: Comparison, record: Record, baseline: Record | None, path: Path) -> bool:
        __tracebackhide__ = True
        changes = _sample_changes(comparison, baseline, path.parent.parent)
        verdict = judge(record, baseline, command=self._command, sample_changes=changes)
        matched = super().__eq__(record)
        self._raise_what_syrupy_caught()
        assert matched == verdict.passed, "the extension and the gate disagree"
        self._report(comparison, record, path, verdict.kind, verdict.sentence, verdict=verdict)
        if not verdict.passed:
            self._fail(verdict, comparison, path)
        return True

    def _update(self, comparison: Comparison, record: Record, baseline: Record | None, path: Path) -> bool:
        __tracebackhide__ = True
        acceptance = accept(record, baseline)
        if acceptance.refusal:
            blocking = tuple(row for row in acceptance.rows if not row.ok)
            verdict = Verdict("refused", acceptance.refusal, acceptance.rows, blocking=blocking)
            self._count_failure(acceptance.record)
            self._report(comparison, record, path, "refused", verdict.sentence, verdict=verdict)
            self._fail(verdict, comparison, path)
        self.extension.exact = True  # type: ignore[attr-defined]
        super().__eq__(acceptance.record)
        self._raise_what_syrupy_caught()
        write_manifest(path.parent.parent, comparison.samples)
        execution = self.executions[self.num_executions - 1]
        outcome = "created" if execution.created else "updated" if execution.updated else "passed"
        verdict = judge(acceptance.record, acceptance.record, accepted=True)
        self._report(
            comparison, acceptance.record, path, outcome, verdict.sentence, verdict=verdict, acceptance=acceptance
        )
        return True

    def _read_baseline(self, record: Record, path: Path) -> Record | None:
        try:
            return read_baseline(path)
        except BaselineError:
            self._count_failure(record)
            raise

    def _count_failure(self, record: Record) -> None:
        """Let syrupy count a failed snapshot without writing it."""
        flags = self.update_snapshots, self.update_new_snapshots_only
        self.update_snapshots = self.update_new_snapshots_only = False
        try:
            super().__eq__(record)
        finally:
            self.update_snapshots, self.update_new_snapshots_only = flags

    def _raise_what_syrupy_caught(self) -> None:
        """syrupy turns exceptions into a failed comparison; ours carry the message."""
        error = self.executions[self.num_executions - 1].exception
        if error is not None:
            raise error

    def _report(
        self,
        comparison: Comparison,
        record: Record,
        path: Path,
        outcome: str,
        sentence: str,
        *,
        verdict: Verdict | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        if self.on_result is not None:
            self.on_result(
                make_result(
                    comparison,
                    record,
                    outcome=outcome,
                    sentence=sentence,
                    node_id=self.node_id,
                    baseline_path=str(path),
                    verdict=verdict,
                    acceptance=acceptance,
                )
            )

    def _fail(self, verdict: Verdict, comparison: Comparison, path: Path) -> NoReturn:
        __tracebackhide__ = True
        text = explain(verdict, comparison, self._command, self._seen_from_here(path), self.verbosity)
        pytest.fail(text, pytrace=False)


def own_flags(config: pytest.Config) -> list[str]:
    """The `--quantguard-*` flags of a run; read from the options, because workers of pytest-xdist see no more."""
    flags = []
    for name, value in sorted(vars(config.option).items()):
        if name.startswith("quantguard_") and value is not None:
            flag = f"--{name.replace('_', '-')}"
            flags.append(flag if value is True else f"{flag}={value}")
    return flags


def _sample_changes(comparison: Comparison, baseline: Record | None, folder: Path) -> SampleChanges | None:
    if baseline is None or baseline["comparison"]["samples"]["digest"] == comparison.samples.digest:
        return None
    stored = read_manifest(folder, baseline["comparison"]["samples"]["digest"])
    return None if stored is None else sample_changes(stored, comparison.samples)
