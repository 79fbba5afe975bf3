"""Raw logs to the canonical tables: looked at first, then written, so that nothing is replaced by less than it was.

A first pass over the raw rows counts them by day and verdict. It decides which days the logs cover, refuses a day that
has lost most of its rows, and accounts for every row: kept, a duplicate, in quarantine, or of a day not asked for.

A day is replaced only by logs that cover it. A folder may hold all days, or one day each (`drop/2024-01-05`, then
`drop/2024-01-06`: dates in the names of folders do not make another source). Days that it lacks stay as they are and
are reported, and late rows of the days before those asked for are added to them. A day asked for that has lost more
than half of its rows (`check.limits.restated`) stops the ingest; a smaller loss is reported. A day without logs is not
done: nothing is trained on it, the command ends with exit code 2, and the day is due again, with all that depends on
it, once its logs are there (or name it in `check.without_logs`). An event that comes again within
`source.repeated_days` is one event: its first row is kept, whichever day is ingested first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.features.ingest import (
    chosen,
    judged_clicks,
    judged_impressions,
    judged_profiles,
    of_impressions,
    quarantined,
    surveyed,
)
from ecdctr_spark.methods.method import DAY
from ecdctr_spark.methods.planning import days, ranges
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.sources.values import Clock
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, ITEMS, QUARANTINE, USERS, Table
from ecdctr_spark.tables.store import Store


@dataclass(frozen=True)
class Counts:
    """The rows of the days of a step: rows_read = rows_kept + duplicates + quarantined. Of an ingest also the raw rows
    of days not asked for: from calendar.first_day on (`outside_asked`), and before it (`outside_any`)."""

    rows_read: int
    rows_kept: int
    duplicates: int = 0
    quarantined: int = 0
    outside_asked: int = 0
    outside_any: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(add, astuple(self), astuple(other)))


class Ingested(NamedTuple):
    """What an ingest did. `covered` are the days with good impressions; `missing` those without, left as they were;
    `left_out` the files that were not read. `fewer` says by how many rows a table's day is smaller than it was."""

    counts: Counts
    covered: frozenset[dt.date]
    missing: frozenset[dt.date]
    left_out: tuple[str, ...] = ()
    fewer: tuple[tuple[str, dt.date, int], ...] = ()


@dataclass(frozen=True)
class _Survey:
    """The raw rows of a source by day, None without a readable time: all of them, the good ones of the days that are
    read, and distinct good events on those that have rows in the table already."""

    rows: Mapping[dt.date | None, int]
    good: Mapping[dt.date | None, int]
    events: Mapping[dt.date | None, int]


class _Days(NamedTuple):
    """The days that an ingest reads: those asked for, from `first` on, and before them those whose rows may be late."""

    first: dt.date
    every: list[dt.date]


class _Input(NamedTuple):
    """The judged rows of a table's source, and the number of rows that its files hold, where that is known."""

    table: Table
    judged: DataFrame
    rows: int | None


class _Part(NamedTuple):
    """A source's part in an ingest: the judged rows of the slice `where`, and what became of them."""

    table: Table
    judged: DataFrame
    where: str
    counts: Counts
    covered: frozenset[dt.date] = frozenset()
    fewer: tuple[tuple[str, dt.date, int], ...] = ()


def ingest(store: Store, config: Config, first: dt.date, last: dt.date) -> Ingested:
    """Raw logs of the days first..last to the canonical tables; bad rows to quarantine, duplicates counted.

    A day asked for is replaced, where the logs hold rows of it; without any it is left as it was. Rows of the
    labels.maturity_days days before `first` may have come late: they are added to what is there, since a folder of one
    day may hold a few of them. A row without a readable time belongs to no day and is quarantined by every ingest that
    reads it. Raises ConfigError where the days precede calendar.first_day, or a day asked for has lost more of its rows
    than check.limits.restated allows.
    """
    if last < config.calendar.first_day:
        raise ConfigError(f"--to {last}: logs before calendar.first_day ({config.calendar.first_day}) are never used")
    raw = SOURCES[config.source.kind](store.spark, config)
    clock, zone = clock_of(config), config.calendar.timezone
    start = max(config.calendar.first_day, first - config.labels.maturity_days * DAY)
    read = _Days(max(first, start), list(days(start, last)))

    def given(table: Table, judged: DataFrame) -> _Input:
        described = raw.described.get(table.name)
        return _Input(table, judged, described.rows if described else None)

    impressions = given(IMPRESSIONS, judged_impressions(raw.impressions, clock, zone, (start, last)))
    parts = [_admit_days(store, config, impressions, read)]
    if raw.clicks is not None:
        shown = store.read(IMPRESSIONS).where(within(days(start - window(config), last)))
        clicks = given(CLICKS, judged_clicks(raw.clicks, clock, zone, (start, last)))
        parts.append(_admit_days(store, config, clicks, read, shown))
    if raw.users is not None:
        parts.append(_admit_profiles(store, given(USERS, judged_profiles(raw.users, "user_id", clock))))
    if raw.items is not None:
        parts.append(_admit_profiles(store, given(ITEMS, judged_profiles(raw.items, "item_id", clock))))
    _quarantine(store, config, parts)
    counts = reduce(add, (part.counts for part in parts))
    covered = parts[0].covered
    left_out = tuple(name for described in raw.described.values() for name, _ in described.left_out)
    fewer = tuple(loss for part in parts for loss in part.fewer)
    return Ingested(counts, covered, frozenset(read.every) - covered, left_out, fewer)


