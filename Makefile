# Every target does its own set-up: a virtual environment in .venv, made once and brought up to
# date when pyproject.toml changes. `make demo` and `make test` are all that a newcomer needs.

PYTHON ?= python3
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet
BIN := .venv/bin
WHEEL_ENV := build/wheel-env
OLDEST_ENV := build/oldest-env
OLDEST := build/oldest.txt

.PHONY: demo test lint format types pip-check api realdata browser slow wheel dist \
        use-wheel reproducible oldest clean

demo: .venv/.runtime
	$(BIN)/atcon demo $(ARGS)

# A process per core, up to four, with a thread each; the tests of a file share what they set up.
test: .venv/.development
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: .venv/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.development
	$(BIN)/mypy

pip-check: .venv/.development
	$(BIN)/python -m pip check

# The public API as it is now becomes what the tests hold the code to.
api: .venv/.development
	$(BIN)/python tests/support/public_api.py docs/public-api.txt

realdata browser slow: .venv/.development
	$(BIN)/python -m pytest -m $@ $(ARGS)

# The wheel comes from the source archive, goes into an environment of its own, and works there.
wheel: dist use-wheel

dist: .venv/.development
	rm -rf dist
	$(BIN)/python -m build --outdir dist

use-wheel:
	rm -rf $(WHEEL_ENV)
	$(PYTHON) -m venv $(WHEEL_ENV)
	$(WHEEL_ENV)/bin/python $(PIP_INSTALL) dist/atcon-*.whl
	$(WHEEL_ENV)/bin/python -m pip check
	.ci/use-wheel $(WHEEL_ENV)/bin
	$(WHEEL_ENV)/bin/python $(PIP_INSTALL) mypy
	$(WHEEL_ENV)/bin/python -m mypy --strict --config-file= .ci/typed.py

# Two builds of the same commit, or of TAG=v0.1.0, are equal bytes; their checksums are printed.
reproducible: .venv/.development
	.ci/reproducible $(BIN)/python $(TAG)

# The tests with the lowest versions that pyproject.toml allows. Old versions warn of new ones, so
# that warnings are no errors here; shapes are checked by the newest alone.
oldest:
	rm -rf $(OLDEST_ENV)
	$(PYTHON) -m venv $(OLDEST_ENV)
	.ci/lowest >$(OLDEST)
	$(OLDEST_ENV)/bin/python $(PIP_INSTALL) --constraint $(OLDEST) --editable '.[test]'
	$(OLDEST_ENV)/bin/python -m pip check
	OMP_NUM_THREADS=1 $(OLDEST_ENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
	  -W default -o addopts=--import-mode=importlib \
	  -m "not realdata and not browser and not slow" $(ARGS)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' || { \
	  echo "atcon needs Python 3.11 or newer, but $(PYTHON) is not:" \
	    "$$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3.12 ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml | .venv/bin/python
	@echo "Installing atcon and PyTorch into .venv (a few minutes, once)"
	$(BIN)/python $(PIP_INSTALL) --editable .
	@touch $@

.venv/.development: pyproject.toml | .venv/bin/python
	@echo "Installing atcon, PyTorch and the development tools into .venv (a few minutes, once)"
	$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@ .venv/.runtime
