"""One Spark session for all tests, started by the first that asks for it, and the same random numbers in each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.session import spark_session
from tests.configured import FIRST_DAY
from tests.sessions import TINY_TABLES

settings.register_profile("busy", deadline=None)  # of a machine that is busy, a test is not timed
settings.load_profile("busy")

# Expected values were computed on a CPU; `make test-device` tests a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# A JVM of a minute or two spends more on compiling well than it gains; the processes that tests start inherit this.
# Without optimised code the JVM reserves 48 MB for all of it: Spark fills that, and is interpreted from then on.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC")


def missing(module: str) -> bool:
    """Whether a module is not installed, or not even the package that holds it."""
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


# What other runtimes lack (make test-dbr154, make test-spark41), and the files that import or start it.
_FILES = {
    "databricks.bundles": "unit/test_bundle.py",
    "moto": "s3/*",
    "setuptools_scm": "unit/test_wheel.py",
}
collect_ignore_glob = [files for module, files in _FILES.items() if missing(module)]
_WORLDS_AND_READERS = {"horovod", "petastorm"}


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skips a test that is marked `needs`, or has a world or reader as parameter, where that is not installed."""
    for item in items:
        needed = {package for mark in item.iter_markers("needs") for package in mark.args}
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            needed |= {value for value in item.callspec.params.values() if isinstance(value, str)} & _WORLDS_AND_READERS
        for package in sorted(needed):
            if missing(package):
                item.add_marker(pytest.mark.skip(reason=f"{package} is not installed"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random tensors depend on no other test: which ones ran before in a worker differs from run to run."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session with Delta."""
    session = spark_session("local[2]", "2g")
    for key, value in TINY_TABLES.items():
        session.conf.set(key, value)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def config() -> Config:
    """conf/base.yaml as it stands, from some first day on."""
    return load_config([], [FIRST_DAY])
