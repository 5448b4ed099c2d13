# Everything a contributor does. `make` alone lists it.

SHELL := /bin/bash
# The first Python that is new enough; if there is none, `setup` says so.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
FOUND = $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)
PYTHON ?= $(or $(FOUND),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-peers stress mutants format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv and install durable with all it takes to test it

demo: $(STAMP) ## run the demo on an embedded PostgreSQL
	$(BIN)/python -m examples.demo

test: $(STAMP) check ## check, then run the tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not stress"

check: $(STAMP) ## linter, formatting, types, floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## measure
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## measure beside other engines, each in an environment of its own, and write it down
	$(BIN)/python -m benchmarks.peers --write

stress: $(STAMP) ## the long storms
	$(BIN)/python -m pytest -m stress

mutants: $(STAMP) ## break each law on purpose and see that the tests notice
	$(BIN)/python -m tests.mutants

format: $(STAMP) ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what can be made again (a running demo's data in .durable included)
	rm -rf $(VENV) benchmarks/peers/.venvs .durable build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A system Python may come without ensurepip (Debian keeps it in python3-venv) but with a pip that can serve another
# environment. An environment whose Python is gone, after an upgrade of the system, is made anew.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: there is no '$(PYTHON)'. Install Python 3.11 or later, or name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
	  echo "make: '$(PYTHON)' is $$($(PYTHON) -V 2>&1), but durable needs 3.11 or later: make setup PYTHON=python3.12" >&2; exit 1; }
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  rm -rf $(VENV); \
	  if ! $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; then \
	    rm -rf $(VENV); \
	    $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip || { \
	      rm -rf $(VENV); \
	      echo "make: '$(PYTHON)' cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
	      exit 1; }; \
	  fi; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	@touch $@
