"""Where a feature finds its value in a labelled row, and from which moment the row is known."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.settings.features import ATTRIBUTES, Features

_SECONDS_A_DAY = 24 * 60 * 60


def narrowed(labelled: DataFrame, features: Features) -> DataFrame:
    """The labelled rows, each map of attributes replaced by a struct of those that the features read.

    source_column works on both. Attributes that no feature reads are not carried through shuffles.
    """
    columns = [column for column in labelled.columns if column not in ATTRIBUTES]
    structs = []
    for holder in ATTRIBUTES:
        named = [source.partition(".")[2] for source in features.sources if source.startswith(f"{holder}.")]
        if named:
            structs.append(F.struct(*(source_column(f"{holder}.{name}").alias(name) for name in named)).alias(holder))
    return labelled.select(*columns, *structs)


def source_column(source: str) -> Column:
    """The string column that `source` or `entity` of a feature names: a column of the impression or an attribute.

    `user_id`, `item_id` and `domain` are columns; `context.X`, `user.X` and `item.X` are attributes, null where the row
    has none. The configuration refuses anything else.
    """
    return F.expr(_sql(source))


def number_column(source: str) -> Column:
    """The column of `source` as a double; null where the text is no number."""
    return F.expr(f"try_cast({_sql(source)} as double)")


def is_number(source: str) -> Column:
    """Whether `source` is a finite number or minus infinity; false for null and NaN."""
    return F.coalesce(number_column(source) < float("inf"), F.lit(False))


def known_from(time: str, availability_minutes: int) -> Column:
    """The moment from which the pipeline knows what happened at `time`."""
    return F.col(time) + F.make_dt_interval(mins=F.lit(availability_minutes)) if availability_minutes else F.col(time)


def when_known(labelled: DataFrame, timezone: str, availability_minutes: int) -> DataFrame:
    """The labelled rows with the moment from which each impression is known and its day in `timezone` (known_at,
    known_day), and those of its click (click_known_at, click_known_day; null without a click)."""
    moments = labelled.select(
        "*",
        known_from("event_time", availability_minutes).alias("known_at"),
        known_from("click_time", availability_minutes).alias("click_known_at"),
    )
    return moments.select(
        "*",
        day_of("known_at", timezone).alias("known_day"),
        day_of("click_known_at", timezone).alias("click_known_day"),
    )


def day_of(time: str | Column, timezone: str) -> Column:
    """The date in `timezone` of the timestamp column `time` (the session's own time zone is UTC)."""
    # By arithmetic where possible: from_utc_timestamp and to_date call Java's calendar for each row.
    local = time if timezone == "UTC" else F.from_utc_timestamp(time, timezone)
    return F.date_from_unix_date(F.floor(F.unix_seconds(local) / _SECONDS_A_DAY).cast("int"))


def _sql(source: str) -> str:
    holder, _, attribute = source.partition(".")
    return f"{holder}.`{attribute.replace('`', '``')}`" if attribute else source
