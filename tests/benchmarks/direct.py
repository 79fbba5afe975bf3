"""The features of conf/synthetic.yaml as one would write them directly in PySpark: one job from raw logs to samples.

Nothing is kept from one day to the next: a day is computed from the logs of all days that its features look back on. A
token has a row of the embedding from the start, so there is no point in time for the vocabulary.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ecdctr_spark.settings.features import Behaviours, Count, Features, Rate
from tests.benchmarks.duck import LONGEST, column_of, entities

_VALID = "event_time is not null and domain in ('natural', 'ad') and user_id is not null"


def build(spark: SparkSession, raw: Path, output: Path, features: Features, first: dt.date, last: dt.date) -> None:
    """Writes the samples of the days first..last as duck.build does."""
    labelled = _labelled(spark, raw, first - dt.timedelta(days=LONGEST), last).cache()
    made = labelled.where((F.col("day") >= first) & (F.col("day") <= last))
    made = made.where("domain = 'ad' or click_day is not null or xxhash64(event_id) % 2 = 0")
    for entity in entities(features):
        counters = [feature for feature in features.counters if feature.entity == entity]
        key = column_of(entity)
        made = made.join(_counted(labelled, key, counters), [key, "day"], how="left")
    for feature in features.behaviours:
        made = made.join(_recent(labelled, feature), ["user_id", "day"], how="left")
    for one in features.ids:
        source = column_of(one.source)
        rows = labelled.select(source).where(f"{source} is not null").distinct()
        numbered = rows.withColumn(f"{one.name}_row", F.row_number().over(Window.orderBy(source)))
        made = made.join(numbered, source, how="left")
    ids = [F.col(f"{one.name}_row").alias(one.name) for one in features.ids]
    others = [one.name for one in (*features.counters, *features.behaviours)]
    samples = made.select("event_id", "event_time", *ids, *others, F.col("label").cast("float"), "domain", "day")
    samples.repartition("domain", "day").write.partitionBy("domain", "day").parquet(str(output))
    labelled.unpersist()


def _labelled(spark: SparkSession, raw: Path, first: dt.date, last: dt.date) -> DataFrame:
    """Good impressions, each event once, with the first click within a day, and the profiles that applied then."""
    shown = spark.read.parquet(str(raw / "impressions")).where(_VALID).withColumn("day", F.to_date("event_time"))
    shown = shown.where((F.col("day") >= first) & (F.col("day") <= last)).dropDuplicates(["event_id"])
    clicks = spark.read.parquet(str(raw / "clicks")).where(F.to_date("click_time") <= last)
    clicks = clicks.groupBy("event_id").agg(F.min("click_time").alias("click_time"))
    in_time = F.col("click_time").between(F.col("event_time"), F.col("event_time") + F.expr("interval 24 hours"))
    labelled = shown.join(clicks, "event_id", how="left").withColumn("click_time", F.when(in_time, F.col("click_time")))
    labelled = labelled.withColumn("click_day", F.to_date("click_time"))
    labelled = labelled.withColumn("label", F.col("click_time").isNotNull().cast("int"))
    for name in ("user", "item"):
        labelled = _with_profile(labelled, spark.read.parquet(str(raw / f"{name}s")), f"{name}_id")
    return labelled


def _with_profile(labelled: DataFrame, profiles: DataFrame, key: str) -> DataFrame:
    until = F.lead("valid_from").over(Window.partitionBy(key).orderBy("valid_from"))
    spans = profiles.withColumn("valid_until", until)
    applies = (F.col("event_time") >= F.col("valid_from")) & (
        F.col("valid_until").isNull() | (F.col("event_time") < F.col("valid_until"))
    )
    renamed = spans.withColumnRenamed(key, "_key")
    joined = labelled.join(renamed, (F.col(key) == F.col("_key")) & applies, how="left")
    return joined.drop("_key", "valid_from", "valid_until")


def _counted(labelled: DataFrame, key: str, features: Sequence[Count | Rate]) -> DataFrame:
    """The features of each key and day: sums over the days before it."""
    shown = labelled.groupBy(key, "day", "domain").agg(F.count("*").alias("impressions"), F.lit(0).alias("clicks"))
    clicked = labelled.where("label = 1").groupBy(key, F.col("click_day").alias("day"), "domain")
    events = shown.unionByName(clicked.agg(F.lit(0).alias("impressions"), F.count("*").alias("clicks")))
    totals = events.groupBy(key, "day").agg(
        *(
            F.sum(F.when(F.col("domain") == domain, F.col(measure)).otherwise(0)).alias(f"{domain}_{measure}")
            for domain in ("natural", "ad")
            for measure in ("impressions", "clicks")
        )
    )
    by_day = Window.partitionBy(key).orderBy(F.unix_date("day"))

    def amount(feature: Count | Rate, measure: str) -> Column:
        before = by_day.rangeBetween(-feature.days, -1)
        return F.coalesce(F.sum(f"{feature.domain}_{measure}").over(before), F.lit(0))

    made = []
    for feature in features:
        if isinstance(feature, Rate):
            clicks = amount(feature, "clicks") + feature.prior * feature.strength
            value = (clicks / (amount(feature, "impressions") + feature.strength)).cast("float")
        else:
            value = F.least(F.length(F.bin(amount(feature, feature.measure) + 1)), F.lit(feature.buckets)) - 1
        made.append(value.alias(feature.name))
    return totals.select(key, "day", *made)


def _recent(labelled: DataFrame, feature: Behaviours) -> DataFrame:
    """The last natural clicks of each user before each day on which an impression was shown."""
    clicked = labelled.where("domain = 'natural' and label = 1")
    click = F.struct("click_time", "event_id", F.col(column_of(feature.of)).alias("token"))
    by_day = clicked.groupBy("user_id", F.col("click_day").alias("day"))
    days = by_day.agg(F.sort_array(F.collect_list(click)).alias("of"))
    both = labelled.select("user_id", "day").distinct().join(days, ["user_id", "day"], how="full")
    before = Window.partitionBy("user_id").orderBy(F.unix_date("day")).rangeBetween(-feature.days, -1)
    tokens = F.flatten(F.collect_list("of").over(before))["token"]
    newest = F.slice(tokens, F.greatest(F.size(tokens) - feature.length + 1, F.lit(1)), F.lit(feature.length))
    return both.select("user_id", "day", newest.alias(feature.name))
