"""Raw rows to canonical rows. Nothing is dropped: good rows = kept + duplicates, and bad rows go to quarantine.

A judged frame has its table's columns, `ds`, `reason` (null for a good row, else why it is bad) and `raw`, the raw row.
`chosen` then keeps one row of each key. Rows are judged before one is chosen: a copy of an event with a broken clock
must not displace the good one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import and_
from types import MappingProxyType
from typing import cast

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from ecdctr_spark.features.columns import day_of
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Features
from ecdctr_spark.sources.raw import CORRUPT, Raw
from ecdctr_spark.sources.values import FIRST_YEAR, LAST_YEAR, Clock, as_id, as_text, as_time, identifies, is_missing
from ecdctr_spark.tables.schemas import Table

_IMPRESSION = ("event_id", "event_time", "domain", "user_id", "item_id", "clicked", CORRUPT)
_USER, _ITEM = ("user_id", "valid_from", CORRUPT), ("item_id", "valid_from", CORRUPT)
_ALWAYS = "1970-01-01 00:00:00"

Rule = tuple[Column, str]  # what a bad row satisfies, and its reason
Span = tuple[dt.date, dt.date]  # a first and a last day


def judged_impressions(raw: DataFrame, clock: Clock, timezone: str, asked: Span | None = None) -> DataFrame:
    """The columns of IMPRESSIONS, judged. Columns beyond the contract become `context`, nulls left out.

    Times are read by `clock` (sources/values.py); ds is the date of event_time in `timezone`. `clicked`, where the raw
    frame has it, must be 0/1 or true/false in each row. Of rows of days other than those `asked` for, by default none,
    only the time is read: they are bad. Raises ConfigError for identifiers of a type that has none.
    """
    dated = _dated(raw, "event_time", clock, timezone)
    read = _read(
        dated,
        asked,
        event_id=_id(raw, "event_id"),
        domain=_text(raw, "domain"),
        user_id=_id(raw, "user_id"),
        item_id=_id(raw, "item_id"),
        clicked=_clicked(raw),
    )
    context = _other_columns(raw, _IMPRESSION).alias("context")
    return read.select(
        *_parsed("event_id", "event_time", "domain", "user_id", "item_id"),
        context,
        *_parsed("clicked", "ds"),
        _reason(
            *_not_asked(asked),
            *_malformed(raw),
            *_no_id(raw, "event_id"),
            *_no_time("event_time"),
            (~F.coalesce(_of("domain"), F.lit("")).isin("natural", "ad"), "domain is neither natural nor ad"),
            *_no_id(raw, "user_id"),
            *_no_id(raw, "item_id"),
            (F.lit("clicked" in raw.columns) & _of("clicked").isNull(), "clicked is neither 0 nor 1"),
        ),
        _whole(raw),
    )


def judged_clicks(raw: DataFrame, clock: Clock, timezone: str, asked: Span | None = None) -> DataFrame:
    """The columns of CLICKS, judged by themselves. ds is the date of click_time in `timezone`; see
    `judged_impressions`."""
    dated = _dated(raw, "click_time", clock, timezone)
    read = _read(dated, asked, event_id=_id(raw, "event_id"))
    return read.select(
        *_parsed("event_id", "click_time", "ds"),
        _reason(*_not_asked(asked), *_malformed(raw), *_no_id(raw, "event_id"), *_no_time("click_time")),
        _whole(raw),
    )


def of_impressions(clicks: DataFrame, impressions: DataFrame) -> DataFrame:
    """Judged clicks, also judged by the event_time of the kept impressions, whose event_id is unique: a click without
    an impression, or before it, is bad."""
    # Only clicked impressions: where the clicks fit the memory, the impressions need no shuffle.
    clicked = impressions.join(clicks.select("event_id"), "event_id", how="left_semi")
    shown = clicked.select("event_id", F.col("event_time").alias("shown"))
    reason = _reason(
        (F.col("shown").isNull(), "click without an impression"),
        (F.col("click_time") < F.col("shown"), "click before its impression"),
    )
    joined = clicks.join(shown, "event_id", how="left")
    return joined.withColumn("reason", F.coalesce("reason", reason)).drop("shown")


def judged_profiles(raw: DataFrame, key: str, clock: Clock) -> DataFrame:
    """The columns of USERS or ITEMS, judged; ds is null. A row without valid_from applies from 1970.

    Columns beyond the key and valid_from become `attributes`, nulls left out.
    """
    always = F.lit(_ALWAYS).cast("timestamp")
    begin, undated = F.lit(None).cast("timestamp"), F.lit(True)
    if "valid_from" in raw.columns:
        begin, undated = _time(raw, "valid_from", clock), is_missing(*_column(raw, "valid_from"))
    read = _read(raw, None, **{key: _id(raw, key)}, valid_from=begin, undated=undated)
    unread = [(broken & ~_of("undated"), reason) for broken, reason in _no_time("valid_from")]
    return read.select(
        *_parsed(key),
        F.when(_of("undated"), always).otherwise(_of("valid_from")).alias("valid_from"),
        _other_columns(raw, _USER if key == "user_id" else _ITEM).alias("attributes"),
        F.lit(None).cast("date").alias("ds"),
        _reason(*_malformed(raw), *_no_id(raw, key), *unread),
        _whole(raw),
    )


def check_sources(raw: Raw, features: Features) -> None:
    """Raises ConfigError where a feature reads an attribute that the raw frames have no column for: it would be null on
    every row."""
    logs = {
        "context": ("impressions", _attributes(raw.impressions, _IMPRESSION)),
        "user": ("users", _attributes(raw.users, _USER)),
        "item": ("items", _attributes(raw.items, _ITEM)),
    }
    for source in features.sources:
        holder, _, attribute = source.partition(".")
        if holder in logs and attribute not in logs[holder][1]:
            log, there = logs[holder]
            readers = ", ".join(feature.name for feature in features.fields if source in feature.sources)
            raise ConfigError(
                f"features.fields: no attribute {attribute} in the {log}, which {readers} would read as {source}; their"
                f" attributes: {', '.join(there) or 'none'}. Correct the source, or drop with NAME: null what reads it"
            )


def _attributes(raw: DataFrame | None, contract: Collection[str]) -> list[str]:
    """The columns beyond those of the contract."""
    return [name for name in raw.columns if name not in contract] if raw is not None else []


def surveyed(judged: DataFrame, restated: Collection[object] = ()) -> DataFrame:
    """One row per day and verdict: ds, `good`, the number of `rows`, and that of distinct good `events` on the
    `restated` days (0 on others), which have rows in the table already."""
    distinct = F.lit(0).cast("bigint")
    if restated:
        distinct = F.count_distinct(F.when(F.col("ds").isin(*restated) & F.col("reason").isNull(), F.col("event_id")))
    by_day = judged.groupBy("ds", F.col("reason").isNull().alias("good"))
    return by_day.agg(F.count(F.lit(1)).alias("rows"), distinct.alias("events"))


def chosen(judged: DataFrame, table: Table, order: Sequence[str] = ()) -> DataFrame:
    """One good row of each key of the table, in its columns: the first in the `order`, ties broken by a hash of the raw
    row."""
    good = judged.where("reason is null").select(*_names(judged, table), _hash(judged).alias("hash"))
    rank = F.row_number().over(Window.partitionBy(*table.key).orderBy(*order, "hash"))
    return good.withColumn("rank", rank).where("rank = 1").drop("rank", "hash")


def quarantined(
    judged: DataFrame, source: str, folder: str | None, own: Mapping[str, str] = MappingProxyType({})
) -> DataFrame:
    """The bad rows of a judged frame as QUARANTINE rows of `source`, read from `folder`; ds is null without a readable
    time. `own` has the log's own names of columns, which its owner looks for."""
    names = cast(StructType, judged.schema["raw"].dataType).names
    whole = F.struct(*(F.col("raw")[name].alias(own.get(name, name)) for name in names))
    return judged.where("reason is not null").select(
        F.lit(source).alias("source"),
        F.lit(folder).cast("string").alias("folder"),
        "reason",
        F.to_json(whole if own else F.col("raw")).alias("row"),
        "ds",
    )


