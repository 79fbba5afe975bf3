# `make demo` and `make test` set the machine up first, resume an interrupted set-up, and start within seconds once it is
# done.
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

.PHONY: help setup demo test test-whole test-device test-cluster test-dbr154 test-spark41 test-runtimes notebooks lint audit docs \
	bench-spark bench-run bench-train bench-network bench-device chaos mutants years clean
help: ## show these lines
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(STAMPS)/ready ## install the virtual environment, packages, Horovod and Delta's jars

demo: setup ## run the whole system on real ratings, up to an HTML report
	@$(BIN)/ecdctr demo

test: lint ## run all checks, and the tests but those of test-whole
	@# In the order of testpaths: the long end-to-end tests come first, so that both workers end about together.
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-whole: setup ## test the whole system: night by night, on a cluster, in notebooks and the like (half an hour)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/whole

test-device: setup ## test training on this machine's GPU
	@CUDA_VISIBLE_DEVICES=0 $(BIN)/python -m pytest tests/device tests/unit/training/test_resume.py tests/unit/training/test_levels.py

notebooks: setup ## run the notebooks and save their outputs (15 minutes)
	@$(BIN)/python -m tests.notebooks

test-cluster: setup ## test every job on a standalone Spark cluster of two workers, in a folder and on S3
	@$(BIN)/python -m pytest tests/whole/whole_cluster.py

# Other runtimes. The slice is what has differed between them, or may: options, settings, Delta, a source of each format, both
# readers, two ranks of torch.distributed, checkpoints, exports, MLflow. The rest depends on these alone.
DBR154 := .bench/dbr154
SPARK41 := .bench/spark41
TOOLS := duckdb pytest pytest-xdist hypothesis psutil scikit-learn
ALL := tests/unit tests/spark tests/ranks tests/end_to_end tests/whole
SLICE := tests/spark/tables tests/spark/serving tests/ranks/test_world.py tests/spark/sources/test_csv_files.py \
	tests/spark/sources/test_json_files.py tests/spark/sources/test_parquet_files.py tests/unit/serving tests/unit/settings \
	tests/unit/streaming tests/unit/tables tests/unit/tracking tests/unit/training/test_checkpoint.py tests/unit/test_cli.py \
	tests/unit/test_config.py tests/unit/test_doctor.py tests/unit/test_runtimes.py
TESTS ?= $(ALL)
INTO = $(BIN)/uv pip install --quiet --find-links .bench/wheels --python $(1)/bin/python
# Spark comes as 400 MB of source. Where an index forbids to cache that, uv fetches it for each resolution and builds it for
# each installation. pip keeps the wheel that it builds.
SPARK35 := 'pyspark>=3.5,<3.6'
WHEEL := $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .bench/wheels
# What a test imports is compiled once, also where Python is set to write no bytecode.
TEST_IN = PATH=$(abspath $(1))/bin:$$PATH PYSPARK_PYTHON=$(abspath $(1))/bin/python PYTHONDONTWRITEBYTECODE= \
	$(1)/bin/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

test-dbr154: $(DBR154)/ready ## install into Databricks 15.4 LTS ML's packages, list what was kept, and test there
	@$(DBR154)/bin/python tests/runtimes/packages.py check constraints/dbr154.txt $(DBR154)/before.txt
	@$(call TEST_IN,$(DBR154))

test-spark41: $(SPARK41)/ready ## test with Spark 4.1 and current packages, without Petastorm and Horovod
	@$(call TEST_IN,$(SPARK41))

test-runtimes: $(DBR154)/ready $(SPARK41)/ready ## test a slice in both, as CI does
	@$(MAKE) --no-print-directory MAKEFLAGS= TESTS='$(SLICE)' test-dbr154
	@$(MAKE) --no-print-directory MAKEFLAGS= TESTS='$(SLICE)' test-spark41

