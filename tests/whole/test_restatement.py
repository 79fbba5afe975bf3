"""What comes late restates the days it touches: day by day or all at once, the tables are the same."""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.pipeline import steps
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import CONTENT, DAILY_COUNTS, LABELLED, VOCABULARY, samples_table
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.tables.store import Store

FIRST = dt.date(2024, 1, 1)
DAYS = 4  # the last one is built without the first: features look back on the days before it
MATURITY = 2
FEATURES = """
features:
  inherit: false
  fields:
    user_id: {kind: id, source: user_id, basic: true}
    item_id: {kind: id, source: item_id, basic: true}
    shown: {kind: count, entity: user_id, domain: natural, measure: impressions, days: 7}
    liked: {kind: rate, entity: item_id, domain: natural, days: 7}
    recent: {kind: behaviours, of: item_id, length: 3}
"""


class Row(NamedTuple):
    """A raw impression, its click if any, and the day on which each arrives in the logs."""

    event: str
    time: dt.datetime
    user: str
    item: str
    arrives: int
    clicked: dt.datetime | None = None
    click_arrives: int = 0


def moment(day: int, hour: float) -> dt.datetime:
    return dt.datetime.combine(FIRST, dt.time()) + dt.timedelta(days=day, hours=hour)


def punctual() -> list[Row]:
    """Twenty natural impressions per day; every third is clicked ten hours later, often on the next day."""
    chance = random.Random(4)
    rows = []
    for day in range(DAYS):
        for number in range(20):
            time = moment(day, number + 0.5)
            clicked = time + dt.timedelta(hours=10) if number % 3 == 0 else None
            arrives = (clicked.date() - FIRST).days if clicked else 0
            user, item = f"u{chance.randrange(4)}", f"i{chance.randrange(5)}"
            rows.append(Row(f"{day}-{number}", time, user, item, day, clicked, arrives))
    return rows


def late() -> list[Row]:
    """An impression and clicks of the first day that arrive on later ones."""
    return [
        Row("late impression", moment(0, 21.25), "u1", "i1", 2, moment(0, 21.5), 2),
        Row("late click", moment(0, 22.25), "u2", "i2", 0, moment(0, 22.5), 2),
        # Of the last day that is read again, a click of the day before it.
        Row("late click of the next day", moment(0, 23.25), "u3", "i3", 0, moment(1, 9.5), 1 + MATURITY),
    ]


def write(folder: Path, rows: Sequence[Row], by: int) -> None:
    """The logs as they are at the end of the by-th day."""
    shown = [(row.event, row.time.isoformat(), "natural", row.user, row.item) for row in rows if row.arrives <= by]
    clicks = [(row.event, row.clicked.isoformat()) for row in rows if row.clicked and row.click_arrives <= by]
    for name, columns, lines in (
        ("impressions", ("event_id", "event_time", "domain", "user_id", "item_id"), shown),
        ("clicks", ("event_id", "click_time"), clicks),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with (folder / name / "part.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *lines])


def configured(folder: Path, maturity: int = MATURITY) -> Config:
    overlay = folder.parent / "overlay.yaml"
    overlay.write_text(FEATURES)
    logs = [f"source.{name}={folder / name}" for name in ("impressions", "clicks")]
    settings = ["source.format=csv", f"calendar.first_day={FIRST}", f"labels.maturity_days={maturity}"]
    return load_config([overlay], [*settings, *logs])


def day_by_day(store: Store, config: Config, folder: Path, rows: Sequence[Row]) -> None:
    """Each day ingested and built at its end, from the logs as they are by then."""
    for number in range(DAYS):
        write(folder, rows, number)
        day = FIRST + dt.timedelta(days=number)
        ingest(store, config, day, day)
        steps.build(store, config, day, day)


def at_once(store: Store, config: Config, folder: Path, rows: Sequence[Row]) -> None:
    """All days from the whole logs."""
    write(folder, rows, DAYS)
    last = FIRST + dt.timedelta(days=DAYS - 1)
    ingest(store, config, FIRST, last)
    steps.build(store, config, FIRST, last)


def tables(store: Store, config: Config) -> dict[str, list[Any]]:
    """Labelled rows, counts, and samples with each row of the embedding as the token that it stands for."""
    tokens = {row["index"]: (row["field"], row["kind"], row["token"]) for row in store.read(VOCABULARY).collect()}
    samples = []
    for row in store.read(samples_table(config.features)).collect():
        clicks = [tokens.get(int.from_bytes(row["recent"][at : at + 4], "big")) for at in range(0, 12, 4)]
        own = [tokens[row[name]] for name in ("user_id", "item_id", "shown")]
        samples.append((row["event_id"], row["label"], row["weight"], row["liked"], *own, *clicks))
    return {
        "labelled": everything(store.read(LABELLED)),
        "daily_counts": everything(store.read(DAILY_COUNTS)),
        "samples": sorted(samples, key=str),
    }


def everything(frame: DataFrame) -> list[str]:
    return sorted(str(row) for row in frame.collect())


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The tables of one back-fill over everything, late rows included."""
    root = tmp_path_factory.mktemp("whole")
    config = configured(root / "logs")
    store = Store(Session.of(spark), Root.parse(root / "root"))
    at_once(store, config, root / "logs", [*punctual(), *late()])
    return tables(store, config)


def test_days_one_by_one_with_rows_that_come_late_equal_one_back_fill(
    spark: SparkSession, tmp_path: Path, whole: dict[str, list[Any]]
) -> None:
    config = configured(tmp_path / "logs")
    store = Store(Session.of(spark), Root.parse(tmp_path / "root"))
    day_by_day(store, config, tmp_path / "logs", [*punctual(), *late()])
    found = tables(store, config)
    assert found["labelled"] == whole["labelled"]
    assert found["daily_counts"] == whole["daily_counts"]
    assert found["samples"] == whole["samples"]


def test_a_day_that_holds_other_samples_has_changed_and_no_other_has(spark: SparkSession, tmp_path: Path) -> None:
    config = configured(tmp_path / "logs")
    store = Store(Session.of(spark), Root.parse(str(tmp_path / "root")))
    at_once(store, config, tmp_path / "logs", punctual())
    first = changes(store)
    steps.build(store, config, FIRST, FIRST)
    assert changes(store) == first  # a day built again, alone, is as it was
    write(tmp_path / "logs", [*punctual(), late()[1]], DAYS)
    ingest(store, config, FIRST, FIRST)
    steps.build(store, config, FIRST, FIRST)
    later = changes(store)
    assert {day for day in later if later[day] != first[day]} == {FIRST}


def changes(store: Store) -> dict[dt.date, dt.datetime]:
    """When the natural samples of each day changed last."""
    rows = read_rows(store.home(CONTENT.scope), CONTENT)
    return {row["ds"]: row["changed"] for row in rows if row["domain"] == "natural"}
