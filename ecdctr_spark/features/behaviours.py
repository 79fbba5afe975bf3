"""A user's last natural clicks up to yesterday, packed for the samples."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.config import Behaviours
from ecdctr_spark.tables.schemas import PADDING

_BYTES = 4  # of an int32
_DIGITS = 2 * _BYTES  # hexadecimal


def with_behaviours(
    labelled: DataFrame, history: DataFrame, features: Sequence[Behaviours], today: DataFrame | None = None
) -> DataFrame:
    """The labelled rows with a binary column a feature: `length` big-endian int32, padded at the front, newest last.

    `history` holds labelled rows (columns.when_known) with their `index` (vocabulary.encoded). What counts are natural
    clicks known on the days ds - days .. ds - 1 and, where `today` is given (rows like those of history), on ds itself
    before event_time; in the order of click_time, then event_id. Each user's day is computed once, however many
    samples ask for it.
    """
    if not features:
        return labelled
    days = _asked(labelled, _user_days(history, features), features)
    same = (F.col("user_id") == F.col("_user")) & (F.col("ds") == F.col("_ds"))
    frame = labelled.join(days, same, how="left")  # (_user, _ds) is unique in days
    if today is not None:
        frame = _appended(frame, _so_far(labelled, today, features), features)
    return frame.select(*labelled.columns, *(feature.name for feature in features))


def _clicks(history: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """Natural clicks: _user, _ds, `at` (when they are known) and `click`, in whose order they are remembered."""
    rows = [_hexadecimal(F.col("index")[name]).alias(name) for name in dict.fromkeys(f.of for f in features)]
    return history.where((F.col("domain") == "natural") & (F.col("label") == 1)).select(
        F.col("user_id").alias("_user"),
        F.col("click_known_day").alias("_ds"),
        F.col("click_known_at").alias("at"),
        F.struct("click_time", "event_id", *rows).alias("click"),
    )


def _user_days(history: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """The newest clicks of each user and day: _user, _ds, and `clicks`, oldest first.

    No day can give more than the longest sequence takes, so a user of a thousand clicks a day costs no more.
    """
    longest = max(feature.length for feature in features)
    newest = Window.partitionBy("_user", "_ds").orderBy(F.desc("click.click_time"), F.desc("click.event_id"))
    placed = _clicks(history, features).drop("at").withColumn("place", F.row_number().over(newest))
    kept = placed.where(F.col("place") <= longest)
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


def _so_far(labelled: DataFrame, today: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """A row for each labelled row: event_id, and `so_far`, the newest clicks of its day known before it, as a text a
    feature; null where there is none."""
    longest = max(feature.length for feature in features)
    clicks = _clicks(today, features)
    newest = Window.partitionBy("_user", "_ds").orderBy("click.click_time", "click.event_id")
    lists = clicks.withColumn("clicks", F.collect_list("click").over(newest.rowsBetween(1 - longest, 0)))
    texts = F.struct("click.click_time", "click.event_id", *(_text(f, F.col("clicks")).alias(f.name) for f in features))
    asked = labelled.select(
        "event_id", F.col("user_id").alias("_user"), F.col("ds").alias("_ds"), F.col("event_time").alias("at")
    )
    told = lists.select("_user", "_ds", "at", texts.alias("texts")).unionByName(asked, allowMissingColumns=True)
    by_moment = Window.partitionBy("_user", "_ds").orderBy(F.unix_micros("at"))
    before = by_moment.rangeBetween(Window.unboundedPreceding, -1)
    so_far = told.select("event_id", F.max("texts").over(before).alias("so_far"))  # the newest click's
    return so_far.where("event_id is not null")


def _appended(frame: DataFrame, so_far: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """The packed columns of the frame with the clicks so far behind them, the oldest pushed out."""
    joined = frame.join(so_far, "event_id", how="left")  # event_id is unique in both
    longer = {
        feature.name: F.concat(feature.name, F.unhex(F.coalesce(F.col("so_far")[feature.name], F.lit(""))))
        for feature in features
    }
    newest = {
        feature.name: F.substring(longer[feature.name], -_BYTES * feature.length, _BYTES * feature.length)
        for feature in features
    }
    return joined.withColumns(newest)


def _packed(feature: Behaviours) -> Column:
    return F.unhex(F.lpad(_text(feature, F.col(feature.name)), _DIGITS * feature.length, _PAD))


def _text(feature: Behaviours, clicks: Column) -> Column:
    """The newest clicks of an array, in hexadecimal."""
    first = F.greatest(F.size(clicks) - feature.length + 1, F.lit(1))
    return F.array_join(F.slice(clicks[feature.of], first, F.lit(feature.length)), "")


def _hexadecimal(row: Column) -> Column:
    return F.lpad(F.hex(row), _DIGITS, "0")


_PAD = f"{PADDING:0{_DIGITS}x}"
