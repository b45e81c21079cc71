# `make run` and `make test` need Python 3.11 or newer, git and make; all else is installed into .venv from the lock.
PYTHON ?= python3
BIN := $(abspath .venv/bin)
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := true

.DEFAULT_GOAL := help
.PHONY: help install run test test-faults servers check format schemas lock clean

help:  ## list the targets
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

install: .venv/installed  ## make .venv from the lock, unless it is newer than the lock

run: .venv/installed  ## run every stage that is not up to date, then show the result
	dvc repro
	lmadapt summary

test: .venv/installed  ## run the tests
	python -m pytest -n 2

test-faults: .venv/installed  ## run the long tests: killed stages, several processes, servers and workers that fail
	python -m pytest -m faults

servers: .venv/installed  ## start private PostgreSQL, Prefect and MLflow servers on loopback and print their addresses
	@python infra/servers.py

check: .venv/installed  ## lint, formatting and types
	ruff check .
	ruff format --check .
	mypy

format: .venv/installed  ## put the code in order
	ruff check --fix .
	ruff format .

schemas: .venv/installed  ## write the JSON schemas in docs/ from the models that define them
	python -m lmadapt.verdict.figures > docs/evaluate.schema.json
	python -m lmadapt.provenance.document > docs/lineage.schema.json

bench-%: .venv/bench  ## run benchmarks/%.py against its peers and write benchmarks/results/%.json
	python -m benchmarks.$*

lock: ## resolve pyproject.toml anew and write requirements.lock
	rm -rf .venv
	$(PYTHON) -m venv .venv
	pip install --quiet '.[all,dev]' 'torch==2.13.0'
	pip freeze --all --exclude lmadapt --exclude pip | sed 's/+cpu$$//' > requirements.lock
	pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/installed

clean:  ## remove what the pipeline and the tools made; keeps DVC's cache and the registry
	rm -rf data/raw data/curated models/base models/pretrained models/adapter
	git clean -fdXq metrics plots reports .lmadapt .pytest_cache .mypy_cache .ruff_cache

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmadapt needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv .venv
	pip install --quiet --no-compile --requirement requirements.lock
	pip install --quiet --no-deps --no-build-isolation --editable .
	@# On all cores, and now: where Python may write no bytecode later, every start would compile what it imports.
	python -m compileall -q -j 0 .venv/lib > /dev/null || true
	touch .venv/installed

.venv/bench: .venv/installed
	pip install --quiet --no-compile --no-build-isolation --constraint requirements.lock --editable '.[bench]'
	touch .venv/bench
