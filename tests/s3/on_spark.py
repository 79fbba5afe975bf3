"""What Spark does with a root on S3, in a process of its own: its JVM needs jars that the other tests do not load.

    python -m tests.s3.on_spark ROOT

writes a table under ROOT in each way that Store has, beside a small table that is there, and prints what it reads.
"""

from __future__ import annotations

import json
import sys

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.session import Session, spark_session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS, Table
from ecdctr_spark.tables.store import Store

COUNTS = Table(name="counts", columns="key string, n int, ds date", key=("key",), partitions=("ds",))


def main(root: Root) -> None:
    spark = spark_session("local[1]", "1g", root)
    store = Store(Session.of(spark), root)
    assert not store.exists(COUNTS)
    store.replace(COUNTS, rows(spark, ("a", 1, "2020-01-01"), ("b", 2, "2020-01-02")), "true")
    store.replace(COUNTS, rows(spark, ("B", 3, "2020-01-02")), "ds = '2020-01-02'")
    store.insert_new(COUNTS, rows(spark, ("a", 7, "2020-01-03"), ("c", 4, "2020-01-03")))
    found = {
        "counts": sorted((row.key, row.n) for row in store.read(COUNTS).collect()),
        "first": sorted(row.key for row in store.read(COUNTS, 1).collect()),
        "models": [row.model_id for row in store.read(MODELS).collect()],
    }
    sys.stdout.write(json.dumps(found))


def rows(spark: SparkSession, *values: tuple[str, int, str]) -> DataFrame:
    frame = spark.createDataFrame(list(values), "key string, n int, ds string")
    return frame.selectExpr("key", "n", "cast(ds as date) ds")


if __name__ == "__main__":
    main(Root.parse(sys.argv[1]))
