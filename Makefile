# Every target does its own set-up. Needs make and Python >= 3.11, nothing else.
#   PYTHON=python3.12   the interpreter that makes .venv
#   STACK=cpu|cuda      the matched torch, torchrec and fbgemm set; by default what nvidia-smi says
#   ARGS="..."          more arguments for pytest (test, test-faults), dropdrift demo or dropdrift bench

PYTHON ?= python3
ifndef STACK
STACK := $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo cuda || echo cpu)
endif
ifeq ($(filter $(STACK),cpu cuda),)
$(error STACK is '$(STACK)', must be cpu or cuda)
endif

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Stamps of the three steps of the set-up: each is newer than what it was made from.
INSTALLED_STACK := .venv/.stack-$(STACK)
INSTALLED_PACKAGE := .venv/.package
INSTALLED_TOOLS := .venv/.tools

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-faults test-slurm check bench venv clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(INSTALLED_PACKAGE) ## train DCN-V2 and AsymDiffRec on built-in data and compare them
	$(BIN)/dropdrift demo $(ARGS)

test: check ## check, then run all tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-faults: $(INSTALLED_TOOLS) ## kill, stop, fill and damage trainings in every way that is tested
	$(BIN)/python -m pytest -m "" tests/faults $(ARGS)

test-slurm: $(INSTALLED_TOOLS) ## launch jobs on a real Slurm of two nodes; as root on Debian
	$(BIN)/python tests/slurm/run.py

check: $(INSTALLED_TOOLS) ## lint, formatting, types and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(INSTALLED_PACKAGE) ## run the benchmarks
	$(BIN)/dropdrift bench $(ARGS)

venv: $(INSTALLED_TOOLS) ## set .venv up for development

clean: ## remove .venv and everything built or cached; runs/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not there: apt-get install python3 python3-venv"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old, Dropdrift needs 3.11 or newer:" \
	    "apt-get install python3.11-venv, then make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments:" \
	    "apt-get install $$($(PYTHON) -c 'import sys; print("python3.%d" % sys.version_info[1])')-venv"; \
	  exit 2; }
	$(PYTHON) -m venv .venv

# fbgemm-gpu and fbgemm-gpu-cpu share one folder, so that neither may be installed over the other.
$(INSTALLED_STACK): requirements/$(STACK).txt requirements/torchrec.txt | $(BIN)/python
	@echo "Installing torch, torchrec and fbgemm for $(STACK) into .venv (a minute or two) ..."
	@rm -f .venv/.stack-*
	@$(PIP) uninstall --quiet --quiet --yes fbgemm-gpu fbgemm-gpu-cpu
	$(PIP) install -r requirements/$(STACK).txt
	$(PIP) install --no-deps -r requirements/torchrec.txt
	@touch $@

$(INSTALLED_PACKAGE): $(INSTALLED_STACK) pyproject.toml setup.py
	$(PIP) install -e .
	@touch $@

$(INSTALLED_TOOLS): $(INSTALLED_STACK) pyproject.toml setup.py
	$(PIP) install -e '.[dev]'
	@touch $(INSTALLED_PACKAGE) $@
