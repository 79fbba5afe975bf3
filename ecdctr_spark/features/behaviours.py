"""A user's last natural clicks up to yesterday, packed for the samples."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.config import Behaviours
from ecdctr_spark.features.columns import day_of
from ecdctr_spark.tables.schemas import PADDING

_DIGITS = 8  # hexadecimal digits of an int32


def with_behaviours(
    labelled: DataFrame, history: DataFrame, features: Sequence[Behaviours], timezone: str
) -> DataFrame:
    """The labelled rows with a binary column a feature: `length` big-endian int32, padded at the front, newest last.

    `history` holds labelled rows with their `index` (vocabulary.encoded). What counts are natural clicks of the days
    ds - days .. ds - 1 in `timezone`, in the order of click_time, then event_id. Each user's day is computed once,
    however many samples ask for it.
    """
    if not features:
        return labelled
    days = _asked(labelled, _user_days(history, features, timezone), features)
    same = (F.col("user_id") == F.col("_user")) & (F.col("ds") == F.col("_ds"))
    frame = labelled.join(days, same, how="left")  # (_user, _ds) is unique in days
    return frame.select(*labelled.columns, *(feature.name for feature in features))


def _user_days(history: DataFrame, features: Sequence[Behaviours], timezone: str) -> DataFrame:
    """The newest clicks of each user and day: _user, _ds, and `clicks`, oldest first.

    No day can give more than the longest sequence takes, so a user of a thousand clicks a day costs no more.
    """
    longest = max(feature.length for feature in features)
    rows = [_hexadecimal(F.col("index")[name]).alias(name) for name in dict.fromkeys(f.of for f in features)]
    clicks = history.where((F.col("domain") == "natural") & (F.col("label") == 1)).select(
        F.col("user_id").alias("_user"),
        day_of("click_time", timezone).alias("_ds"),
        F.struct("click_time", "event_id", *rows).alias("click"),
    )
    newest = Window.partitionBy("_user", "_ds").orderBy(F.desc("click.click_time"), F.desc("click.event_id"))
    kept = clicks.withColumn("place", F.row_number().over(newest)).where(F.col("place") <= longest)
    return kept.groupBy("_user", "_ds").agg(F.sort_array(F.collect_list("click")).alias("clicks"))


def _asked(labelled: DataFrame, user_days: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """A row for each (user, ds) that the labelled rows ask for: _user, _ds and a packed column a feature."""
    asked = labelled.select(F.col("user_id").alias("_user"), F.col("ds").alias("_ds"), F.lit(True).alias("asked"))
    both = user_days.unionByName(asked.distinct(), allowMissingColumns=True)
    by_day = Window.partitionBy("_user").orderBy(F.unix_date("_ds"))
    lists = [
        F.flatten(F.collect_list("clicks").over(by_day.rangeBetween(-feature.days, -1))).alias(feature.name)
        for feature in features
    ]
    past = both.select("_user", "_ds", "asked", *lists).where("asked")
    return past.select("_user", "_ds", *(_packed(feature).alias(feature.name) for feature in features))


def _packed(feature: Behaviours) -> Column:
    clicks = F.col(feature.name)
    first = F.greatest(F.size(clicks) - feature.length + 1, F.lit(1))
    text = F.array_join(F.slice(clicks[feature.of], first, F.lit(feature.length)), "")
    return F.unhex(F.lpad(text, _DIGITS * feature.length, _PAD))


def _hexadecimal(row: Column) -> Column:
    return F.lpad(F.hex(row), _DIGITS, "0")


_PAD = f"{PADDING:0{_DIGITS}x}"
