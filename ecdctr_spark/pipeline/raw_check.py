"""`ecdctr check --raw`: what an ingest would make of the raw logs, without writing a table.

A wrong guess about a unit, a zone or a column shows here in a minute, before a night's run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.features.ingest import chosen, judged_clicks, judged_impressions, judged_profiles, of_impressions
from ecdctr_spark.methods.planning import days, ranges
from ecdctr_spark.pipeline.ingesting import clock_of
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.sources.values import Clock, time_form
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, ITEMS, USERS, Table

_EXAMPLES = 3


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


def looked_at(spark: SparkSession, config: Config) -> Iterator[Looked]:
    """Reads the raw logs of the configured source, one part after the other. Raises ConfigError as an ingest does."""
    raw, clock, zone = SOURCES[config.source.kind](spark, config), clock_of(config), config.calendar.timezone
    impressions = judged_impressions(raw.impressions, clock, zone)
    yield _looked(IMPRESSIONS, raw.impressions, impressions, "event_time", clock)
    if raw.clicks is not None:
        shown = chosen(impressions, IMPRESSIONS, ("event_time",)).select("event_id", "event_time")
        clicks = of_impressions(judged_clicks(raw.clicks, clock, zone), shown)
        yield _looked(CLICKS, raw.clicks, clicks, "click_time", clock)
    for table, key, frame in ((USERS, "user_id", raw.users), (ITEMS, "item_id", raw.items)):
        if frame is not None:
            yield _looked(table, frame, judged_profiles(frame, key, clock), "valid_from", clock)


def lines_of(looked: Looked, first_day: dt.date) -> list[str]:
    """A source as indented lines of text, for people."""
    good = looked.rows - sum(looked.bad.values())
    lines = [
        f"{looked.source}",
        f"  rows      {looked.rows:,}: {good:,} good, {looked.rows - good:,} to quarantine",
        f"  columns   {', '.join(f'{name} {kind}' for name, kind in looked.columns.items())}",
    ]
    lines += [f"  days      {text}" for text in _days(looked.days, first_day)]
    lines += [f"  times     {rows:,} rows: {form}" for form, rows in sorted(looked.times.items())]
    lines += [f"  bad       {rows:,} rows: {reason}" for reason, rows in sorted(looked.bad.items())]
    return lines + [f"  example   {_plain(example)}" for example in looked.examples]


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


def _looked(table: Table, raw: DataFrame, judged: DataFrame, time: str, clock: Clock) -> Looked:
    form = F.lit(None).cast("string")
    if time in raw.columns:
        read = F.col(time).isNotNull() & F.col("raw")[time].isNotNull()
        form = F.when(read, time_form(F.col("raw")[time], raw.schema[time].dataType, clock))
    found = judged.groupBy("ds", "reason", form.alias("form")).agg(F.count(F.lit(1)).alias("rows")).collect()
    counts: dict[str, dict[Any, int]] = {"ds": {}, "reason": {}, "form": {}}
    for row in found:
        for what, by in counts.items():
            by[row[what]] = by.get(row[what], 0) + row["rows"]
    good = judged.where("reason is null").drop("reason", "raw")
    return Looked(
        source=table.name,
        columns=dict(raw.dtypes),
        rows=sum(row["rows"] for row in found),
        days=counts["ds"],
        times={form: rows for form, rows in counts["form"].items() if form},
        bad={reason: rows for reason, rows in counts["reason"].items() if reason},
        examples=[row.asDict() for row in good.limit(_EXAMPLES).collect()],
    )
