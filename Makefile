PYTHON ?= python3
# Workers of pytest-xdist; each runs its models single-threaded.
WORKERS ?= auto
BIN := .venv/bin

.PHONY: example test check test-oldest conformance

example: .venv/.ready
	cd example_project && ../$(BIN)/python -m pytest

test: .venv/.ready
	$(BIN)/python -m pytest -n $(WORKERS)

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The same tests with the oldest dependencies that pyproject.toml allows.
test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -n $(WORKERS)

conformance: .venv-conformance/.ready
	.venv-conformance/bin/python -m pytest -n $(WORKERS) tests/conformance

.venv/.ready: GROUP = dev
.venv-oldest/.ready: GROUP = oldest
.venv-conformance/.ready: GROUP = conformance
.venv/.ready .venv-oldest/.ready .venv-conformance/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("pytest-quantguard needs Python 3.11 or newer; run: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet --editable . --group $(GROUP)
	touch $@
