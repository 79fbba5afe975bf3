"""One Spark session for all tests, started by the first that asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.session import spark_session
from tests.configured import FIRST_DAY

settings.register_profile("busy", deadline=None)  # of a machine that is busy, a test is not timed
settings.load_profile("busy")

# Expected values were computed on a CPU; `make test-device` tests a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# A JVM of a minute or two spends more on compiling well than it gains; the processes that tests start inherit this.
# Without optimised code the JVM reserves 48 MB for all of it: Spark fills that, and is interpreted from then on.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC")
# Tables of a few rows are read in less time than code for them is generated. Processes that tests start do generate it.
TINY_TABLES = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


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