# A runtime's own packages, as far as ecdctr_spark and its tests need any; then Spark and Delta, which pip lacks there.
$(DBR154)/runtime: constraints/dbr154.txt pyproject.toml tests/runtimes/packages.py | $(STAMPS)/venv
	@echo "the packages of Databricks 15.4 LTS ML (a minute; 3 more where torch 2.3.1 is not cached)"
	@$(BIN)/uv venv --quiet --clear --no-python-downloads --python 3.11 $(DBR154) || \
		{ echo "BAD Python: Databricks 15.4 LTS ML has Python 3.11, and none is here; install python3.11" >&2; exit 2; }
	@$(WHEEL) $(SPARK35)
	@printf '%s\n' $(TOOLS) $(SPARK35) | $(BIN)/uv pip compile --quiet --no-header --no-annotate --find-links .bench/wheels \
		--python $(DBR154)/bin/python --extra petastorm --constraint constraints/dbr154.txt pyproject.toml - | \
		$(BIN)/python tests/runtimes/packages.py runtime constraints/dbr154.txt > $(DBR154)/packages.txt
	@$(call INTO,$(DBR154)) --requirement $(DBR154)/packages.txt --constraint constraints/dbr154.txt \
		pip setuptools wheel $(SPARK35) 'delta-spark>=3.3,<3.4' 'alembic<1.15' flask querystring-parser sqlalchemy $(TOOLS)
	@touch $@

