"""make years: about three years of nightly runs on a small platform, in one process. A table of what a night costs and
what is left behind, and .bench/years.json.

A night here takes seconds, so storage.tidy_days is as much shorter (platform.py).
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console

from ecdctr_spark import cli
from ecdctr_spark.methods.planning import days
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from tests.benchmarks.results import Result, at_most, plain, publish
from tests.sessions import TINY_ARGUMENTS
from tests.years.platform import FIRST_DAY, FIRST_NIGHT, write_day, write_overlay

_LOOKS = 20  # at what is there
_SAME = 1.3  # times as much, of what should stay the same from the first quarter to the end


class Seen(NamedTuple):
    """After some nights: the median seconds of those since the last look, what the processes hold, and what is on
    the disk."""

    nights: int
    seconds: float
    driver_mb: float
    jvm_mb: float
    temporary: int
    files: int
    stored_mb: float
    logs_mb: float
    vocabulary: int


def main(nights: int) -> None:
    """Runs them one by one."""
    with tempfile.TemporaryDirectory(prefix="years-") as place:
        folder = Path(place)
        temporary = folder / "t"
        temporary.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        os.environ["PYSPARK_SUBMIT_ARGS"] = TINY_ARGUMENTS
        write_overlay(folder / "years.yaml")
        publish("years", table(lived(folder, nights)), ["pyspark", "delta-spark", "torch"])


def lived(folder: Path, nights: int) -> list[Seen]:
    """What is seen now and then."""
    seconds: list[float] = []
    seen: list[Seen] = []
    for number in range(1, nights + 1):
        seconds.append(night(folder, FIRST_NIGHT + dt.timedelta(days=number - 1)))
        if number % max(1, nights // _LOOKS) == 0:
            seen.append(look(folder, number, statistics.median(seconds)))
            seconds.clear()
            Console(stderr=True).print(seen[-1], highlight=False)
    return seen


def night(folder: Path, day: dt.date) -> float:
    """Runs a day, whose predictions need models of the day before; returns the seconds that it took."""
    logs = folder / "drop" / str(day)
    for written in days(FIRST_DAY if day == FIRST_NIGHT else day, day):
        write_day(logs, written)
    sources = (f"source.{log}={logs / log}" for log in ("impressions", "users", "items"))
    settings = [option for each in (f"storage.root={folder}/root", *sources) for option in ("--set", each)]
    started = time.monotonic()
    cli.main(["run", "--quiet", "--from", str(day), "--to", str(day), "--conf", str(folder / "years.yaml"), *settings])
    took = time.monotonic() - started
    shutil.rmtree(logs)
    return took


def look(folder: Path, nights: int, seconds: float) -> Seen:
    """What is there now."""
    own = psutil.Process()
    java = [child for child in own.children(recursive=True) if child.name() == "java"]
    files = [file for file in (folder / "root").rglob("*") if file.is_file()]
    vocabularies = (folder / "root").glob("data_set/*/tables/vocabulary")
    return Seen(
        nights=nights,
        seconds=seconds,
        driver_mb=own.memory_info().rss / 1e6,
        jvm_mb=sum(process.memory_info().rss for process in java) / 1e6,
        temporary=sum(file.is_file() for file in (folder / "t").rglob("*")),
        files=len(files),
        stored_mb=sum(file.stat().st_size for file in files) / 1e6,
        logs_mb=sum(file.stat().st_size for file in files if "_delta_log" in file.parts) / 1e6,
        vocabulary=sum(rows(Root.parse(place)) for place in vocabularies),
    )


def rows(table: Root) -> int:
    """Of the newest version of a table."""
    return sum(file.rows for file in pinned.files(table, pinned.version(table), {}))


def table(seen: list[Seen]) -> list[Result]:
    """What is seen, by number of nights, and how the end compares with the first quarter."""
    early, late = seen[len(seen) // 4], seen[-1]
    shown = [plain(f"after {each.nights} nights: {name}", value, "")
             for each in seen[:: max(1, len(seen) // 5)]
             for name, value in each._asdict().items() if name != "nights"]  # fmt: skip
    same = [at_most(f"{name} at the end", getattr(late, name) / getattr(early, name), "times the first quarter", _SAME)
            for name in ("seconds", "driver_mb", "jvm_mb", "temporary", "vocabulary")]  # fmt: skip
    nights = late.nights - early.nights
    grown = [plain(f"{name} per night", (getattr(late, name) - getattr(early, name)) / nights, "")
             for name in ("files", "stored_mb", "logs_mb")]  # fmt: skip
    return [*shown, *same, *grown]


if __name__ == "__main__":
    main(int(sys.argv[1]))
