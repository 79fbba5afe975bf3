"""Spark sessions of tests: how they read tables of a few rows, and one that nothing may start."""

from __future__ import annotations

from pyspark.sql import SparkSession

from ecdctr_spark.session import Session

# Tables of a few rows are read in less time than code for them is generated. Most processes that tests start do
# generate it, as those of users.
TINY_TABLES = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
# For PYSPARK_SUBMIT_ARGS, of processes that read so themselves.
TINY_ARGUMENTS = " ".join([*(f"--conf {key}={value}" for key, value in TINY_TABLES.items()), "pyspark-shell"])


def _refused() -> SparkSession:
    raise AssertionError("Spark was started, where it is not needed")


UNUSED = Session(_refused)
