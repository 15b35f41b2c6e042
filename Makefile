# The front door. Every target does its own set-up: a virtual environment in .venv, and what the local cluster needs.
# PYTHON=python3.12 chooses the Python of a new environment; otherwise the newest one found here.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
PY := $(BIN)/python
READY := .venv/ready
# The longest that one test may take; the cluster is built before the first one, so it does not count.
TEST_LIMIT_S := 900
PYTEST := $(PY) -m pytest --timeout=$(TEST_LIMIT_S) --durations=25
MYPY := $(PY) -m mypy

.PHONY: help demo test test-all lint format types chart generate task bench chaos cluster-up cluster-down cluster-for-tests clean

help: ## show this list
	@echo 'make TARGET; each one sets up all that it needs.'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: $(READY) ## a release of 84 over 83 on a real cluster under 100 requests a second, then a bad 85 (YES=1: no prompts; CONTEXT=: your cluster)
	@$(PY) -m demo

# What needs no cluster goes on every core. What is on the cluster counts lost requests: nothing may run beside it.
test: lint types cluster-for-tests ## lint, types and every test but the long matrix; 30 minutes at most once the caches are warm
	$(PYTEST) --numprocesses=auto -m 'not matrix and not cluster'
	$(PYTEST) -m 'not matrix and cluster'

test-all: lint types cluster-for-tests ## test, and the matrix
	$(PYTEST) --numprocesses=auto -m 'not cluster'
	$(PYTEST) -m cluster

lint: $(READY) ## ruff: errors and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(READY) ## let ruff correct what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(READY) ## mypy, strict
	$(MYPY)

chart: $(READY) ## the chart alone: helm lint, render tests, Istio's own validation
	$(PYTEST) tests/chart

generate: $(READY) ## write what is made from tables again: docs/reference.md and the chart's list of values
	$(PY) -m tools.generate
	$(PY) -m tests.chart.values_reference

task: $(READY) ## pack the extension for Azure Pipelines (BUNDLE=linux-x64: with its packages, for agents without an index)
	$(PY) -m tools.pack_task $(if $(BUNDLE),--bundle $(BUNDLE))

bench: $(READY) ## the tool against the same Helm upgrades typed by hand, on the local cluster (ROUNDS=3)
	$(PY) -m bench

chaos: $(READY) ## random commands, kills, edits and outages under load, on the local cluster (SEED=, MINUTES=10)
	$(PY) -m chaos

cluster-up: $(READY) ## start the local cluster, or repair it (root on Linux; 11 minutes the first time, then 12 s)
	$(PY) -m tests.cluster up

cluster-down: $(READY) ## end the local cluster; the compiled programs stay
	$(PY) -m tests.cluster down

# Built here, where its progress is seen and no test's time limit runs; without root its tests are skipped and say so.
cluster-for-tests: $(READY)
	@if [ "$$(uname -s)" = Linux ] && [ "$$(id -u)" = 0 ]; then $(PY) -m tests.cluster up; \
	else echo 'not root on Linux: the tests on the local cluster will be skipped'; fi

clean: ## remove the environment and the caches in this folder (the cluster's own are in ~/.cache/helm-canary)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml tools/setup.sh
	@sh tools/setup.sh
