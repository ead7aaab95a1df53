PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Workers of pytest-xdist; each runs its models single-threaded.
WORKERS ?= auto

.PHONY: example test check conformance

example: $(VENV)/.ready
	cd example_project && ../$(BIN)/python -m pytest

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

conformance: $(VENV)-conformance/.ready
	$(VENV)-conformance/bin/python -m pytest -n $(WORKERS) tests/conformance

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("pytest-quantguard needs Python 3.11 or newer; run: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

$(VENV)-conformance/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-conformance
	$(VENV)-conformance/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-conformance/bin/python -m pip install --quiet --editable . --group conformance
	touch $@
