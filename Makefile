# Everything runs in .venv, which the first target that needs it makes: nothing else is asked for but
# Python 3.11 or newer, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests of behaviour wait more than they compute, so more of them than cores run at once.
JOBS ?= 4
# How long the chaos lasts.
SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help demo up test test-deep chaos lint format bench clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]' --group dev
	@touch $@

demo: $(READY) ## Show the whole story in a minute: start, Ctrl+C, resume, SIGKILL, resume, compare
	$(BIN)/checkpoint-runner demo

up: $(READY) ## Run the sample: web on http://127.0.0.1:8000, two workers, an embedded Valkey
	$(BIN)/checkpoint-runner up --web workers.web:app --tasks workers.tasks --workers 2

test: $(READY) ## Run the tests (a few minutes)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-deep: $(READY) ## Run every test in full, the races a hundred times
	CHECKPOINT_RUNNER_DEEP=1 CHECKPOINT_RUNNER_RACE_RUNS=100 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --timeout 900

chaos: $(READY) ## Kill parts of a whole deployment for SECONDS=600, then account for every item
	$(BIN)/python -m tests.ladder.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: $(READY) ## Check style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure the hot path against its peers
	$(BIN)/python benchmarks/hot_path.py

clean: ## Remove what was made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
