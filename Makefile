# The one task vocabulary, for people and CI alike. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DATA   ?= data

# Compiled modules are kept, and no library phones home or waits for one that would.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow check bench bench-loop up down clean doctor

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

doctor:
	@command -v $(PYTHON) >/dev/null || { echo "cannot start: $(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) pipelines/doctor.py

setup: doctor $(READY)  ## install everything into .venv (demo and test do it too)

$(READY): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# pip's links serve uv too; pip stands in where uv cannot.
	@UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --quiet --compile-bytecode \
		--python $(BIN)/python -e '.[dev]' -c constraints.txt \
		|| $(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $@

demo: setup  ## build every system on its simulated world and show the figures
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "cannot start: DVC needs a git repository: run 'git init' here first" >&2; exit 1; }
	@dvc repro
	@loop status
	@loop next

test: setup  ## run the tests (under 10 minutes on 2 cores)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

slow: setup  ## run the slow tests
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadgroup

check: setup  ## lint, types, import contracts
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports

bench: setup  ## run every benchmark in its short form (README names the options of its figures)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

bench-loop: setup  ## live every scenario and print how well the loop closes (hours; resumable)
	@$(BIN)/python benchmarks/loop/timelapse.py

up: setup  ## start Prefect, a worker and MLflow's UI on loopback
	@loop up

down: setup  ## stop what `make up` started
	@loop down

clean:  ## forget every run, model and registry (not the environment)
	rm -rf runs registry live timelapse dvc_plots .prefect .run