def _names(judged: DataFrame, table: Table) -> list[str]:
    return judged.sparkSession.createDataFrame([], table.columns).columns


def _dated(raw: DataFrame, time: str, clock: Clock, timezone: str) -> DataFrame:
    """The raw frame with its time, parsed, and ds beside its own columns. ds is null for a time out of all bounds,
    whose row would belong to a day that none asks for."""
    read = _read(raw, None, **{time: _time(raw, time, clock)})
    day = F.when(_in_bounds(time), day_of(_of(time), timezone))
    return read.select("*", day.alias(_name("ds")))


def _read(raw: DataFrame, asked: Span | None, **parsed: Column) -> DataFrame:
    """The raw frame with parsed columns beside its own (see _of), null in rows of days not asked for.

    A generator makes them, of one row each: Spark moves no filter on what it makes below it. A filter on a reason would
    be moved, with all that it is made from written into it again and again, until the code outgrew a Java method. One
    on a day is moved below the generator of all but the time, so that other rows cost little.
    """
    row = F.struct(*(column.alias(_name(name)) for name, column in parsed.items()))
    return raw.select("*", F.inline(F.array(row if asked is None else F.when(_of_days(asked), row))))


def _of_days(asked: Span) -> Column:
    """Whether a row is of these days, or may be."""
    return _of("ds").isNull() | _of("ds").between(*map(F.lit, asked))


