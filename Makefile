# Two commands are all a newcomer needs: `make sweep` and `make test`.
# Both make the virtual environment in .venv first, with every version pinned by constraints.txt.

PYTHON ?= python3
# Further arguments for pip, for example an index that holds CPU builds of torch.
PIP_ARGS ?=
# Further arguments for the sweep, for example SWEEP_ARGS="--data /path/to/recordings".
SWEEP_ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help env sweep test test-all lint format bench docs constraints clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: .venv/.installed ## make .venv with the pinned dependencies

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  -c constraints.txt -e '.[dev]'
	touch $@

sweep: env ## prune the default network on the embedded set; ends with the path of the report
	$(BIN)/compressor sweep --prune 0.5:0.8 $(SWEEP_ARGS)

test: env ## the tests that need neither long nor big data
	$(BIN)/python -m pytest

test-all: env ## also the slow tests
	$(BIN)/python -m pytest -m 'not gpu'

lint: env ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env ## the benchmarks; they print ratios
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

docs: env ## the site, in site/; the tutorial's commands run when they changed
	$(BIN)/python -m sphinx -E -W --keep-going docs site

constraints: ## pin what is installed in .venv now
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' > constraints.txt

clean: ## remove the environment and what runs left
	rm -rf .venv runs build dist site *.egg-info
