"""Who the user was and what the item was when the impression was shown."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def with_profiles(labelled: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """LABELLED's columns: attributes of the USERS and ITEMS rows that applied at event_time.

    A profile row applies from valid_from, inclusive, until the next of its key. Where none applies the map is null.
    Each impression stays one row: (key, valid_from) is unique, so validities of a key do not overlap.
    """
    return _as_of(_as_of(labelled, users, "user"), items, "item").select(
        "event_id", "event_time", "domain", "user_id", "item_id", "context", "user", "item", "label", "click_time", "ds"
    )


def _as_of(frame: DataFrame, profiles: DataFrame, entity: str) -> DataFrame:
    key = f"{entity}_id"
    next_one = F.lead("valid_from").over(Window.partitionBy(key).orderBy("valid_from"))
    valid = profiles.select(
        F.col(key).alias("_key"),
        F.col("attributes").alias(entity),
        F.col("valid_from").alias("_from"),
        next_one.alias("_until"),
    )
    applies = (
        (F.col(key) == F.col("_key"))
        & (F.col("event_time") >= F.col("_from"))
        & (F.col("_until").isNull() | (F.col("event_time") < F.col("_until")))
    )
    return frame.join(valid, applies, how="left").drop("_key", "_from", "_until")