def _not_asked(asked: Span | None) -> list[Rule]:
    return [] if asked is None else [(~_of_days(asked), "it is of a day that was not asked for")]


def _name(name: str) -> str:
    return f"{name} (parsed)"


def _of(name: str) -> Column:
    """A parsed column."""
    return F.col(f"`{_name(name)}`")


def _parsed(*names: str) -> list[Column]:
    return [_of(name).alias(name) for name in names]


def _quoted(name: str) -> Column:
    """A raw column by its literal name: a dot in it is no path."""
    return F.col(f"`{name.replace('`', '``')}`")


def _column(raw: DataFrame, name: str) -> tuple[Column, DataType]:
    """A raw column and its type."""
    return _quoted(name), raw.schema[name].dataType


def _text(raw: DataFrame, name: str) -> Column:
    return as_text(*_column(raw, name)) if name in raw.columns else F.lit(None).cast("string")


def _id(raw: DataFrame, name: str) -> Column:
    value, kind = _column(raw, name)
    if not identifies(kind):
        raise ConfigError(
            f"{name} is of type {kind.simpleString()}; an identifier is text or a whole number: change the type where"
            " the logs are written"
        )
    return as_id(value, kind)


def _time(raw: DataFrame, name: str, clock: Clock) -> Column:
    return as_time(*_column(raw, name), clock)


def _in_bounds(time: str) -> Column:
    first, last = f"{FIRST_YEAR}-01-01 00:00:00", f"{LAST_YEAR + 1}-01-01 00:00:00"
    return (_of(time) >= F.lit(first).cast("timestamp")) & (_of(time) < F.lit(last).cast("timestamp"))


def _clicked(raw: DataFrame) -> Column:
    text = F.lower(F.trim(_text(raw, "clicked")))
    yes, no = text.isin("1", "1.0", "true"), text.isin("0", "0.0", "false")
    return F.when(yes, 1).when(no, 0).cast("int")


def _other_columns(raw: DataFrame, known: Collection[str]) -> Column:
    kinds = {field.name: field.dataType for field in raw.schema if field.name not in known}
    entries = chain.from_iterable((F.lit(name), as_text(_quoted(name), kind)) for name, kind in kinds.items())
    values = F.create_map(*entries).cast("map<string,string>")
    whole = reduce(and_, (_quoted(name).isNotNull() for name in kinds), F.lit(True))
    return F.when(whole, values).otherwise(F.map_filter(values, lambda _, value: value.isNotNull()))  # slow


def _whole(raw: DataFrame) -> Column:
    return F.struct(*(_quoted(name) for name in raw.columns)).alias("raw")


def _malformed(raw: DataFrame) -> list[Rule]:
    return [(_quoted(CORRUPT).isNotNull(), "row is malformed")] if CORRUPT in raw.columns else []


def _no_id(raw: DataFrame, name: str) -> list[Rule]:
    absent, missing = _of(name).isNull(), is_missing(*_column(raw, name))  # asked only of a row without an id
    return [
        (absent & missing, f"{name} is missing"),
        (absent, f"{name} is no identifier (a fraction, rounded, nested, or with a control character)"),
    ]


def _no_time(name: str) -> list[Rule]:
    return [
        (_of(name).isNull(), f"{name} cannot be read as a time"),
        (~_in_bounds(name), f"{name} is not between {FIRST_YEAR} and {LAST_YEAR}"),
    ]


def _reason(*rules: Rule) -> Column:
    """The reason of the first rule that a row satisfies, null for a good row."""
    return F.coalesce(*(F.when(broken, F.lit(reason)) for broken, reason in rules)).alias("reason")


def _hash(judged: DataFrame) -> Column:
    """A hash of the raw row, or of its text where it holds a map, which Spark does not hash."""
    whole = judged.schema["raw"].dataType
    return F.xxhash64(F.to_json("raw") if "map<" in whole.simpleString() else F.col("raw"))
