"""make bench-spark: the cost of samples from raw logs, as a multiple of the work that no implementation can avoid.

The floor, in the same run: read the same raw impressions and clicks, shuffle them once by user, write as many bytes as
the samples take. Beside it, what a copy of the tables costs, where every value is only read and written: what is beyond
it is the pipeline's own work, what is below it is the price of keeping the steps between as tables.

In the same run too, the same features of the same logs as one PySpark job that keeps nothing (direct.py) and in DuckDB
(duck.py): of all days, and of one more day. Neither has quarantine, versions, late rows, or a point in time for the
vocabulary. tests/spark/pipeline/test_same_features.py holds the features against each other.
"""

from __future__ import annotations

import datetime as dt
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import psutil
from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.pipeline import steps
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session, spark_session
from ecdctr_spark.settings.features import Features
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import (
    CLICKS,
    DAILY_CLICKS,
    DAILY_COUNTS,
    IMPRESSIONS,
    LABELLED,
    Table,
    samples_table,
)
from ecdctr_spark.tables.store import Store
from tests.benchmarks import direct, duck
from tests.benchmarks.results import Result, at_least, at_most, plain, publish

WORK = Path(".bench/work")
DAYS = 60
HISTORY = (6, 60)  # days before the one that is built: once and ten times
ROUNDS = 3


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class TimedStore(Store):
    """Records the seconds spent on writing each table."""

    seconds: Counter[str] = field(default_factory=Counter, compare=False)

    def replace(self, table: Table, frame: DataFrame, where: str) -> None:
        """See Store."""
        self.seconds[table.name] += timed(lambda: super(TimedStore, self).replace(table, frame, where))

    def insert_new(self, table: Table, frame: DataFrame) -> None:
        """See Store."""
        self.seconds[table.name] += timed(lambda: super(TimedStore, self).insert_new(table, frame))


def main(impressions_per_day: int) -> None:
    """Benchmarks on DAYS days of `drifting` with that many impressions per day, and with a tenth of them."""
    shutil.rmtree(WORK, ignore_errors=True)
    spark = spark_session("local[2]", "4g")
    full, tenth = (drifting(f"{share}", impressions_per_day // share) for share in (1, 10))
    of_tenth, _ = build(spark, tenth)
    ours, store = build(spark, full)
    rows = DAYS * impressions_per_day
    floor = timed(lambda: floor_of(spark, full, size(store, full)))
    copied = timed(lambda: copy(store, full))
    short, long = (one_day(spark, full, history) for history in HISTORY)
    pyspark, duckdb = (others(full, make) for make in (partial(direct.build, spark), duck.build))
    publish(
        "spark",
        [
            Result("raw logs to samples", rows / ours.wall, "rows/s"),
            at_most("raw logs to samples", ours.wall / floor, "times the floor", 3),
            *(
                plain(f"of it, {table}", spent / floor, "times the floor")
                for table, spent in store.seconds.most_common()
            ),
            plain("the same tables, copied as they are", copied / floor, "times the floor"),
            at_most("a day after 10 times the history", long / short, "times", 1.2),
            at_most("10 times the rows", ours.wall / of_tenth.wall, "times", 11),
            at_least("rows/s against the direct job in PySpark", pyspark["all"].wall / ours.wall, "times", 3),
            at_least("one more day against that job", pyspark["a day"].wall / long, "times", 10),
            plain("CPU against that job", ours.cpu / pyspark["all"].cpu, "times"),
            at_most("CPU against DuckDB", ours.cpu / duckdb["all"].cpu, "times", 3),
            plain("rows/s against DuckDB", duckdb["all"].wall / ours.wall, "times"),
            plain("one more day against DuckDB", duckdb["a day"].wall / long, "times"),
        ],
        ["pyspark", "delta-spark", "duckdb"],
    )
    shutil.rmtree(WORK)


def drifting(name: str, impressions_per_day: int) -> Config:
    size_ = [f"synthetic.days={DAYS + 1}", f"synthetic.impressions_per_day={impressions_per_day}"]
    return load_config(["synthetic", "drifting"], [*size_, f"storage.root={WORK / name}"])


def build(spark: SparkSession, config: Config) -> tuple[Spent, TimedStore]:
    """What it takes from existing raw logs to the samples of all days; and the tables."""
    SOURCES["synthetic"](spark, config)
    store = TimedStore(Session.of(spark), Root.parse(config.storage.root))
    first, last = config.calendar.first_day, config.calendar.first_day + dt.timedelta(days=DAYS - 1)

    def whole() -> None:
        ingest(store, config, first, last)
        steps.build(store, config, first, last)

    return spent(whole), store


def others(config: Config, make: Callable[[Path, Path, Features, dt.date, dt.date], None]) -> dict[str, Spent]:
    """What another way to the same features takes for all days, and for the day after them."""
    raw, first = WORK / "1" / "raw" / "synthetic" / config.logs_id, config.calendar.first_day
    last = first + dt.timedelta(days=DAYS - 1)

    def made(first: dt.date, last: dt.date) -> Spent:
        return spent(lambda: make(raw, Path(mkdtemp(dir=WORK)) / "made", config.features, first, last))

    after = last + dt.timedelta(days=1)
    return {"all": made(first, last), "a day": made(after, after)}


def floor_of(spark: SparkSession, config: Config, wanted: int) -> None:
    """Reads the raw logs, shuffles them by user and writes them, as often as it takes to write the bytes wanted."""
    raw, target, written = SOURCES["synthetic"](spark, config), WORK / "floor", 0
    assert raw.clicks is not None
    raw.clicks.write.parquet(str(target / "clicks"))
    while written < wanted:
        raw.impressions.repartition(4, "user_id").write.parquet(str(target / str(written)))
        written = sum(path.stat().st_size for path in target.rglob("*.parquet"))


def copy(store: Store, config: Config) -> None:
    """Reads each of the large tables and writes what it holds, as it is, to another folder."""
    other = Store(store.session, Root.parse(WORK / "copy"))
    for table in (IMPRESSIONS, CLICKS, LABELLED, DAILY_COUNTS, DAILY_CLICKS, samples_table(config.features)):
        other.replace(table, store.read(table), "true")


def size(store: Store, config: Config) -> int:
    """Bytes of the samples."""
    folder = Path(store.place(samples_table(config.features)).uri)
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def one_day(spark: SparkSession, config: Config, history: int) -> float:
    """Median seconds from raw logs to the samples of the last day where `history` days before it are built."""
    last = config.calendar.first_day + dt.timedelta(days=DAYS)
    first = last - dt.timedelta(days=history)
    root = WORK / f"history-{history}"
    (root / "raw").mkdir(parents=True)
    (root / "raw" / "synthetic").symlink_to((Path(config.storage.root) / "raw" / "synthetic").resolve())
    own = replace(config, storage=replace(config.storage, root=str(root)))
    store = Store(Session.of(spark), Root.parse(root))
    ingest(store, own, first, last)
    steps.build(store, own, first, last - dt.timedelta(days=1))

    def once_more() -> None:
        ingest(store, own, last, last)
        steps.build(store, own, last, last)

    return statistics.median(timed(once_more) for _ in range(ROUNDS))


def spent(work: Callable[[], object]) -> Spent:
    """What the work takes of this process and of all that it has started, such as the JVM."""
    before, started = _cpu(), time.monotonic()
    work()
    return Spent(time.monotonic() - started, _cpu() - before)


def timed(work: Callable[[], object]) -> float:
    return spent(work).wall


def _cpu() -> float:
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(time.user + time.system for time in times)


if __name__ == "__main__":
    main(int(sys.argv[1]))
