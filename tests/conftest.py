"""For all tests: sessions of pytester stand alone."""

import pytest


@pytest.fixture(autouse=True)
def inner_runs_stand_alone(request, monkeypatch):
    """They are no workers of the outer run, and do without hypothesis, whose plugin costs each a second."""
    if "pytester" not in request.fixturenames:
        return
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