$(DBR154)/ready: $(DBR154)/runtime setup.py
	@$(BIN)/uv pip freeze --quiet --python $(DBR154)/bin/python > $(DBR154)/before.txt
	@$(BIN)/uv build --quiet --wheel --clear --out-dir $(DBR154)/wheel .
	@$(call INTO,$(DBR154)) $(DBR154)/wheel/*.whl
	@$(DBR154)/bin/python -m ecdctr_spark.session > $(DBR154)/jars.log 2>&1 || { tail -n 5 $(DBR154)/jars.log >&2; exit 2; }
	@touch $@

$(SPARK41)/ready: constraints/spark41.txt pyproject.toml setup.py | $(STAMPS)/venv
	@echo "Spark 4.1 with current packages (half a minute)"
	@$(BIN)/uv venv --quiet --clear --no-python-downloads --python $(BIN)/python $(SPARK41)
	@$(BIN)/uv build --quiet --wheel --clear --out-dir $(SPARK41)/wheel .
	@$(WHEEL) --constraint constraints/spark41.txt pyspark
	@$(call INTO,$(SPARK41)) --constraint constraints/spark41.txt "$$(ls $(SPARK41)/wheel/*.whl)[local]" $(TOOLS)
	@$(SPARK41)/bin/python -m ecdctr_spark.session > $(SPARK41)/jars.log 2>&1 || { tail -n 5 $(SPARK41)/jars.log >&2; exit 2; }
	@touch $@

lint: setup ## run ruff, mypy and import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

audit: setup ## look the pinned packages up among known advisories, as far as the package index has any
	@$(BIN)/uv tool run --quiet pip-audit --no-deps --disable-pip --progress-spinner off --format json \
		--requirement $(CONSTRAINTS) 2>/dev/null | $(BIN)/python -m tests.advisories

docs: setup ## write the reference (docstrings, settings, tables, commands, pages) into .docs
	@$(BIN)/python -m ecdctr_spark.reference.build .docs
	@echo "open .docs/index.html"

BENCH_IMPRESSIONS ?= 80000
bench-spark: setup ## time raw logs to samples against their floor; BENCH_IMPRESSIONS per day for 60 days
	@$(BIN)/python -m tests.benchmarks.bench_spark $(BENCH_IMPRESSIONS)

bench-run: setup ## time the demo, one more day and the commands by stage; BEFORE=CHECKOUT for ratios to another version
	@$(BIN)/python -m tests.benchmarks.bench_run $(BEFORE)

bench-network: setup ## measure the worth of each part of the network on synthetic platforms
	@$(BIN)/python -m tests.benchmarks.bench_network

CHAOS_KILLS ?= 200
CHAOS_FLIPS ?= 500
chaos: setup ## kill runs at random moments, flip bits, fill disks; CHAOS_KILLS and CHAOS_FLIPS (3 hours)
	@$(BIN)/python -m tests.chaos $(CHAOS_KILLS) $(CHAOS_FLIPS)

YEARS_NIGHTS ?= 1000
years: setup ## run YEARS_NIGHTS nights one by one on a small platform: what grows (6 hours)
	@$(BIN)/python -m tests.years $(YEARS_NIGHTS)

# cosmic-ray's packages are not those of the project.
MUTANTS := .bench/mutants/venv
MUTANTS_DRAWN ?= 200
MUTANTS_SEED ?= 1
mutants: setup $(MUTANTS)/ready ## change one token at a time: the tests of its package must fail; MUTANTS_DRAWN (2 hours)
	@$(MUTANTS)/bin/python -m tests.mutants $(MUTANTS_DRAWN) $(MUTANTS_SEED)

$(MUTANTS)/ready: constraints/mutants.txt | $(STAMPS)/venv
	@$(PYTHON) -m venv $(MUTANTS)
	@$(BIN)/uv pip install --quiet --python $(MUTANTS)/bin/python -r constraints/mutants.txt
	@touch $@

bench-device: setup ## time the training step on this machine's GPU
	@$(BIN)/python -m tests.benchmarks.bench_device

PEERS := .bench/peers
bench-train: setup $(PEERS)/ready ## compare the training step with peers', streaming, ranks; BEFORE=CHECKOUT as bench-run
	@$(BIN)/python -m tests.benchmarks.bench_train $(BEFORE)

# TorchRec and FBGEMM's CPU build are installed without their dependencies, which would add the CUDA build.
$(PEERS)/ready: constraints/peers.txt constraints/peers-alone.txt | $(STAMPS)/venv
	@echo "the peers' environment (a minute)"
	@$(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python -r constraints/peers.txt
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --no-deps -r constraints/peers-alone.txt
	@touch $@

clean: ## remove everything that the set-up and the demo created
	rm -rf $(VENV) .ecdctr .bench .docs

$(STAMPS)/machine:
	@test -n "$(PYTHON)" || { echo "BAD Python: no version 3.10 to 3.12 on PATH; install one, or run make PYTHON=/path/to/python" >&2; exit 2; }
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
	@$(UV) --quiet --editable '.[local,petastorm,notebook,dev]' 'setuptools<82' wheel cmake packaging cloudpickle pyyaml psutil cffi || \
		{ echo "BAD packages: the installation failed, see the lines above; run make again, downloads are kept" >&2; exit 2; }
	@touch $@

# uv writes no bytecode, nor does Python where PYTHONDONTWRITEBYTECODE is set. Each process would then spend up to 20 s on
# compiling its imports. Some packages contain files for other versions of Python, which fail to compile.
$(STAMPS)/bytecode: $(STAMPS)/packages
	@$(COMPILE) || true
	@touch $@

# Delta's jars come before Horovod's long build, so that a network that blocks them is reported early.
$(STAMPS)/jars: | $(STAMPS)/packages
	@echo "set-up 3/4: Delta's jars (10 seconds)"
	@$(BIN)/python -m ecdctr_spark.session > $(STAMPS)/jars.log 2>&1 || { tail -n 5 $(STAMPS)/jars.log; \
		echo "BAD jars: Spark could not start with Delta (log: $(STAMPS)/jars.log); check the network to Maven Central" >&2; exit 2; }
	@touch $@

# uv may have cached a Horovod that was compiled against another torch: if it cannot be imported, it is built again.
$(STAMPS)/horovod: $(CONSTRAINTS) | $(STAMPS)/jars
	@echo "set-up 4/4: Horovod from its sdist (2 to 4 minutes when it is not cached), bytecode and Spark's classes (a minute)"
	@$(INSTALL_HOROVOD) --quiet && $(TRY_HOROVOD) || $(INSTALL_HOROVOD) --no-cache --reinstall-package horovod --no-deps && $(TRY_HOROVOD) || \
		{ echo "BAD Horovod: its build failed, see the lines above; a C++17 compiler and make are needed" >&2; exit 2; }
	@$(COMPILE)/horovod || true
	@touch $@

# Each later JVM starts in half the time. It would start without the archive too.
$(STAMPS)/classes: | $(STAMPS)/jars
	@$(BIN)/python -m ecdctr_spark.class_archive > $(STAMPS)/classes.log 2>&1 || \
		echo "no archive of Spark's classes (log: $(STAMPS)/classes.log): sessions will start more slowly"
	@touch $@

$(STAMPS)/ready: $(STAMPS)/packages $(STAMPS)/bytecode $(STAMPS)/horovod $(STAMPS)/classes
	@$(BIN)/ecdctr doctor > $(STAMPS)/doctor.log || { grep BAD $(STAMPS)/doctor.log; exit 2; }
	@touch $@
