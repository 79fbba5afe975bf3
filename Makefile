# One command does everything: `make demo` and `make test` set the machine up first, resume where a set-up broke off,
# and start within seconds once it is done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
CONSTRAINTS := constraints/constraints.txt
UV := $(BIN)/uv pip install --python $(BIN)/python --constraint $(CONSTRAINTS)
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& command -v $$python && break; done)
export PATH := $(abspath $(BIN)):$(PATH)
export PYSPARK_PYTHON := $(abspath $(BIN))/python
MAKEFLAGS += --jobs=2  # bytecode is compiled beside the jars and Horovod's build

HOROVOD := CMAKE_POLICY_VERSION_MINIMUM=3.5 CMAKE_TOOLCHAIN_FILE=$(CURDIR)/constraints/horovod-toolchain.cmake \
	HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 \
	HOROVOD_WITH_GLOO=1 MAKEFLAGS= CMAKE_BUILD_PARALLEL_LEVEL=2
INSTALL_HOROVOD := $(HOROVOD) $(UV) --no-build-isolation --no-binary horovod horovod
COMPILE := $(BIN)/python -m compileall -qq -j 2 $(VENV)/lib/python3*/site-packages
TRY_HOROVOD := $(BIN)/python -c 'import horovod.torch as hvd; assert hvd.gloo_built()' 2>/dev/null

.PHONY: help setup demo test test-device lint bench-spark bench-train bench-network bench-device clean
help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMPS)/ready ## virtual environment, packages, Horovod, Delta's jars

demo: setup ## the whole system on real ratings, to an HTML report
	@$(BIN)/ecdctr demo

test: lint ## every check and every test
	@# In the order of their folders: the long runs end to end come first, the two workers then end together.
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-device: setup ## the training on this machine's GPU
	@CUDA_VISIBLE_DEVICES=0 $(BIN)/python -m pytest tests/device tests/unit/training/test_resume.py tests/unit/training/test_levels.py

lint: setup ## ruff, mypy, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

BENCH_IMPRESSIONS ?= 80000
bench-spark: setup ## raw logs to samples against their floor; BENCH_IMPRESSIONS a day for 60 days
	@$(BIN)/python -m tests.benchmarks.bench_spark $(BENCH_IMPRESSIONS)

bench-network: setup ## what each part of the network is worth on synthetic worlds
	@$(BIN)/python -m tests.benchmarks.bench_network

bench-device: setup ## the training step on this machine's GPU
	@$(BIN)/python -m tests.benchmarks.bench_device

PEERS := .bench/peers
bench-train: setup $(PEERS)/ready ## the training step beside the peers', streaming, ranks, bytes, memory
	@$(BIN)/python -m tests.benchmarks.bench_train

# TorchRec and FBGEMM's CPU build go in without what they ask for: it would bring the CUDA build in beside it.
$(PEERS)/ready: constraints/peers.txt constraints/peers-alone.txt | $(STAMPS)/venv
	@echo "the peers' environment (a minute)"
	@$(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python -r constraints/peers.txt
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --no-deps -r constraints/peers-alone.txt
	@touch $@

clean: ## remove what the set-up and the demo made
	rm -rf $(VENV) .ecdctr .bench

$(STAMPS)/machine:
	@test -n "$(PYTHON)" || { echo "BAD Python: none of version 3.10 to 3.12 on PATH; install one, or make PYTHON=/where/it/is" >&2; exit 2; }
	@$(PYTHON) -I ecdctr_spark/doctor.py
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/venv: | $(STAMPS)/machine
	@echo "set-up 1/4: virtual environment"
	@$(PYTHON) -m venv $(VENV) || { echo "BAD Python: $(PYTHON) -m venv failed; install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) uv || \
		{ echo "BAD network: pip could not fetch uv from the package index; check the network or pip's settings" >&2; exit 2; }
	@touch $@

$(STAMPS)/packages: $(CONSTRAINTS) pyproject.toml setup.py | $(STAMPS)/venv
	@echo "set-up 2/4: packages (about a minute; torch alone is 5 GB)"
	@$(UV) --quiet --editable '.[local,notebook,dev]' 'setuptools<82' wheel cmake packaging cloudpickle pyyaml psutil cffi || \
		{ echo "BAD packages: see the lines above; what was fetched is kept, run make again" >&2; exit 2; }
	@touch $@

# uv writes no bytecode, nor does Python where PYTHONDONTWRITEBYTECODE is set: each process would then spend up to 20 s
# on compiling its imports. Some packages hold files for other versions of Python, which fail to compile.
$(STAMPS)/bytecode: $(STAMPS)/packages
	@$(COMPILE) || true
	@touch $@

# Delta's jars come before Horovod's long build: a network that hides them is then known early.
$(STAMPS)/jars: | $(STAMPS)/packages
	@echo "set-up 3/4: Delta's jars (10 seconds)"
	@$(BIN)/python -m ecdctr_spark.session > $(STAMPS)/jars.log 2>&1 || { tail -n 5 $(STAMPS)/jars.log; \
		echo "BAD jars: Spark could not start with Delta (log: $(STAMPS)/jars.log); check the network to Maven Central" >&2; exit 2; }
	@touch $@

# uv may hold a Horovod that was compiled against another torch: the import decides, and a fresh build follows.
$(STAMPS)/horovod: $(CONSTRAINTS) | $(STAMPS)/jars
	@echo "set-up 4/4: Horovod from its sdist (2 to 4 minutes when it is not cached), bytecode of every package (a minute)"
	@$(INSTALL_HOROVOD) --quiet && $(TRY_HOROVOD) || $(INSTALL_HOROVOD) --no-cache --reinstall-package horovod --no-deps && $(TRY_HOROVOD) || \
		{ echo "BAD Horovod: its build failed, see the lines above; a C++17 compiler and make are needed" >&2; exit 2; }
	@$(COMPILE)/horovod || true
	@touch $@

$(STAMPS)/ready: $(STAMPS)/packages $(STAMPS)/bytecode $(STAMPS)/horovod
	@$(BIN)/ecdctr doctor > $(STAMPS)/doctor.log || { grep BAD $(STAMPS)/doctor.log; exit 2; }
	@touch $@
