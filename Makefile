# Everything runs in .venv, from pinned locks; nothing else on the machine is touched (but PostgreSQL's user, as root).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 1
ROUNDS ?= 100
REQUESTS ?= 1000000
WORKERS ?= 2

.PHONY: help install compile install-dev up down test lint audit bench soak clean

help:
	@echo "make install   set up .venv: afterwards $(BIN)/skerry works"
	@echo "make compile   the gateway's hot path as machine code (part of install; back: scripts/compile.py --clean)"
	@echo "make up        install, start a cloud on this machine, ask it a first question (flags: ARGS=\"--port 8081\")"
	@echo "make down      stop it"
	@echo "make test      install and run the whole suite (WORKERS=$(WORKERS))"
	@echo "make lint      ruff, mypy, import-linter"
	@echo "make bench     the figures, beside their peers where these are there"
	@echo "make soak      kill and fuzz rounds, and memory over many requests (ROUNDS=$(ROUNDS) SEED=$(SEED) REQUESTS=$(REQUESTS))"

install: $(VENV)/.installed $(VENV)/.installed-train compile

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# torch, of whatever build the index of this machine has; the lock pins what that build asks for.
$(VENV)/.installed-train: $(VENV)/.installed requirements-train.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --constraint requirements-train.lock torch
	touch $@

# The gateway's hot path as machine code, anew when one of its sources has changed; plain Python where that cannot be.
# Bytecode of the rest beforehand, and the calendar's kernels: a cloud's processes run as users who may not write them,
# and each would compile anew.
compile: $(VENV)/.installed
	$(BIN)/python scripts/compile.py
	$(BIN)/python -m compileall -q src
	$(BIN)/python -m skerry.capacity.calendar.warming
	$(BIN)/python -m skerry.capacity.placement.warming

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed-train requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	touch $@

up: install
	$(BIN)/skerry up --detach $(ARGS)
	@echo
	@echo '> Say hello to the person who has just started you.'
	@$(BIN)/skerry chat --max-tokens 40 "Say hello to the person who has just started you."
	@$(BIN)/python -m skerry.server where

down:
	$(BIN)/skerry down

# In WORKERS processes; plain `pytest` does the same one test after the other (tests/conftest.py says what goes where).
# Slurm's tests need its Debian packages: the script installs them as root; elsewhere they are skipped, but not in CI.
test: install-dev compile
	scripts/slurm-packages.sh
	scripts/instance-packages.sh
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: install-dev
	scripts/audit.sh $(BIN)/pip-audit

bench: install-dev compile
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/intake.py
	$(BIN)/python benchmarks/gateway.py
	$(BIN)/python benchmarks/calendar.py
	$(BIN)/python benchmarks/placement.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/launch.py

soak: install-dev compile
	SKERRY_ROUNDS=$(ROUNDS) SKERRY_SEED=$(SEED) SKERRY_SOAK_REQUESTS=$(REQUESTS) $(BIN)/python -m pytest tests/soak tests/kill tests/training/supervisor tests/gateway tests/journal tests/launcher tests/capacity tests/compute/test_compute_controller.py -m "soak or not soak" -s

clean:
	-$(BIN)/python scripts/compile.py --clean
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
