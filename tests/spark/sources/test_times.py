"""Times that `ecdctr init` reads one by one are those that ingest reads."""

from __future__ import annotations

import datetime as dt

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from ecdctr_spark.sources.times import read_time
from ecdctr_spark.sources.values import Clock, as_time

WRITTEN = (
    "1704448800", "1704448800.5", "1704448800123", "1704448800123456", "1704448800123456789", "20240105", "2024-01-05",
    "2024-01-05T10:20:30", "2024-01-05 10:20:30.250", "2024-01-05T10:20Z", "20240105T102030",
    "2024-01-05T10:20:30+05:30", "20240105102030", "2024-01-05 10:20:30 UTC", "2024-01-05T10:20:30,5-08", "2024010512",
    "202401051020", "1234", "1.7E9", "soon", "", "2024-02-30", "20240230", "2024-01-05T25:00:00", "05/01/2024",
    "2024-1-5", "99999999999", "0", "-1704448800",
)  # fmt: skip


def test_both_read_the_same(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(text,) for text in WRITTEN], "text string")
    read = rows.select("text", F.unix_micros(as_time(F.col("text"), StringType(), Clock())).alias("at")).collect()
    assert {row["text"]: row["at"] for row in read} == {text: micros(text) for text in WRITTEN}


def micros(text: str) -> int | None:
    time = read_time(text)
    return (
        None
        if time is None
        else (time.at - dt.datetime.fromtimestamp(0, dt.timezone.utc)) // dt.timedelta(microseconds=1)
    )
