"""One Spark session for all tests, started by the first that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.session import spark_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session with Delta."""
    session = spark_session("local[2]", "2g")
    session.conf.set("spark.sql.shuffle.partitions", "2")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def config() -> Config:
    """conf/base.yaml as it stands."""
    return load_config()
