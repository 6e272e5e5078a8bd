# AlexNet laboratory: `make help` lists what there is, `make quick` is the place to start.
#
# Everything runs in .venv, which .ci/setup makes with plain pip; pip's own configuration (indexes, proxies,
# constraints) applies. PYTHON names the Python to make it with: make setup PYTHON=python3.12

PYTHON ?= python3
ARGS ?=
SHELL := bash
PY := .venv/bin/python
# Tests run side by side, a process a core; more than four would want more memory than they save time.
SPREAD := --numprocesses=auto --maxprocesses=4 --dist=worksteal
# What TensorBoard says of itself each time it starts.
BOARD_NOISE := -e '^TensorFlow installation not found' -e '^NOTE: Using' -e '--load_fast=false' -e 'issues/4784$$' -e '^$$'
SETUP := PYTHON="$(PYTHON)" PYTHON_ORIGIN="$(origin PYTHON)" bash .ci/setup
.DEFAULT_GOAL := help

.PHONY: help setup ready quick train test test-fast test-slurm bench results board lint format docs dist browser clean distclean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo 'ARGS="..." is passed on to what runs: make train ARGS="model.lrn=true optimizer.lr=0.002"'

setup:  ## .venv with all dependencies, and the data set (about 2 minutes; safe to interrupt and repeat)
	@$(SETUP) all

# What the others stand on: setup where it is needed, silence where it is not.
ready:
	@$(SETUP) ready

quick: ready  ## Train the real AlexNet at 224 px on real images (5 to 11 minutes on 2 CPU cores, less on a GPU)
	@data=; $(PY) -m alexnet_lit data --check || { data=data=sample; \
	  echo 'quick: no Fashion-MNIST here, so on data=sample, 2,000 of its images (`make setup` fetches the rest)'; }; \
	set -x; $(PY) train.py experiment=quick $$data $(ARGS)

train: ready  ## One run, ARGS="model.lrn=true", or a sweep, ARGS="-m model.lrn=true,false seed=0,1,2"
	$(PY) train.py $(ARGS)

test: ready  ## The whole test suite (CPU, about 7 minutes on 2 cores)
	@$(PY) -m pytest $(SPREAD) $(ARGS)

test-fast: ready  ## The tests that answer within 2 minutes
	@$(PY) -m pytest -m "not slow" $(SPREAD) $(ARGS)

test-slurm: ready  ## The tests that need Slurm, beside one that is started for them (Debian, as root)
	@$(SETUP) slurm
	@bash .ci/slurm $(PY) -m pytest -m slurm $(SPREAD) $(ARGS)

bench: ready  ## Measurements of speed, a table each (about 5 minutes on 2 cores; ARGS="step --batch 128")
	@$(PY) -m alexnet_lit bench $(ARGS)

results: ready  ## The tables of RESULTS.md anew, from the records in docs/results/
	@$(PY) -m alexnet_lit.tools.records

board: ready  ## TensorBoard on logs/, at a free port, whose address it prints (ARGS="--port=6006")
	@[ -n "$$(ls -A logs 2>/dev/null)" ] || echo 'board: nothing is in logs/ yet; runs show up as they are made (`make quick`)'
	@$(PY) -m tensorboard.main --logdir logs --port=0 $(ARGS) 2> >(grep --line-buffered -v $(BOARD_NOISE) >&2)

lint: ready  ## Check style (ruff), format (ruff) and types (mypy)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: ready  ## Sort imports, apply ruff's safe fixes, format
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

docs: ready  ## docs/ as a site, in site/; config.md is written anew from conf/
	@$(PY) docs/hooks.py
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

dist: ready  ## The sdist and the wheel that are released, into dist/
	@rm -rf dist
	@$(PY) -m build --no-isolation

browser:  ## Chromium for the tests marked `browser` (Debian, as root; they are skipped without it)
	@$(SETUP) browser

clean:  ## Remove caches and build leftovers; never logs, data, checkpoints or .venv
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find alexnet_lit tests conf train.py -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@rm -rf __pycache__

distclean: clean  ## clean, and .venv too; never logs, data or checkpoints
	@rm -rf .venv
