"""A moment belongs to the day on which it falls in the calendar's time zone."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import day_of

MIDNIGHTS = ("1969-12-31", "1970-01-01", "2024-02-29", "2024-03-31", "9999-12-31")


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Shanghai", "America/Los_Angeles", "Asia/Kolkata"])
def test_a_day_is_spark_s_own_date_around_each_midnight(spark: SparkSession, timezone: str) -> None:
    hours = spark.range(-30, 31).select(F.make_dt_interval(hours=F.col("id").cast("int")).alias("hours"))
    around = spark.createDataFrame([(day,) for day in MIDNIGHTS], "day string").crossJoin(hours)
    second = F.expr("interval 1 second")
    on_the_hour = F.col("day").cast("timestamp") + F.col("hours")
    moments = around.select(F.explode(F.array(on_the_hour - second, on_the_hour)).alias("at")).where("year(at) < 10000")
    spark_s = F.to_date(F.from_utc_timestamp("at", timezone))
    assert moments.where(~day_of("at", timezone).eqNullSafe(spark_s)).count() == 0
    assert moments.select(day_of("at", timezone).alias("ds")).where("ds is null").count() == 0
    assert moments.select(day_of("at", timezone).alias("ds")).distinct().count() >= 3 * len(MIDNIGHTS) - 3
