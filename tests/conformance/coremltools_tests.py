"""pytest plugin that runs coremltools' own tests with the portable engine in the place of Apple's framework.

Start it with `run.py`, which passes its options on.
"""

import faulthandler
import gc
import os
import random
import shutil
import signal
import tempfile
import types
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import expected
import numpy as np
import pytest
from families import in_sample, in_shard
from precision import finer_than_float16, stores_float16
from results import EXPECTED, FAILED, NOT_APPLICABLE, PASSED, Result, as_line, general, markdown, read_journal

from pytest_quantguard.errors import QuantguardError, UnsupportedModelError
from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime import enable_predict
from pytest_quantguard.runtime.coremltools_proxy import PortableProxy

TIME_LIMIT = 600
"""Seconds for one test; the slowest, which tries thousands of 3-D convolutions, takes some minutes."""

_FOLDER_VARIABLE = "CONFORMANCE_FOLDER"
_FOLDER = pytest.StashKey[Path]()
_RUN = pytest.StashKey["Run"]()
_COLLECT_GARBAGE_EVERY = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-sample", type=int, default=0, help="tests per function and family; 0 for all")
    group.addoption("--conformance-shard", default="1/1", help="which part of the tests, as i/n")
    group.addoption("--conformance-precision", default="float16", help="how ML programs are computed")
    group.addoption("--conformance-report", help="write the table, as Markdown, to this file")
    group.addoption("--conformance-journal", help="write each result to this file, one line of JSON each")
    group.addoption("--conformance-resume", action="store_true", help="leave out what the journal has already")


def pytest_configure(config: pytest.Config) -> None:
    import_coremltools()
    import coremltools._deps
    import torch

    torch.set_num_threads(1)
    enable_predict(precision=config.getoption("--conformance-precision"))
    # The tests' helpers ask this constant, and not the functions that `enable_predict` answers.
    coremltools._deps._IS_MACOS = True
    _save_time()
    _tell_float16_apart()
    config.stash[_FOLDER] = _make_folder(config)
    tempfile.tempdir = str(config.stash[_FOLDER])
    _count_loaded_models()
    signal.signal(signal.SIGALRM, _time_is_up)
    if not hasattr(config, "workerinput"):
        config.stash[_RUN] = Run(config)
        config.pluginmanager.register(config.stash[_RUN])


def _make_folder(config: pytest.Config) -> Path:
    """A folder for the models that the tests write; those of the workers are inside that of their controller.

    So what a worker leaves behind that crashes goes with the controller's.
    """
    if hasattr(config, "workerinput"):
        return Path(tempfile.mkdtemp(dir=os.environ[_FOLDER_VARIABLE]))
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="conformance_", dir=memory if memory.is_dir() else None))
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return folder


def pytest_unconfigure(config: pytest.Config) -> None:
    tempfile.tempdir = None
    shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {item.nodeid for item in items if in_shard(item.nodeid, config.getoption("--conformance-shard"))}
    per_function = config.getoption("--conformance-sample")
    if per_function:
        wanted &= in_sample([item.nodeid for item in items], per_function)
    if config.getoption("--conformance-resume"):
        wanted -= read_journal(Path(config.getoption("--conformance-journal"))).keys()
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
    items[:] = [item for item in items if item.nodeid in wanted]
    gc.collect()
    gc.freeze()


def _save_time() -> None:
    """Leave out what takes coremltools' converter a third of its time and says nothing about a runtime.

    It checks its program after each of about ninety passes, and collects garbage after each conversion.
    """
    from coremltools.converters import _converters_entry
    from coremltools.converters.mil.mil import Program

    Program.validate = lambda *_, **__: None
    _converters_entry.gc = types.SimpleNamespace(collect=lambda: 0)


def _tell_float16_apart() -> None:
    """Mark the failures of comparisons that no float16 number can pass."""
    compare = np.testing.assert_allclose

    def comparing(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any) -> None:
        try:
            compare(actual, desired, rtol=rtol, atol=atol, **options)
        except AssertionError as error:
            stored = Loaded.path is not None and stores_float16(Loaded.path)
            error.finer = finer_than_float16(  # type: ignore[attr-defined]
                actual, desired, rtol, atol, stored=stored
            )
            raise

    np.testing.assert_allclose = comparing


class Loaded:
    """How many models the current test loaded, and the last one."""

    models = 0
    path: Path | None = None
    tests = 0


def _count_loaded_models() -> None:
    load = PortableProxy.__init__

    def counting(self: PortableProxy, filename: str, *args: Any, **options: Any) -> None:
        Loaded.models += 1
        Loaded.path = Path(filename)
        load(self, filename, *args, **options)

    PortableProxy.__init__ = counting  # type: ignore[method-assign]


