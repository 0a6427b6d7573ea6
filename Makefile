# Everything below works on a fresh machine with Python 3.11 or newer (with venv), pip and make.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
CHECKED = registry builder storage auth tests docs $(wildcard bench)

.PHONY: help venv demo demo-once test test-failed lint check programs conformance faults soak format bench bench-short docs constraints clean

help:
	@echo 'make demo         make a sample channel, serve images made from it, and say what to pull'
	@echo 'make demo-once    the same, then pull an image, run its python, check its answer, and stop'
	@echo 'make test         run the tests'
	@echo 'make check        run ruff, mypy and the tests'
	@echo 'make conformance  run the public conformance suite of registries (needs Go)'
	@echo 'make faults       die, fail and be fuzzed at every step (make test does it at some)'
	@echo 'make soak         push, mount, pull, delete and collect garbage for some minutes'
	@echo 'make bench        run the measured comparisons'
	@echo 'make format       format the code'
	@echo 'make docs         write docs/settings.md and examples/condery.toml from the settings'
	@echo 'make constraints  resolve the pinned versions of constraints.txt anew'

venv: $(INSTALLED)

# Dependency groups need pip 25.1. setuptools warns of every editable installation, which tells a newcomer nothing.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e .
	touch $@

demo: venv
	$(BIN)/condery demo

demo-once: venv
	$(BIN)/condery demo --once

# A file of tests a process; three of them also on two cores, since most tests wait for servers rather than compute.
# tests/conftest.py has the order of files.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 25

test: venv
	$(PYTEST)

# What tests need of other programs, and would otherwise build and fetch when they come to it.
programs: venv
	$(BIN)/python -m tests.support.prepare

lint: venv
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy

check: lint test

# The tests that failed last, one after another with the machine to themselves.
test-failed: venv
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

conformance: venv
	$(BIN)/python -m tests.conformance

faults: venv
	WIDE=1 $(PYTEST) --timeout 1800 $(addprefix tests/registry/faults/test_,crashes.py collection_crashes.py outages.py \
		failing_writes.py fuzzing.py soak.py) tests/registry/test_no_secret_shows.py \
		tests/registry/api/test_description.py $(addprefix tests/storage/garbage/test_,crashes.py model.py)

soak: venv
	SOAK_SECONDS=120 $(BIN)/python -m pytest -s tests/registry/faults/test_soak.py

format: venv
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: venv
	$(BIN)/python -m bench

# Whether everything can still be measured, on a machine whose figures mean nothing.
bench-short: venv
	$(BIN)/python -m bench --short --report-only

docs: venv
	$(BIN)/python docs/write_settings.py

constraints: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-header --no-annotate --python-version 3.11 --group dev pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
