"""The pytest plugin: hooks, options and fixtures only. Nothing heavy is imported before a fixture needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_quantguard import __version__
from pytest_quantguard.config import Settings, add_options
from pytest_quantguard.errors import QuantguardError
from pytest_quantguard.marker import (
    MARKER_HELP,
    MarkerOptions,
    make_one_test_per_scheme,
    options_of_test,
    refuse_mark_without_fixture,
)
from pytest_quantguard.reports.session import (
    RESULTS,
    receive_from_worker,
    remember_tests,
    send_to_controller,
    write_summary,
)

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from pytest_quantguard.api import Model
    from pytest_quantguard.comparison import Comparison
    from pytest_quantguard.workbench import Workbench


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER_HELP)
    Settings.from_pytest_config(config)  # a wrong setting stops the run at once


def pytest_report_header(config: pytest.Config) -> str:
    return f"quantguard: {__version__} (engine: {Settings.from_pytest_config(config).engine})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    make_one_test_per_scheme(metafunc)


def pytest_runtest_setup(item: pytest.Item) -> None:
    refuse_mark_without_fixture(item)


@pytest.hookimpl(tryfirst=True)  # before any plugin deselects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    remember_tests(config, items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    send_to_controller(session.config)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    receive_from_worker(node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and item.stash.get(RESULTS, None):
        report.quantguard_results = item.stash[RESULTS]  # type: ignore[attr-defined]  # xdist carries it
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    write_summary(terminalreporter, config)


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Show the project's own errors as their one sentence, without a traceback through the plugin."""
    __tracebackhide__ = True
    try:
        yield
    except (QuantguardError, pytest.UsageError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
def quantguard_settings(pytestconfig: pytest.Config) -> Settings:
    """The session's settings: flags over ini entries over defaults."""
    return Settings.from_pytest_config(pytestconfig)


@pytest.fixture(scope="session")
def quantguard_model(quantguard_settings: Settings) -> Any:
    """The float model; override it to return a path, a coremltools MLModel or a Model of your own making."""
    return quantguard_settings.model


@pytest.fixture(scope="session")
def quantguard_samples(quantguard_settings: Settings) -> Any:
    """The samples; override it to return a folder, or a list of input dictionaries for models without images."""
    return quantguard_settings.samples


@pytest.fixture(scope="session")
def quantguard_workbench(quantguard_settings: Settings) -> Workbench:
    """Models, samples and outputs that the tests of a session share; each is made once."""
    from pytest_quantguard.workbench import Workbench

    return Workbench(quantguard_settings)


@pytest.fixture
def quantguard_options(request: pytest.FixtureRequest) -> MarkerOptions | None:
    """What the test's mark asks for; None without a mark."""
    if hasattr(request, "param"):
        options: MarkerOptions = request.param
        return options
    with _readable_errors():
        return options_of_test(request.node)


@pytest.fixture
def float_model(
    quantguard_workbench: Workbench, quantguard_options: MarkerOptions | None, quantguard_model: Any
) -> Model:
    """The float model as the project ships it: predict, save, size_bytes, labels, digest, mlmodel."""
    with _readable_errors():
        return quantguard_workbench.float_model(quantguard_options, quantguard_model)


@pytest.fixture
def quantized_model(
    quantguard_workbench: Workbench, quantguard_options: MarkerOptions | None, float_model: Model
) -> Model:
    """The float model quantized with the marked scheme: as float_model, with scheme and compression."""
    with _readable_errors():
        return quantguard_workbench.quantized_model(quantguard_options, float_model)


@pytest.fixture
def sample_folder(
    quantguard_workbench: Workbench,
    quantguard_options: MarkerOptions | None,
    quantguard_samples: Any,
    float_model: Model,
) -> Any:
    """The samples with their labels: a SampleFolder, or the list of input dictionaries of quantguard_samples."""
    with _readable_errors():
        return quantguard_workbench.samples(quantguard_options, quantguard_samples, float_model)


@pytest.fixture
def comparison(
    quantguard_workbench: Workbench,
    quantguard_options: MarkerOptions | None,
    float_model: Model,
    quantized_model: Model,
    sample_folder: Any,
) -> Comparison:
    """The marked scheme against the float model over the samples: every metric, and the rows behind it."""
    with _readable_errors():
        return quantguard_workbench.comparison(quantguard_options, float_model, quantized_model, sample_folder)


@pytest.fixture
def accuracy_snapshot(
    request: pytest.FixtureRequest,
    snapshot: SnapshotAssertion,
    quantguard_settings: Settings,
    quantguard_options: MarkerOptions | None,
) -> SnapshotAssertion:
    """The stored baseline of this test: `assert comparison == accuracy_snapshot`; --snapshot-update accepts."""
    from pytest_quantguard.gate.assertion import make_accuracy_snapshot
    from pytest_quantguard.gate.limits import Limits

    results = request.node.stash.setdefault(RESULTS, [])
    with _readable_errors():
        settings = quantguard_options.settings(quantguard_settings) if quantguard_options else quantguard_settings
        limits = Limits(
            max_drop=settings.max_drop, thresholds=quantguard_options.thresholds if quantguard_options else {}
        )
        return make_accuracy_snapshot(
            snapshot,
            limits=limits,
            node_id=request.node.nodeid,
            verbosity=request.config.get_verbosity(),
            on_result=results.append,
        )
