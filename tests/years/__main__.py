"""make years: about three years of nightly runs on a small platform. A table of what a night costs and what is left
behind, and .bench/years.json.

The platform is kept in .bench/years: a run that was stopped continues after the last night that ended, and one of more
nights after those of an earlier one. A night takes seconds here, so each seventh is given the storage.tidy_days of a
week that has passed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby, pairwise
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

_WEEK = 7  # nights
_SAID = 25  # nights between two lines of progress
_SAME = 1.3  # times as much at most
_LASTING = ("cpu_seconds", "temporary")  # should stay the same
_HELD = ("driver_mb", "jvm_mb")  # so should these, in a process
# Grow with the nights, and should do so evenly: the vocabulary is append-only, and each night has as many new ids.
_GROWING = ("files", "stored_mb", "logs_mb", "vocabulary")


class Seen(NamedTuple):
    """After a night: the seconds that it took on the clock and of all cores, what the processes hold, and what is on
    the disk."""

    process: int
    seconds: float
    cpu_seconds: float
    driver_mb: float
    jvm_mb: float
    temporary: int
    files: int
    stored_mb: float
    logs_mb: float
    vocabulary: int


def main(nights: int) -> None:
    """Runs those that have not been run yet, one by one."""
    folder = Path(".bench/years").resolve()
    temporary = folder / "t"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ["PYSPARK_SUBMIT_ARGS"] = TINY_ARGUMENTS
    write_overlay(folder / "years.yaml")
    publish("years", table(lived(folder, nights)[:nights]), ["pyspark", "delta-spark", "torch"])


def lived(folder: Path, nights: int) -> list[Seen]:
    """What is seen after each night. It is kept in a file, one line per night."""
    kept, console = folder / "nights.jsonl", Console(stderr=True)
    seen = [Seen(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    if seen:
        console.print(f"continues after {len(seen)} nights in {folder}; remove it to start anew", highlight=False)
    with kept.open("a") as file:
        while len(seen) < nights:
            worked = cpu_seconds()
            seconds = night(folder, FIRST_NIGHT + dt.timedelta(days=len(seen)))
            seen.append(look(folder, seconds, cpu_seconds() - worked))
            print(json.dumps(seen[-1]._asdict()), file=file, flush=True)
            if len(seen) % _SAID == 0:
                console.print(f"{len(seen)} of {nights}: {seen[-1]}", highlight=False)
    return seen


def night(folder: Path, day: dt.date) -> float:
    """Runs a day, whose predictions need models of the day before; returns the seconds that it took."""
    logs = folder / "drop" / str(day)
    for written in days(FIRST_DAY if day == FIRST_NIGHT else day, day):
        write_day(logs, written)
    sources = (f"source.{log}={logs / log}" for log in ("impressions", "users", "items"))
    tidy = f"storage.tidy_days={'null' if day.toordinal() % _WEEK else '0.000001'}"
    settings = [option for each in (f"storage.root={folder}/root", tidy, *sources) for option in ("--set", each)]
    started = time.monotonic()
    cli.main(["run", "--quiet", "--from", str(day), "--to", str(day), "--conf", str(folder / "years.yaml"), *settings])
    took = time.monotonic() - started
    shutil.rmtree(logs)
    return took


def cpu_seconds() -> float:
    """What this process has used so far, and all that it has started and that has ended or still runs."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in [own, *own.children(recursive=True)])


def look(folder: Path, seconds: float, worked: float) -> Seen:
    """What is there now."""
    own = psutil.Process()
    java = [child for child in own.children(recursive=True) if child.name() == "java"]
    files = [file for file in (folder / "root").rglob("*") if file.is_file()]
    vocabularies = (folder / "root").glob("data_set/*/tables/vocabulary")
    return Seen(
        process=own.pid,
        seconds=seconds,
        cpu_seconds=worked,
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


def table(seen: Sequence[Seen]) -> list[Result]:
    """What is typical of each quarter, and how the last compares with the second: the first has the calendar's first
    months in it, in which levels begin and nothing is evicted yet. What is held by a process is compared within the one
    that ran most nights."""
    longest = max((list(nights) for _, nights in groupby(seen, lambda each: each.process)), key=len)
    same = [
        at_most(f"{name}: last quarter, of the second times {_SAME}", four[-1][name], "", _SAME * four[1][name])
        for four, names in ((quarters(seen), _LASTING), (quarters(longest), _HELD))
        for name in names
    ]
    even = [
        at_most(
            f"{name}: growth to the last quarter, of that to the third times {_SAME}", rises[2], "", _SAME * rises[1]
        )
        for name in _GROWING
        for rises in [[after[name] - before[name] for before, after in pairwise(quarters(seen))]]
    ]
    shown = [
        plain(f"{name}, quarter {place} of {len(seen)} nights", value, "")
        for place, quarter in enumerate(quarters(seen), start=1)
        for name, value in quarter.items()
    ]
    return [*shown, *same, *even]


def quarters(seen: Sequence[Seen]) -> list[dict[str, float]]:
    """Medians over the nights of each quarter."""
    bounds = [len(seen) * place // 4 for place in range(5)]
    return [
        {name: statistics.median(getattr(each, name) for each in seen[first:end]) for name in Seen._fields[1:]}
        for first, end in pairwise(bounds)
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]))
