PYTHON ?= python3
# Workers of pytest-xdist; each runs its models single-threaded.
WORKERS ?= auto
BIN := .venv/bin

.PHONY: example test check test-oldest fuzz conformance conformance-full

example: .venv/.ready
	cd example_project && ../$(BIN)/python -m pytest

test: .venv/.ready
	$(BIN)/python -m pytest -n $(WORKERS)

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Models damaged in 2,000 ways, each opened by the portable engine.
fuzz: .venv/.ready
	$(BIN)/python tests/fuzz/hunt.py $(FUZZ)

# The same tests with the oldest dependencies that pyproject.toml allows.
test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -n $(WORKERS)

# A fixed part of coremltools' own tests, and networks of PyTorch; see docs/conformance.md.
conformance: .venv-conformance/.ready
	.venv-conformance/bin/python -m pytest -n $(WORKERS) tests/conformance
	.venv-conformance/bin/python tests/conformance/run.py -n $(WORKERS) --conformance-sample=3 $(CONFORMANCE)

# All of them, about an hour on two cores. After an interruption: make conformance-full CONFORMANCE=--conformance-resume
conformance-full: .venv-conformance/.ready
	mkdir -p build
	.venv-conformance/bin/python tests/conformance/run.py -n $(WORKERS) --conformance-journal=build/conformance.jsonl \
		--conformance-report=build/conformance.md $(CONFORMANCE)

.venv/.ready: GROUP = dev
.venv-oldest/.ready: GROUP = oldest
.venv-conformance/.ready: GROUP = conformance
.venv/.ready .venv-oldest/.ready .venv-conformance/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("pytest-quantguard needs Python 3.11 or newer; run: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet --editable . --group $(GROUP)
	touch $@
