# Everything sets itself up: a virtual environment from the pinned requirements, the control plane
# and the engine (cached outside the checkout, see e2e/rig/toolchain.py) when a target needs them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# Tests at a time. Two would leave a third of two processors idle, waiting for leases, soaks and restarts.
WORKERS ?= 3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
CHART := charts/restate-invocation-operator
COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --no-emit-find-links --universal --python-version 3.11
# What is tried on the oldest Kubernetes: admission, the chart and its rights, and one file for each thing that is done.
# (Who asked is not stamped there: tests of that skip.)
COMPAT := tests/apiserver tests/chart/test_chart_install.py tests/chart/test_chart_rights.py \
  tests/chart/test_chart_policies.py \
  $(addprefix tests/operator/test_action_,cancel.py kill.py pause.py purge.py restart.py resume.py) \
  tests/operator/test_retention_holds.py tests/operator/test_high_availability.py
export PATH := $(CURDIR)/$(BIN):$(PATH)
# What Python compiles is kept, whoever said otherwise: tests are collected by each of their processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(STAMP): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is too old: install Python 3.11 or newer (or set PYTHON=)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.PHONY: servers
servers: $(STAMP) ## Build or install the control plane and the engines (10 minutes once, then nothing)
	@python -m e2e.rig tools

.PHONY: helm
helm: $(STAMP) ## Build the pinned Helm (4 minutes once, then nothing; or set HELM=)
	@python -m e2e.rig helm

.PHONY: judges
judges: servers ## Build what judges our objects as Flux and Argo CD do (a minute once, then nothing)
	@python -m e2e.rig judges

.PHONY: lint
lint: $(STAMP) ## Style, types, layers, drift of generated files
	ruff check
	ruff format --check
	mypy
	mypy e2e/rig e2e/services e2e/demo e2e/bench e2e/scenarios e2e/simulation
	lint-imports
	python -m invocation_operator crds --check crds --reference docs/reference/api.md
	python -m invocation_operator crds --check $(CHART)/files/crds
	python -m e2e.rig.chart_readme --check
	hadolint Dockerfile

.PHONY: unit
unit: $(STAMP) ## Tests that start no server
	pytest tests/unit

.PHONY: test
test: lint servers judges helm ## Everything: lint, then all tests against the real servers
	@# Some processes, each in the order of the files: a session's operator would act upon what tests/apiserver makes.
	@# What failed is tried once more, alone: several at a time compete for the processors of a small machine.
	pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder || pytest --last-failed --last-failed-no-failures none

.PHONY: image
image: $(STAMP) ## The operator's image, built without a daemon (needs root, on Debian or with buildah and debootstrap)
	@python -m e2e.rig image

.PHONY: compat
compat: helm ## The oldest Kubernetes that is supported: admission, the chart, every action (10 minutes to build it, once)
	@# With KUBEBUILDER_ASSETS: any other one.
	KUBEBUILDER_ASSETS="$${KUBEBUILDER_ASSETS:-$$(python -m e2e.rig oldest)}" pytest $(COMPAT)

.PHONY: chaos
chaos: servers ## Crashes at every write of every action, and at random instants (an hour; CHAOS_ROUNDS, CHAOS_SEED)
	pytest e2e/scenarios -rP

.PHONY: simulate
simulate: $(STAMP) ## Deterministic simulation: every fault at every boundary, then seeds (SEEDS=0:100000, an hour)
	python -m e2e.simulation --exhaustive
	python -m e2e.simulation --seeds $(or $(SEEDS),0:100000)

.PHONY: demo
demo: servers ## The story, on a real control plane and a real engine
	python -m e2e.demo

.PHONY: bench
bench: servers ## Measurements
	python -m e2e.bench

.PHONY: up
up: $(STAMP) ## Start it all and leave it running (CLUSTER=current: in your cluster)
	@python -m e2e.rig up

.PHONY: down
down: $(STAMP) ## Stop what `make up` started
	@python -m e2e.rig down

.PHONY: crds
crds: $(STAMP) ## Generate crds/, the chart's copy and its table of values
	python -m invocation_operator crds --write crds --reference docs/reference/api.md
	python -m invocation_operator crds --write $(CHART)/files/crds
	python -m e2e.rig.chart_readme

.PHONY: lock
lock: $(STAMP) ## Recompile requirements/*.txt from pyproject.toml
	$(COMPILE) --generate-hashes pyproject.toml -o requirements/operator.txt
	python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
	  | $(COMPILE) --generate-hashes - -o requirements/build.txt
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.txt

.PHONY: clean
clean: ## Remove what was generated here (not the cache of built servers)
	@if [ -x $(BIN)/python ] && [ -d .rig ]; then $(BIN)/python -m e2e.rig down; fi
	rm -rf $(VENV) .rig .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