def clock_of(config: Config) -> Clock:
    """How the source writes times."""
    return Clock(config.source.timezone, config.source.time_unit)


def window(config: Config) -> dt.timedelta:
    """The time within which a click counts for its impression, in whole days."""
    return -(-config.labels.attribution_hours // 24) * DAY


def within(chosen_days: Iterable[dt.date]) -> str:
    """The predicate of the slice of these days."""
    spans = [f"(ds >= date'{first}' and ds <= date'{last}')" for first, last in ranges(sorted(chosen_days))]
    return f"({' or '.join(spans)})" if spans else "false"


def _look(given: _Input, restated: Collection[dt.date] = ()) -> _Survey:
    """Counts the rows; at most two rows per day come to the driver. Raises ConfigError where they are not as many as
    the files hold."""
    found = surveyed(given.judged, restated).collect()
    rows: dict[dt.date | None, int] = {}
    for row in found:
        rows[row["ds"]] = rows.get(row["ds"], 0) + row["rows"]
    read = sum(rows.values())
    if given.rows is not None and given.rows != read:
        raise ConfigError(
            f"{given.table.name}: the files hold {given.rows:,} rows, but {read:,} were read: if they have changed"
            " meanwhile, run it again; otherwise their format is not the configured one"
        )
    good = [row for row in found if row["good"]]
    return _Survey(rows, {row["ds"]: row["rows"] for row in good}, {row["ds"]: row["events"] for row in good})


def _admit_days(store: Store, config: Config, given: _Input, read: _Days, shown: DataFrame | None = None) -> _Part:
    """Writes the days that the logs hold rows of. Clicks are also judged by the impressions `shown`."""
    table = given.table
    former = {dt.date.fromisoformat(day): rows for day, rows in pinned.rows_by(store.place(table), "ds").items()}
    found = _look(given, [day for day in read.every if day in former])
    there = [day for day in read.every if day in found.rows]
    replaced = [day for day in there if day >= read.first and day in former]
    _refuse_losses(config, table, found, {day: former[day] for day in replaced})
    here = within(there)
    rows = given.judged.where(f"{here} or ds is null")
    rows = rows if shown is None else of_impressions(rows, shown)
    near = _near(config, table, former, there, replaced)
    held = store.read(table).where(within(near)) if near else None
    good, kept = _write(store, table, rows, held, here) if there else (0, 0)
    _drop_repeats(store, table, here, [day for day in near if day > min(there) and day not in there])
    total = sum(found.rows.get(day, 0) for day in (*there, None))
    before = sum(count for day, count in found.rows.items() if day and day < config.calendar.first_day)
    counts = Counts(
        rows_read=total,
        rows_kept=kept,
        duplicates=good - kept,
        quarantined=total - good,
        outside_asked=sum(found.rows.values()) - total - before,
        outside_any=before,
    )
    lost = ((table.name, day, former[day] - found.events.get(day, 0)) for day in replaced)
    return _Part(
        table,
        rows,
        f"({here} or ds is null)",
        counts,
        covered=frozenset(day for day in there if day in found.good),
        fewer=tuple(loss for loss in lost if loss[2] > 0),
    )


def _admit_profiles(store: Store, given: _Input) -> _Part:
    """Inserts the profiles of the logs, and replaces those with the same key: a folder may hold only what is new. Where
    it holds nothing new, as on most nights, the table is not written again."""
    table, judged, _ = given
    found = _look(given)
    new, there, key = chosen(judged, table), store.read(table), list(table.key)
    attributes = F.to_json("attributes")
    known = new.join(there.select(*key, attributes.alias("known")), key, how="left")
    same = attributes.eqNullSafe(F.col("known"))
    kept, differing = known.agg(F.count(F.lit(1)), F.count_if(~same)).collect()[0]
    if differing:
        store.replace(table, new.unionByName(there.join(new, key, how="left_anti")), "true")
    read, good = sum(found.rows.values()), sum(found.good.values())
    return _Part(table, judged, "true", Counts(read, kept, duplicates=good - kept, quarantined=read - good))


def _write(store: Store, table: Table, rows: DataFrame, held: DataFrame | None, here: str) -> tuple[int, int]:
    """Writes one good row of each key, the first, where `held` are the rows that are there and stay; returns the number
    of good rows and of those written."""
    judging, writing = Observation(), Observation()  # count rows on their way: they are read only once
    time = "event_time" if table is IMPRESSIONS else "click_time"
    good = rows.observe(judging, F.count_if(F.col("reason").isNull()).alias("good")).where("reason is null")
    kept = chosen(good, table, (time,))
    if held is None:
        store.replace(table, kept.observe(writing, F.count(F.lit(1)).alias("kept")), here)
        return judging.get.get("good", 0), writing.get.get("kept", 0)
    first = held.groupBy("event_id").agg(F.min(time).alias("since"))
    fresh = kept.join(first, "event_id", how="left").where(f"since is null or {time} <= since").drop("since")
    own = kept.select("event_id", F.col(time).alias("came"))
    stays = held.where(here).join(own, "event_id", how="left").where(f"came is null or came > {time}").drop("came")
    store.replace(table, fresh.observe(writing, F.count(F.lit(1)).alias("kept")).unionByName(stays), here)
    return judging.get.get("good", 0), writing.get.get("kept", 0)


def _drop_repeats(store: Store, table: Table, here: str, later: Collection[dt.date]) -> None:
    """Deletes impressions of later days, ingested before, whose event came first in the slice that was written."""
    if later:
        first = store.read(table).where(here).select("event_id", "event_time")
        among = within(later).replace("ds", "kept.ds")
        store.delete(table, first, f"{among} and kept.event_id = keys.event_id and kept.event_time > keys.event_time")


def _near(
    config: Config, table: Table, former: Collection[dt.date], there: Collection[dt.date], replaced: Collection[dt.date]
) -> list[dt.date]:
    """The days whose rows stay and may hold an event that comes again: of impressions those source.repeated_days around
    the days that the logs hold, of clicks these days alone."""
    reach = config.source.repeated_days * DAY if table is IMPRESSIONS else dt.timedelta(0)
    if not there:
        return []
    return [day for day in former if day not in replaced and min(there) - reach <= day <= max(there) + reach]


def _refuse_losses(config: Config, table: Table, found: _Survey, former: Mapping[dt.date, int]) -> None:
    limit = config.check.limits.restated
    for day, rows in sorted(former.items()):
        now = found.events.get(day, 0)
        share = now / rows
        if (limit.low is not None and share < limit.low) or (limit.high is not None and share > limit.high):
            where = getattr(config.source, table.name) or config.source.kind
            raise ConfigError(
                f"{table.name} of {day} in {where}: {now:,} good rows, where {rows:,} were ingested before, is outside"
                " check.limits.restated: give all logs of the day, or change the limit"
            )


def _quarantine(store: Store, config: Config, parts: Sequence[_Part]) -> None:
    """Replaces the bad rows of each part's slice. Those without a day stay where they were read from another folder."""
    former = pinned.rows_by(store.place(QUARANTINE), "ds")
    if not former and not any(part.counts.quarantined for part in parts):
        return
    bad = [_bad(config, part) for part in parts]
    if "None" in former:
        undated, of = store.read(QUARANTINE).where("ds is null"), F.col("source")
        stays = (undated.where((of == part.table.name) & ~_read_from(_folder(config, part))) for part in parts)
        bad += stays
    where = " or ".join(f"(source = '{part.table.name}' and {part.where})" for part in parts)
    store.replace(QUARANTINE, reduce(DataFrame.unionByName, bad), where)


def _bad(config: Config, part: _Part) -> DataFrame:
    judged = part.judged if part.counts.quarantined else part.judged.limit(0)  # good logs are not read again
    own: dict[str, str] = getattr(config.source.columns, part.table.name)
    if part.table is IMPRESSIONS and config.source.ads is not None:  # a row does not say which of the two it is from
        own = dict(own.items() & config.source.columns.ads.items())
    return quarantined(judged, part.table.name, _folder(config, part), own)


def _read_from(folder: str | None) -> Column:
    return F.col("folder").isNull() if folder is None else F.col("folder").eqNullSafe(folder)


def _folder(config: Config, part: _Part) -> str | None:
    """Where the rows of a part were read from, as configured."""
    folder: str | None = getattr(config.source, part.table.name) or config.source.folder
    return folder
