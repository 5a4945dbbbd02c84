# Two commands: `make demo` sets everything up and runs a company's day; `make test` sets up and passes the tests.
# Profile cpu (default without a GPU) or gpu; override with `make demo PROFILE=gpu`.

PYTHON ?= python3.11
PROFILE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && [ -f locks/gpu.txt ] && echo gpu || echo cpu)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(PROFILE)
export PYTHONDONTWRITEBYTECODE ?=

.PHONY: demo test check format clean setup benchmarks kill-test promotion help

help:
	@echo "make demo        set up, then replay a company's day through the real stack (args: ARGS='--json out.json')"
	@echo "make test        set up, then run the test suite"
	@echo "make check       lint and types"
	@echo "make benchmarks  print the figures of docs/benchmarks.md"
	@echo "make kill-test   200 seeded kills of worker, gateway and database, 5 of the engine"
	@echo "make promotion   from an export to a promoted, live model in a running stack, and back (args: ARGS='--tickets FILE')"
	@echo "make clean       remove what was set up and what runs left (.venv, .cloister, caches)"

setup: $(STAMP)

$(STAMP): locks/$(PROFILE).txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: install it (Debian: apt-get install python3.11 python3.11-venv), or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, for which the locked packages are made: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing (Debian: apt-get install python3.11-venv)"; exit 1; }
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "The locks are for Linux on x86-64; this is $$(uname -sm)"; exit 1; }
	@[ "$$(df -Pm . | awk 'NR==2 {print $$4}')" -gt 7000 ] || { echo "Less than 7 GB of disk are free here; the packages need about 5"; exit 1; }
	@echo "Setting up $(VENV) with the locked packages of profile $(PROFILE) (about 2 minutes, 5 GB) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r locks/$(PROFILE).txt \
	  || { echo "Installing failed. If it is torch that was not found: its CPU build lies in PyTorch's own CPU index; name that index in PIP_EXTRA_INDEX_URL, or a folder with the wheel in PIP_FIND_LINKS, and run make again."; exit 1; }
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $(STAMP)
	@echo "Set up."

demo: $(STAMP)
	@$(BIN)/cloister demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check models orchestrator serving training tests locks
	$(BIN)/ruff format --check models orchestrator serving training tests locks
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix models orchestrator serving training tests locks
	$(BIN)/ruff format models orchestrator serving training tests locks

benchmarks: $(STAMP)
	$(BIN)/python -m tests.benchmarks.run_all

kill-test: $(STAMP)
	$(BIN)/python -m tests.acceptance.kill_test --kills 200 --engine-kills 5

promotion: $(STAMP)
	$(BIN)/python -m tests.acceptance.promotion_run $(ARGS)

clean:
	@[ ! -x $(BIN)/cloister ] || $(BIN)/cloister down >/dev/null 2>&1 || true
	rm -rf $(VENV) .cloister .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
