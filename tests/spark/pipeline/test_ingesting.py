"""An ingest loses nothing: it replaces only what the logs cover, and accounts for every raw row."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.planning import Build, Ingest
from ecdctr_spark.pipeline.ingesting import Counts, Ingested, ingest
from ecdctr_spark.pipeline.raw_check import looked_at
from ecdctr_spark.pipeline.run import run_counted
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, QUARANTINE, USERS
from ecdctr_spark.tables.store import Store

HEADER = "event_id,event_time,domain,user_id,item_id,clicked"
FIFTH, SIXTH = dt.date(2024, 1, 5), dt.date(2024, 1, 6)


def shown(event: str, time: str, user: str = "u1", clicked: str = "0") -> str:
    return f"{event},{time},ad,{user},i1,{clicked}"


def day(number: int, events: int = 6) -> list[str]:
    return [shown(f"e{number}{event}", f"2024-01-{number:02}T10:0{event}:00") for event in range(events)]


class Logs:
    """Raw csv folders under a path, and a store that they are ingested into."""

    def __init__(self, spark: SparkSession, path: Path) -> None:
        self.path = path
        self.store = Store(Session.of(spark), Root.parse(path / "root"))

    def write(self, folder: str, lines: Sequence[str], header: str = HEADER) -> None:
        file = self.path / folder / "part.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([header, *lines]) + "\n")

    def config(self, *settings: str, impressions: str = "impressions") -> Config:
        there = {"impressions": impressions, "clicks": "clicks", "users": "users"}
        folders = [f"source.{key}={self.path / name}" for key, name in there.items() if (self.path / name).exists()]
        return load_config([], ["source.format=csv", "calendar.first_day=2024-01-01", *folders, *settings])

    def ingest(self, first: dt.date, last: dt.date, *settings: str, impressions: str = "impressions") -> Ingested:
        return ingest(self.store, self.config(*settings, impressions=impressions), first, last)

    def events(self) -> dict[str, str]:
        return {row["event_id"]: str(row["ds"]) for row in self.store.read(IMPRESSIONS).collect()}

    def reasons(self) -> Counter[tuple[str, str]]:
        return Counter((row["source"], row["reason"]) for row in self.store.read(QUARANTINE).collect())


@pytest.fixture
def logs(spark: SparkSession, tmp_path: Path) -> Logs:
    return Logs(spark, tmp_path)


def test_a_day_whose_logs_are_not_in_the_folder_stays(logs: Logs) -> None:
    undated = shown("e59", "soon")
    logs.write("drop/2024-01-05", [*day(5), undated])
    logs.write("drop/2024-01-06", day(6))
    first = logs.ingest(FIFTH, FIFTH, impressions="drop/2024-01-05")
    assert (first.covered, first.missing) == ({FIFTH}, {FIFTH - dt.timedelta(days=1)})
    second = logs.ingest(SIXTH, SIXTH, impressions="drop/2024-01-06")
    assert (second.covered, second.missing) == ({SIXTH}, {FIFTH})
    assert second.counts == Counts(rows_read=6, rows_kept=6)
    assert Counter(logs.events().values()) == {"2024-01-05": 6, "2024-01-06": 6}
    assert logs.reasons() == {("impressions", "event_time cannot be read as a time"): 1}
    logs.ingest(FIFTH, FIFTH, impressions="drop/2024-01-05")  # again: in quarantine once
    assert logs.reasons() == {("impressions", "event_time cannot be read as a time"): 1}


def test_a_day_without_any_logs_replaces_nothing(logs: Logs) -> None:
    logs.write("impressions", day(5))
    logs.ingest(FIFTH, FIFTH)
    logs.write("impressions", [])
    found = logs.ingest(FIFTH, FIFTH)
    assert found == Ingested(Counts(0, 0), frozenset(), frozenset({FIFTH - dt.timedelta(days=1), FIFTH}))
    assert len(logs.events()) == 6


def test_a_late_row_in_the_next_day_s_folder_is_added_to_its_day(logs: Logs) -> None:
    late = [shown(f"late{number}", "2024-01-05T23:59:59") for number in range(4)]
    logs.write("drop/2024-01-05", day(5))
    logs.write("drop/2024-01-06", [*late, *day(5)[:1], *day(6)])
    logs.ingest(FIFTH, FIFTH, impressions="drop/2024-01-05")
    found = logs.ingest(SIXTH, SIXTH, impressions="drop/2024-01-06")
    assert (found.counts.rows_read, found.counts.rows_kept) == (11, 11)
    assert Counter(logs.events().values()) == {"2024-01-05": 10, "2024-01-06": 6}
    again = logs.ingest(SIXTH, SIXTH, impressions="drop/2024-01-06")
    assert again.counts == found.counts
    assert Counter(logs.events().values()) == {"2024-01-05": 10, "2024-01-06": 6}


def test_a_late_click_in_the_next_day_s_folder_is_added_to_its_day(logs: Logs) -> None:
    header = HEADER.removesuffix(",clicked")
    for date, clicks in (
        (FIFTH, ["e50,2024-01-05T11:00:00"]),
        (SIXTH, ["e51,2024-01-05T12:00:00", "e50,2024-01-05T13:00:00", "e60,2024-01-06T11:00:00"]),
    ):
        logs.write("impressions", [row.removesuffix(",0") for row in day(date.day)], header)
        logs.write("clicks", clicks, "event_id,click_time")
        logs.ingest(date, date)
    clicked = {row["event_id"]: row["click_time"].hour for row in logs.store.read(CLICKS).collect()}
    assert clicked == {"e50": 11, "e51": 12, "e60": 11}


@pytest.mark.parametrize("order", [(FIFTH, SIXTH), (SIXTH, FIFTH)])
def test_of_an_event_that_comes_again_the_first_row_is_kept_whatever_day_is_ingested_first(
    logs: Logs, order: Sequence[dt.date]
) -> None:
    logs.write("drop/2024-01-05", [shown("e1", "2024-01-05T23:50:00"), shown("e3", "2024-01-05T10:00:00")])
    logs.write("drop/2024-01-06", [shown("e1", "2024-01-06T00:10:00", clicked="1"), shown("e2", "2024-01-06T10:00:00")])
    for date in order:
        logs.ingest(date, date, impressions=f"drop/{date}")
    assert logs.events() == {"e1": "2024-01-05", "e2": "2024-01-06", "e3": "2024-01-05"}


def test_the_command_fails_where_no_day_asked_for_has_logs_and_else_reports_those_without(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.write("impressions", day(5))
    config, console = logs.config(), Console()
    assert run_counted(logs.store, config, Ingest(FIFTH, SIXTH), console).rows_kept == 6
    assert "no logs of 2024-01-04, 2024-01-06" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(ConfigError, match="no logs of 2024-01-06 in "):
        run_counted(logs.store, config, Ingest(SIXTH, SIXTH), console)
    with pytest.raises(ConfigError, match="nothing is ingested of 2024-01-20"):
        run_counted(logs.store, config, Build(dt.date(2024, 1, 20), dt.date(2024, 1, 20)), console)


def test_days_before_all_logs_are_refused(logs: Logs) -> None:
    logs.write("impressions", day(5))
    with pytest.raises(ConfigError, match="--to 2024-01-05: logs before"):
        logs.ingest(FIFTH, FIFTH, "calendar.first_day=2024-02-01")


def test_a_day_that_is_smaller_than_it_was_is_reported(logs: Logs) -> None:
    logs.write("impressions", day(5))
    logs.ingest(FIFTH, FIFTH)
    logs.write("impressions", day(5, 4))
    assert logs.ingest(FIFTH, FIFTH).fewer == (("impressions", FIFTH, 2),)


def test_a_day_that_has_lost_most_of_its_rows_is_not_replaced(logs: Logs) -> None:
    logs.write("impressions", day(5))
    logs.ingest(FIFTH, FIFTH)
    logs.write("impressions", 3 * day(5, 2))
    with pytest.raises(ConfigError, match=r"impressions of 2024-01-05 .*2 good rows, where 6 were ingested before"):
        logs.ingest(FIFTH, FIFTH)
    logs.write("impressions", [shown(f"e5{event}", "2024-01-05T10:00:00", user=" ") for event in range(6)])
    with pytest.raises(ConfigError, match="0 good rows"):
        logs.ingest(FIFTH, FIFTH)
    assert len(logs.events()) == 6
    logs.write("impressions", day(5, 2))
    logs.ingest(FIFTH, FIFTH, "check.limits.restated.low=0.3")
    assert len(logs.events()) == 2


def test_a_click_log_that_has_lost_most_of_its_rows_is_not_replaced(logs: Logs) -> None:
    logs.write("impressions", [row.removesuffix(",0") for row in day(5)], HEADER.removesuffix(",clicked"))
    clicks = [f"e5{event},2024-01-05T10:30:00" for event in range(4)]
    logs.write("clicks", clicks, "event_id,click_time")
    logs.ingest(FIFTH, FIFTH)
    logs.write("clicks", clicks[:1], "event_id,click_time")
    with pytest.raises(ConfigError, match=r"clicks of 2024-01-05 .*1 good rows, where 4"):
        logs.ingest(FIFTH, FIFTH)
    logs.write("clicks", [], "event_id,click_time")
    logs.ingest(FIFTH, FIFTH)  # no logs of the day: its clicks stay
    assert logs.store.read(CLICKS).count() == 4


def test_an_event_that_comes_again_on_a_later_day_is_one_event(logs: Logs) -> None:
    again = [shown(f"e5{event}", "2024-01-06T09:00:00") for event in range(3)]
    logs.write("drop/2024-01-05", day(5))
    logs.write("drop/2024-01-06", [*day(6), *again])
    for date in (FIFTH, SIXTH):
        settings = ("labels.maturity_days=0", "source.repeated_days=1")
        found = logs.ingest(date, date, *settings, impressions=f"drop/{date}")
    assert found.counts == Counts(rows_read=9, rows_kept=6, duplicates=3)
    nightly = logs.events()
    logs.write("impressions", [*day(6), *again, *day(5)])
    logs.store = replace(logs.store, logs="at once")
    logs.ingest(FIFTH, SIXTH)
    assert logs.events() == nightly
    assert Counter(nightly.values()) == {"2024-01-05": 6, "2024-01-06": 6}


@pytest.mark.parametrize("time", ["1970-01-01T00:00:10", "0001-01-01T00:00:00", "2024-01-03T10:00:00", "10"])
def test_a_copy_with_a_broken_clock_does_not_displace_an_event(logs: Logs, time: str) -> None:
    logs.write("impressions", [*day(5), shown("e50", time)])
    found = logs.ingest(FIFTH, FIFTH)
    assert (found.counts.rows_kept, found.counts.duplicates) == (6, 0)
    assert logs.events()["e50"] == "2024-01-05"


def test_a_click_before_its_impression_does_not_hide_the_good_one(logs: Logs) -> None:
    logs.write("impressions", [row.removesuffix(",0") for row in day(5)], HEADER.removesuffix(",clicked"))
    times = ("1970-01-01T00:00:10", "2024-01-04T23:00:00", "2024-01-05T09:59:59", "2024-01-05T11:00:00")
    logs.write("clicks", [f"e50,{time}" for time in times], "event_id,click_time")
    found = logs.ingest(FIFTH, FIFTH)
    assert (found.counts.rows_read, found.counts.rows_kept, found.counts.quarantined) == (10, 7, 3)
    assert [row["click_time"].hour for row in logs.store.read(CLICKS).collect()] == [11]
    assert logs.reasons() == {
        ("clicks", "click before its impression"): 2,
        ("clicks", "click_time is not between 1990 and 2100"): 1,
    }


def test_every_row_of_the_files_is_accounted_for(logs: Logs) -> None:
    good = [*day(4), *day(5), *day(5)[:2], *day(8), shown("e1", "2023-12-31T10:00:00")]
    bad = [shown("e2", "soon"), shown("e3", "1970-01-01"), shown("", "2024-01-05"), shown("", "2024-01-08"), "e4,2024"]
    logs.write("impressions", [*good, *bad])
    counts = logs.ingest(FIFTH, FIFTH).counts
    assert counts == Counts(rows_read=18, rows_kept=12, duplicates=2, quarantined=4, outside_asked=7, outside_any=1)
    assert len(good) + len(bad) == counts.rows_read + counts.outside_asked + counts.outside_any


@pytest.mark.parametrize(("unit", "ticks"), [("seconds", 1), ("milliseconds", 1000), ("microseconds", 1_000_000)])
def test_epoch_times_of_any_unit_are_read(logs: Logs, unit: str, ticks: int) -> None:
    at = int(dt.datetime(2024, 1, 5, 10, tzinfo=dt.timezone.utc).timestamp())
    logs.write("impressions", [shown("e1", str(at * ticks)), shown("e2", str((at + 1) * ticks))])
    for setting in ("auto", unit):
        assert logs.ingest(FIFTH, FIFTH, f"source.time_unit={setting}").counts == Counts(rows_read=2, rows_kept=2)
    assert set(logs.events().values()) == {"2024-01-05"}


def test_the_code_that_spark_generates_compiles(logs: Logs, spark: SparkSession) -> None:
    """Where it outgrows a Java method Spark interprets the rows, ten times as slowly, and says so only in its log."""
    for folder, lines, header in (
        ("impressions", [row.removesuffix(",0") for row in day(5)], HEADER.removesuffix(",clicked")),
        ("clicks", ["e50,2024-01-05T11:00:00"], "event_id,click_time"),
        ("users", ["u1,2024-01-01,old"], "user_id,valid_from,plan"),
    ):
        logs.write(folder, lines, header)
    settings = {
        "spark.sql.codegen.wholeStage": "true",
        "spark.sql.codegen.factoryMode": "CODEGEN_ONLY",
        "spark.sql.codegen.fallback": "false",
    }
    before = {name: spark.conf.get(name) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        assert logs.ingest(FIFTH, FIFTH).counts.rows_kept == 8
        unread = ("features.fields.item_category=null", "features.fields.category_natural_rate_7=null")
        list(looked_at(spark, logs.config(*unread)))
    finally:
        for name, former in before.items():
            spark.conf.set(name, str(former))


def test_profiles_that_are_not_in_the_folder_stay(logs: Logs) -> None:
    logs.write("impressions", day(5))
    first = ["u1,2024-01-01,old", "u2,2024-01-01,old", "u2,2024-01-01,old", " ,,x"]
    logs.write("users", first, "user_id,valid_from,plan")
    assert logs.ingest(FIFTH, FIFTH).counts == Counts(rows_read=10, rows_kept=8, duplicates=1, quarantined=1)
    logs.write("users", ["u1,2024-01-01,new", "u1,2024-01-03,newer"], "user_id,valid_from,plan")
    assert logs.ingest(FIFTH, FIFTH).counts == Counts(rows_read=8, rows_kept=8)
    version = pinned.version(logs.store.place(USERS))
    assert logs.ingest(FIFTH, FIFTH).counts == Counts(rows_read=8, rows_kept=8)
    assert pinned.version(logs.store.place(USERS)) == version  # nothing is new: it is not written again
    rows: list[Any] = logs.store.read(USERS).collect()
    assert {(row["user_id"], row["valid_from"].day, row["attributes"]["plan"]) for row in rows} == {
        ("u1", 1, "new"), ("u1", 3, "newer"), ("u2", 1, "old"),
    }  # fmt: skip
    assert logs.reasons() == {}  # the bad row was replaced with its folder
