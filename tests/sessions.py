"""A Spark session that nothing may start."""

from __future__ import annotations

from pyspark.sql import SparkSession

from ecdctr_spark.session import Session


def _refused() -> SparkSession:
    raise AssertionError("Spark was started, where it is not needed")


UNUSED = Session(_refused)
