"""Opens the tables of a configuration: where commands, jobs and notebooks begin."""

from __future__ import annotations

from pyspark.sql import SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.session import Session, spark_session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.catalog import check_schema
from ecdctr_spark.tables.store import Store


def open_store(config: Config) -> Store:
    """The tables of the configured logs and data set under storage.root, which is made ready. Spark starts when it is
    first needed.

    Raises ConfigError where the root cannot be used; then, once Spark runs, where storage.catalog is no schema there.
    """
    root = Root.parse(config.storage.root)
    root.prepare()

    def start() -> SparkSession:
        spark = spark_session(config.spark.master, config.spark.driver_memory, root)
        if config.storage.catalog:
            check_schema(spark, config.storage.catalog)
        return spark

    return Store(Session(start), root, config.logs_id, config.data_set_id)
