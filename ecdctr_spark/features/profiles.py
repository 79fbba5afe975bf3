"""The attributes of the user and of the item as of the impression."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import known_from


def with_profiles(labelled: DataFrame, users: DataFrame, items: DataFrame, availability_minutes: int) -> DataFrame:
    """The columns of LABELLED, with the attributes of the USERS and ITEMS rows that were known to apply at event_time.

    A profile row is known availability_minutes after valid_from, and applies to later events until the next row of its
    key is known. Where none applies, the map is null. Each impression stays one row: (key, valid_from) is unique, so
    the periods of a key do not overlap.
    """
    applied = _as_of(_as_of(labelled, users, "user", availability_minutes), items, "item", availability_minutes)
    return applied.select(
        "event_id", "event_time", "domain", "user_id", "item_id", "context", "user", "item", "label", "click_time", "ds"
    )


def _as_of(frame: DataFrame, profiles: DataFrame, entity: str, availability_minutes: int) -> DataFrame:
    key = f"{entity}_id"
    begin = known_from("valid_from", availability_minutes)
    next_one = F.lead(begin).over(Window.partitionBy(key).orderBy("valid_from"))
    valid = profiles.select(
        F.col(key).alias("_key"),
        F.col("attributes").alias(entity),
        begin.alias("_from"),
        next_one.alias("_until"),
    )
    applies = (
        (F.col(key) == F.col("_key"))
        & (F.col("event_time") > F.col("_from"))
        & (F.col("_until").isNull() | (F.col("event_time") <= F.col("_until")))
    )
    return frame.join(valid, applies, how="left").drop("_key", "_from", "_until")
