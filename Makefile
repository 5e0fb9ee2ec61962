VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Without bytecode, half the time: Python compiles a module when it is first imported, and most never are.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: help demo serve-demo demo-model install test test-sweeps test-clusters test-packages test-trainables test-slow test-slow-ray test-slow-alone chaos gpu check docs format

help: ## What there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(INSTALLED) ## Make .venv with the exact tested versions

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) -e '.[dev]'
	touch $@

demo-model: $(INSTALLED) ## Fetch SmolLM2-135M-Instruct (90 MB)
	$(BIN)/python -m trainables.models.demo_model

demo: demo-model ## A real sweep in ten minutes on two CPU cores
	$(BIN)/python -m sweeps.run conf/demo.yaml

serve-demo: $(INSTALLED) ## The service with two users' sweeps, one stopped and resumed from its page in a headless Chromium
	$(BIN)/python -m pytest -m slow -s tests/integration/service/test_serve_demo.py

check: $(INSTALLED) ## Style, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(INSTALLED) ## What CI runs: style, types, import contracts, tests
	$(MAKE) --no-print-directory -j3 --output-sync=target test-packages test-sweeps test-clusters test-trainables check

# Three at a time, for two cores, one thread each: whole sweeps, all else that starts Ray, and in two parts what does not.
WITHOUT_RAY := tests/integration/wandb $(addprefix tests/integration/docs/,test_report_browser.py test_push.py)
SWEEPS := tests/integration/sweep $(wildcard tests/integration/test_*.py) tests/integration/docs/test_notebook.py
# Ray runs workers at low priority: beside the other tests they would wait for these.
NOT_SLOW = OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -m "not slow"

test-packages: $(INSTALLED)
	$(NOT_SLOW) tests/unit $(WITHOUT_RAY) --ignore=tests/unit/trainables

test-trainables: $(INSTALLED)
	$(NOT_SLOW) tests/unit/trainables

test-sweeps: $(INSTALLED)
	$(NOT_SLOW) $(SWEEPS)

test-clusters: $(INSTALLED)
	$(NOT_SLOW) tests/integration tests/chaos $(addprefix --ignore=,$(SWEEPS) $(WITHOUT_RAY))

test-slow: $(INSTALLED) ## The longer tests: killed drivers, job submission, an autoscaler, rebuilt folders, `make demo` as a new user
	$(MAKE) --no-print-directory -j2 --output-sync=target test-slow-ray test-slow-alone

# Two at a time: what starts Ray, and what does not. Two Rays on one machine would take each other's port for jobs.
SLOW_ALONE := $(addprefix tests/unit/,analysis sweeps trainables) \
	$(addprefix tests/integration/,cluster/sharded docs/test_report_browser.py)
SLOW = OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -m slow

test-slow-ray: $(INSTALLED)
	$(SLOW) tests $(addprefix --ignore=,$(SLOW_ALONE))

test-slow-alone: $(INSTALLED)
	$(SLOW) $(SLOW_ALONE)

chaos: $(INSTALLED) ## Kill a sweep's processes sixty times and more, and check that nothing is lost; SEED=N repeats a run
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

# Without `install`: it measures the torch and transformers that a machine with a GPU has.
gpu: ## Check and measure this machine's GPU in eight minutes, with what is installed; DRY=1 for CPUs, OUT=FILE
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(if $(DRY),--dry) $(if $(OUT),--out $(OUT))

docs: $(INSTALLED) ## Write the pages that are made from the code
	$(BIN)/python -m sweeps.config.reference > docs/configuration.md

format: $(INSTALLED) ## Put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
