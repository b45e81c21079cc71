# `make run` and `make test` need Python 3.11 or newer, git and make. The lock installs the rest
# into .venv.
PYTHON ?= python3
BIN := $(abspath .venv/bin)
# By its path: where .venv is half made, `pip` alone would be that of another Python.
PIP = $(BIN)/python -m pip
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help install run test test-faults servers check format schemas lock clean

help:  ## list the targets
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

install: .venv/installed  ## make .venv from the lock, unless it is up to date

run: .venv/installed  ## run the stages that are not up to date, then show the result
	dvc repro
	lmadapt summary

test: .venv/installed  ## run the tests
	python -m pytest -n 2

test-faults: .venv/installed  ## run the long tests: killed stages, failing servers and workers
	python -m pytest -m faults

servers: .venv/installed  ## start PostgreSQL, Prefect and MLflow on loopback, print their addresses
	@python infra/servers.py

check: .venv/installed  ## lint, check formatting and types
	ruff check .
	ruff format --check .
	mypy

format: .venv/installed  ## mend what the linter can, and format
	ruff check --fix .
	ruff format .

schemas: .venv/installed  ## write the JSON schemas in docs/ from the models that define them
	python -m lmadapt.verdict.figures > docs/evaluate.schema.json
	python -m lmadapt.evaluation.gate > docs/gate.schema.json
	python -m lmadapt.provenance.document > docs/lineage.schema.json

bench-%: .venv/bench  ## run benchmarks/%.py against its peers and write benchmarks/results/%.json
	python -m benchmarks.$*

lock:  ## resolve pyproject.toml again and write requirements.lock
	$(PYTHON) -m venv --clear .venv
	$(PIP) install --quiet '.[all,dev]' 'torch==2.13.0'
	$(PIP) freeze --all --exclude lmadapt --exclude pip | sed 's/+cpu$$//' > requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/installed

clean:  ## remove what the pipeline and the tools made, except DVC's cache, the registry and the servers
	rm -rf data/raw data/curated models/base models/pretrained models/adapter
	git clean -fdXq metrics plots reports .pytest_cache .mypy_cache .ruff_cache
	@# .lmadapt/servers has the databases and passwords of `make servers`.
	test ! -d .lmadapt || find .lmadapt -mindepth 1 -maxdepth 1 ! -name servers -exec rm -rf {} +

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmadapt needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv --clear .venv
	$(PIP) install --quiet --no-compile --requirement requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@# Compile now, on all cores: where .venv is read-only later, every start would compile again.
	$(BIN)/python -m compileall -q -j 0 .venv/lib > /dev/null || true
	touch .venv/installed

.venv/bench: .venv/installed
	$(PIP) install --quiet --no-compile --no-build-isolation --constraint requirements.lock --editable '.[bench]'
	touch .venv/bench
