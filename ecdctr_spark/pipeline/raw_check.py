"""`ecdctr check --raw`: what an ingest would make of the raw logs, without writing a table.

A wrong guess about a unit, a zone or a column shows here in a minute, before a night's run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ecdctr_spark.config import Config
from ecdctr_spark.features.ingest import (
    check_sources,
    chosen,
    judged_clicks,
    judged_impressions,
    judged_profiles,
    of_impressions,
)
from ecdctr_spark.methods.planning import days, ranges
from ecdctr_spark.pipeline.ingesting import clock_of
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.sources.raw import CORRUPT, Described
from ecdctr_spark.sources.values import Clock, time_form
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, ITEMS, USERS, Table

_EXAMPLES = 3
_NAMED = 5  # files left out that are named
_TIMES = {"impressions": "event_time", "clicks": "click_time", "users": "valid_from", "items": "valid_from"}


class Looked(NamedTuple):
    """What an ingest would make of one source. `days` has the rows of each day, None of rows without a readable time;
    `times` those of each form in which times are written, by column; `bad` those of each reason for quarantine."""

    source: str
    columns: Mapping[str, str]
    rows: int
    days: Mapping[dt.date | None, int]
    times: Mapping[str, int]
    bad: Mapping[str, int]
    examples: Sequence[Mapping[str, Any]]
    described: Described | None = None


def looked_at(spark: SparkSession, config: Config) -> Iterator[Looked]:
    """Reads the raw logs of the configured source, one part after the other. Raises ConfigError as an ingest does, and
    at the end where a feature reads an attribute that they do not have."""
    raw, clock, zone = SOURCES[config.source.kind](spark, config), clock_of(config), config.calendar.timezone
    impressions = judged_impressions(raw.impressions, clock, zone)
    judged = {IMPRESSIONS: impressions}
    if raw.clicks is not None:
        shown = chosen(impressions, IMPRESSIONS, ("event_time",)).select("event_id", "event_time")
        judged[CLICKS] = of_impressions(judged_clicks(raw.clicks, clock, zone), shown)
    if raw.users is not None:
        judged[USERS] = judged_profiles(raw.users, "user_id", clock)
    if raw.items is not None:
        judged[ITEMS] = judged_profiles(raw.items, "item_id", clock)
    for table, rows in judged.items():
        yield _looked(table, rows, clock)._replace(described=raw.described.get(table.name))
    check_sources(raw, config.features)


def lines_of(looked: Looked, first_day: dt.date) -> list[str]:
    """A source as indented lines of text, for people."""
    good = looked.rows - sum(looked.bad.values())
    columns, renamed = (
        (looked.described.columns, looked.described.renamed) if looked.described else (looked.columns, {})
    )
    kinds = {**columns, **{name: "within it" for name in renamed if name not in columns}}
    named = {name: f"{name} as {renamed[name]}" if name in renamed else name for name in kinds}
    lines = [
        f"{looked.source}",
        *(f"  files     {text}" for text in _files(looked.described)),
        f"  rows      {looked.rows:,}: {good:,} good, {looked.rows - good:,} to quarantine",
        f"  columns   {', '.join(f'{named[name]} {kind}' for name, kind in kinds.items() if name != CORRUPT)}",
    ]
    lines += [f"  days      {text}" for text in _days(looked.days, first_day)]
    lines += [f"  times     {rows:,} rows: {form}" for form, rows in sorted(looked.times.items())]
    lines += [f"  bad       {rows:,} rows: {reason}" for reason, rows in sorted(looked.bad.items())]
    return lines + [f"  example   {_plain(example)}" for example in looked.examples]


def _files(described: Described | None) -> Iterator[str]:
    if described and described.files:
        yield f"{len(described.files):,} of {described.size:,} bytes in {described.place}"
        for name, reason in described.left_out[:_NAMED]:
            yield f"left out: {name}, since {reason}"
        if more := described.left_out[_NAMED:]:
            yield f"left out: {len(more):,} more"


def _days(rows: Mapping[dt.date | None, int], first_day: dt.date) -> Iterator[str]:
    there = sorted(day for day in rows if day and day >= first_day)
    if there:
        counts = [rows[day] for day in there]
        yield f"{there[0]} to {there[-1]}: {len(there):,} days of {min(counts):,} to {max(counts):,} rows"
        gaps = [day for day in days(there[0], there[-1]) if day not in rows]
        if gaps:
            yield f"without rows: {', '.join(_span(*span) for span in ranges(gaps))}"
    before = [count for day, count in rows.items() if day and day < first_day]
    if before:
        yield f"{sum(before):,} rows of {len(before):,} days before calendar.first_day: they are never used"


def _span(first: dt.date, last: dt.date) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _plain(example: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in example.items() if value is not None)


def _looked(table: Table, judged: DataFrame, clock: Clock) -> Looked:
    kinds = {field.name: field.dataType for field in cast(StructType, judged.schema["raw"].dataType)}
    time, form = _TIMES[table.name], F.lit(None).cast("string")
    if time in kinds:
        written = F.col("raw")[time]
        form = F.when(F.col(time).isNotNull() & written.isNotNull(), time_form(written, kinds[time], clock))
    found = judged.groupBy("ds", "reason", form.alias("form")).agg(F.count(F.lit(1)).alias("rows")).collect()
    counts: dict[str, dict[Any, int]] = {"ds": {}, "reason": {}, "form": {}}
    for row in found:
        for what, by in counts.items():
            by[row[what]] = by.get(row[what], 0) + row["rows"]
    good = judged.where("reason is null").drop("reason", "raw")
    return Looked(
        source=table.name,
        columns={name: kind.simpleString() for name, kind in kinds.items() if name != CORRUPT},
        rows=sum(row["rows"] for row in found),
        days=counts["ds"],
        times={form: rows for form, rows in counts["form"].items() if form},
        bad={reason: rows for reason, rows in counts["reason"].items() if reason},
        examples=[row.asDict() for row in good.limit(_EXAMPLES).collect()],
    )
