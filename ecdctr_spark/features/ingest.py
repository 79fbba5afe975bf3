"""Raw rows to canonical rows, each with a verdict. Nothing is dropped: rows read = kept + duplicates + quarantined.

A checked frame has its table's columns, `reason` (null for a kept row, "duplicate" for one whose key an earlier row
has, else why the row goes to quarantine) and `row`, the raw row as JSON, where it goes to quarantine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce
from itertools import chain
from operator import and_
from typing import Literal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, TimestampType

from ecdctr_spark.features.columns import day_of
from ecdctr_spark.tables.schemas import Table

DUPLICATE = "duplicate"
_CORRUPT = "_corrupt_record"  # where Spark's readers put a line that they cannot parse
_IMPRESSION = ("event_id", "event_time", "domain", "user_id", "item_id", "clicked", _CORRUPT)
_NO_TIME = "is not ISO 8601 or epoch milliseconds"
_ALWAYS = "1970-01-01 00:00:00"
_LATEST_MILLISECOND = 253_402_300_799_999  # the end of year 9999
_DIGITS = r"^\d{1,15}$"
_DAY = r"^(\d{4}-\d{2}-\d{2})$"
_TO_THE_MINUTE = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})(?!:)"
_LOCAL = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?$"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})? ?(Z|[+-]\d{2}(:?\d{2})?)$"


def checked_impressions(raw: DataFrame, timezone: str) -> DataFrame:
    """The columns of IMPRESSIONS, row and reason. Columns beyond the contract become `context`, nulls left out.

    event_time is a timestamp, ISO 8601 text (UTC unless it names a zone) or epoch milliseconds; ds is its date in
    `timezone`. `clicked`, where the raw frame has it, must be 0/1 or true/false in each row. Of rows with one
    event_id the earliest is kept, ties broken by a hash of the row.
    """
    read = raw.select(
        _text(raw, "event_id"),
        _time(raw, "event_time"),
        _text(raw, "domain"),
        _text(raw, "user_id"),
        _text(raw, "item_id"),
        _other_columns(raw, _IMPRESSION).alias("context"),
        _clicked(raw),
        day_of(_time(raw, "event_time"), timezone).alias("ds"),
        _whole(raw),
        _text(raw, _CORRUPT),
    )
    reason = _first_that_holds(
        (F.col(_CORRUPT).isNotNull(), "row is malformed"),
        (_missing("event_id"), "event_id is missing"),
        (F.col("event_time").isNull(), f"event_time {_NO_TIME}"),
        (~F.coalesce("domain", F.lit("")).isin("natural", "ad"), "domain is neither natural nor ad"),
        (_missing("user_id"), "user_id is missing"),
        (_missing("item_id"), "item_id is missing"),
        (F.lit("clicked" in raw.columns) & F.col("clicked").isNull(), "clicked is neither 0 nor 1"),
    )
    judged = read.withColumn("reason", reason).drop(_CORRUPT)
    return _without_duplicates(judged, ("event_id",), ("event_time",))


def checked_clicks(raw: DataFrame, impressions: DataFrame, timezone: str) -> DataFrame:
    """The columns of CLICKS, row and reason. `impressions` holds the event_id of the kept impressions.

    Of several clicks on one impression the earliest is kept. ds is the date of click_time in `timezone`.
    """
    read = raw.select(
        _text(raw, "event_id"),
        _time(raw, "click_time"),
        day_of(_time(raw, "click_time"), timezone).alias("ds"),
        _whole(raw),
        _text(raw, _CORRUPT),
    )
    # Only clicked impressions: where the clicks fit the memory, the impressions need no shuffle.
    asked = impressions.join(read.select("event_id"), "event_id", how="left_semi")
    known = asked.select("event_id").distinct().withColumn("shown", F.lit(True))
    reason = _first_that_holds(
        (F.col(_CORRUPT).isNotNull(), "row is malformed"),
        (_missing("event_id"), "event_id is missing"),
        (F.col("click_time").isNull(), f"click_time {_NO_TIME}"),
        (F.col("shown").isNull(), "click without an impression"),
    )
    judged = read.join(known, "event_id", how="left").withColumn("reason", reason).drop(_CORRUPT, "shown")
    return _without_duplicates(judged, ("event_id",), ("click_time",))


def checked_profiles(raw: DataFrame, key: Literal["user_id", "item_id"]) -> DataFrame:
    """The columns of USERS or ITEMS, row and reason. A row without valid_from applies from 1970.

    Columns beyond the key and valid_from become `attributes`, nulls left out.
    """
    known = (key, "valid_from", _CORRUPT)
    dated = "valid_from" in raw.columns
    given = _quoted("valid_from").isNotNull() if dated else F.lit(False)
    begin = _time(raw, "valid_from") if dated else F.lit(None).cast("timestamp")
    read = raw.select(
        _text(raw, key),
        F.when(given, begin).otherwise(F.lit(_ALWAYS).cast("timestamp")).alias("valid_from"),
        _other_columns(raw, known).alias("attributes"),
        _whole(raw),
        _text(raw, _CORRUPT),
    )
    reason = _first_that_holds(
        (F.col(_CORRUPT).isNotNull(), "row is malformed"),
        (_missing(key), f"{key} is missing"),
        (F.col("valid_from").isNull(), f"valid_from {_NO_TIME}"),
    )
    judged = read.withColumn("reason", reason).drop(_CORRUPT)
    return _without_duplicates(judged, (key, "valid_from"), ())


def kept(checked: DataFrame, table: Table) -> DataFrame:
    """The rows of a checked frame that go to the table, in its columns."""
    columns = checked.sparkSession.createDataFrame([], table.columns).columns
    return checked.where(F.col("reason").isNull()).select(*columns)


def quarantined(checked: DataFrame, source: str) -> DataFrame:
    """The bad rows of a checked frame as QUARANTINE rows of `source`; ds is null where no time could be read."""
    day = F.col("ds") if "ds" in checked.columns else F.lit(None).cast("date")
    bad = checked.where("row is not null")  # set before duplicates are found: Spark need not shuffle the good rows
    return bad.select(F.lit(source).alias("source"), "reason", "row", day.alias("ds"))


def _quoted(name: str) -> Column:
    """A raw column by its literal name: a dot in it is no path."""
    return F.col(f"`{name.replace('`', '``')}`")


def _text(raw: DataFrame, name: str) -> Column:
    value = _quoted(name) if name in raw.columns else F.lit(None)
    return value.cast("string").alias(name)


def _time(raw: DataFrame, name: str) -> Column:
    """A timestamp, null where none can be read. Text without a zone is in UTC; a date is its midnight."""
    kind, value = raw.schema[name].dataType, _quoted(name)
    if isinstance(kind, TimestampType):
        return value.alias(name)
    if isinstance(kind, NumericType):
        return _from_milliseconds(value).alias(name)
    text = F.regexp_replace(F.trim(value.cast("string")), _DAY, "$1T00:00:00")
    iso = F.regexp_replace(text, _TO_THE_MINUTE, "$1:00")
    return (
        F.when(text.rlike(_DIGITS), _from_milliseconds(text.cast("bigint")))
        .when(iso.rlike(_LOCAL), F.try_to_timestamp(F.concat(iso, F.lit("Z"))))
        .when(iso.rlike(_ZONED), F.try_to_timestamp(iso))
        .alias(name)
    )


def _from_milliseconds(number: Column) -> Column:
    """Null for a number out of range, NaN included: it would fail the conversion and the whole job."""
    return F.timestamp_millis(F.when(number.between(0, _LATEST_MILLISECOND), number).cast("bigint"))


def _clicked(raw: DataFrame) -> Column:
    text = F.lower(F.trim(_text(raw, "clicked")))
    yes, no = text.isin("1", "1.0", "true"), text.isin("0", "0.0", "false")
    return F.when(yes, 1).when(no, 0).cast("int").alias("clicked")


def _other_columns(raw: DataFrame, known: Collection[str]) -> Column:
    names = [name for name in raw.columns if name not in known]
    entries = chain.from_iterable((F.lit(name), _quoted(name).cast("string")) for name in names)
    values = F.create_map(*entries).cast("map<string,string>")
    whole = reduce(and_, (_quoted(name).isNotNull() for name in names), F.lit(True))
    return F.when(whole, values).otherwise(F.map_filter(values, lambda _, value: value.isNotNull()))  # slow


def _whole(raw: DataFrame) -> Column:
    return F.struct(*(_quoted(name) for name in raw.columns)).alias("raw")


def _missing(name: str) -> Column:
    return F.trim(F.coalesce(name, F.lit(""))) == ""


def _first_that_holds(*rules: tuple[Column, str]) -> Column:
    return F.coalesce(*(F.when(broken, F.lit(reason)) for broken, reason in rules))


def _without_duplicates(judged: DataFrame, key: Sequence[str], order: Sequence[str]) -> DataFrame:
    """Marks all but the first row of each key. Bad rows do not take part: each is partitioned by its own text."""
    # Only the text of bad rows is used later, so that of good rows is neither made nor shuffled.
    text = F.when(F.col("reason").isNotNull(), F.to_json("raw"))
    light = judged.select("*", _hash(judged).alias("hash"), text.alias("row")).drop("raw")
    among = Window.partitionBy(*key, "row").orderBy(*order, "hash")
    later = F.col("reason").isNull() & (F.row_number().over(among) > 1)
    return light.withColumn("reason", F.when(later, DUPLICATE).otherwise(F.col("reason"))).drop("hash")


def _hash(judged: DataFrame) -> Column:
    """A hash of the raw row, or of its text where it holds a map, which Spark does not hash."""
    whole = judged.schema["raw"].dataType
    return F.xxhash64(F.to_json("raw") if "map<" in whole.simpleString() else F.col("raw"))