def _time_is_up(*_: object) -> None:
    pytest.fail(f"longer than {TIME_LIMIT} seconds", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    Loaded.models, Loaded.path = 0, None
    Loaded.tests += 1
    _seed(item.nodeid)
    signal.alarm(TIME_LIMIT)
    # A hang inside a library does not hear the alarm: then the worker ends, and pytest-xdist starts another.
    faulthandler.dump_traceback_later(2 * TIME_LIMIT, exit=True)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        if nextitem is None or nextitem.parent is not item.parent:
            _empty(item.config.stash[_FOLDER])
        if Loaded.tests % _COLLECT_GARBAGE_EVERY == 0:
            gc.collect()


def _seed(test: str) -> None:
    """The tests draw inputs without a seed of their own; give each one that does not depend on the others."""
    import torch

    number = zlib.crc32(test.encode())
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _empty(folder: Path) -> None:
    """Remove what coremltools would remove when the process ends: a package per model."""
    for entry in folder.iterdir():
        if entry.is_file():
            entry.unlink()
        elif not entry.name.startswith("pytest-of-"):
            shutil.rmtree(entry, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    report.conformance = _judge(report, call)
    if report.conformance[0] == FAILED:
        known = expected.find(_expected(), item.nodeid)
        if known:
            report.conformance = (EXPECTED, known.reason)
    if report.outcome == "failed" and report.conformance[0] != FAILED:
        report.outcome = "skipped"
        report.wasxfail = report.conformance[1]
    return report


_ENTRIES: list[expected.Expected] = []


def _expected() -> list[expected.Expected]:
    if not _ENTRIES:
        _ENTRIES.extend(expected.read())
    return _ENTRIES


def _judge(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str]:
    """Outcome and reason of a test's phase."""
    if hasattr(report, "wasxfail"):
        passes = ", but passes here" if report.passed else ""
        return NOT_APPLICABLE, f"coremltools expects it to fail{passes}: {report.wasxfail or 'no reason given'}"
    if report.skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return NOT_APPLICABLE, f"coremltools skips it: {text.removeprefix('Skipped: ')}"
    if report.passed:
        if call.when == "call" and not Loaded.models:
            return NOT_APPLICABLE, "loads no model"
        return PASSED, ""
    error = call.excinfo.value if call.excinfo else None
    kind = type(error.__cause__ if isinstance(error, QuantguardError) and error.__cause__ else error).__name__
    text = f"{kind}: {_brief(str(error))}"
    if not Loaded.models:
        return NOT_APPLICABLE, f"fails before there is a model: {text}"
    if getattr(error, "finer", False):
        return (
            NOT_APPLICABLE,
            "computes in float16 or stores weights so, and the tolerance is finer",
        )
    if isinstance(error, UnsupportedModelError):
        return FAILED, f"refused: {_brief(str(error))}"
    return FAILED, text


def _brief(text: str) -> str:
    return " ".join(text.split())[:300]


class Run:
    """What the process that controls the workers collects of them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        path = config.getoption("--conformance-journal")
        self.journal = Path(path) if path else None
        resume = config.getoption("--conformance-resume")
        self.results = read_journal(self.journal) if self.journal and resume else {}
        if self.journal and not resume:
            self.journal.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome, reason = getattr(report, "conformance", (FAILED, f"the worker ended: {report.longrepr}"))
        if report.when in ("setup", "teardown") and outcome == PASSED:
            return
        result = Result(report.nodeid, outcome, reason, round(report.duration, 3))
        self.results[report.nodeid] = result
        if self.journal:
            with self.journal.open("a", encoding="utf-8") as stream:
                stream.write(as_line(result))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        table = markdown(self.results.values())
        path = self.config.getoption("--conformance-report")
        if path:
            Path(path).write_text(table, encoding="utf-8")
        write = terminalreporter.write_line
        write("")
        for line in table.splitlines():
            write(line)
        failures: dict[str, list[str]] = {}
        for result in self.results.values():
            if result.outcome == FAILED:
                failures.setdefault(general(result.reason), []).append(result.test)
        for reason, tests in sorted(failures.items(), key=lambda entry: -len(entry[1])):
            write(f"\n{len(tests)} failed: {reason}")
            for test in tests[:3]:
                write(f"    {test}")
        for entry in self._stale():
            write(f"\npasses now, take it out of {expected.FILE.name}: {entry.pattern}")

    def _stale(self) -> list[expected.Expected]:
        """Entries of which tests ran, and none failed."""
        ran = list(self.results.values())
        return [
            entry
            for entry in _expected()
            if any(entry.matches(result.test) for result in ran)
            and not any(entry.matches(result.test) for result in ran if result.outcome != PASSED)
        ]
