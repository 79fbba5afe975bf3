"""The only builder of a SparkSession: a laptop's, a cluster's under spark-submit, or the one Databricks has."""

from __future__ import annotations

import os

from pyspark.sql import SparkSession

DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
}

# Each Delta snapshot is read by 50 tasks and each shuffle makes 200 unless told: far too many for one machine.
LOCAL_SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.log.level": "ERROR",
}


def spark_session(master: str = "local[2]", driver_memory: str = "4g") -> SparkSession:
    """The session of this process: the running one where there is one, else a new one fit for where it runs.

    On Databricks the session exists; under spark-submit the submit command decides on master, memory and packages,
    and only Delta's settings are added; otherwise a local session with Delta's jars is built.
    """
    builder = SparkSession.builder.appName("ecdctr_spark")
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return builder.getOrCreate()
    for key, value in DELTA_SETTINGS.items():
        builder = builder.config(key, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, which has started the JVM
        return builder.getOrCreate()
    for key, value in LOCAL_SETTINGS.items():
        builder = builder.config(key, value)
    builder = builder.master(master).config("spark.driver.memory", driver_memory)
    from delta import configure_spark_with_delta_pip  # a cluster has Delta's jars, not necessarily this package

    return configure_spark_with_delta_pip(builder).getOrCreate()


if __name__ == "__main__":
    spark_session().stop()  # the set-up runs this once to fetch Delta's jars
