"""Runs over three days of a platform in miniature, in processes of their own, and what such a run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import METRICS, STEPS
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.training.manifests import digest
from tests.miniature import write_logs, write_overlay
from tests.sessions import TINY_ARGUMENTS

FIRST_DAY, LAST_DAY = "2024-02-26", "2024-03-06"
DAYS = ("--from", "2024-03-04", "--to", LAST_DAY)
ALL_DAYS = ("--from", FIRST_DAY, "--to", LAST_DAY)
SETTINGS = (
    "spark.driver_memory=2g",
    f"calendar.first_day={FIRST_DAY}",
    "methods.ads_only.levels.ads_only.starts_on=2024-03-03",
    # Where a level may fail, those after it are made from its previous model, and once more when it is there.
    *(f"methods.ecdctr.levels.{level}.when_it_fails=stop" for level in ("tpm", "cpm")),
)
_GONE_SECONDS = 10.0  # within which the processes of a run that was killed must have ended
# A JVM of a minute spends more on compiling well than it gains.
_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"


class Platform(NamedTuple):
    """The overlay that reads a platform's logs, and a folder for the temporary files of its runs."""

    overlay: Path
    temporary: Path


def prepared(folder: Path) -> Platform:
    """The logs, the overlay and the folder for temporary files, written below a folder."""
    write_logs(folder / "logs")
    write_overlay(folder / "miniature.yaml", folder / "logs")
    (folder / "t").mkdir()
    return Platform(folder / "miniature.yaml", folder / "t")


def begun(platform: Platform, root: Path, command: str = "run", days: Iterable[str] = DAYS) -> subprocess.Popen[str]:
    """A command that has just been started."""
    given = [argument for setting in (*SETTINGS, f"storage.root={root}") for argument in ("--set", setting)]
    line = [sys.executable, "-m", "ecdctr_spark.cli", command, *days, "--conf", str(platform.overlay), *given]
    environment = {"SPARK_SUBMIT_OPTS": _JVM, "PYSPARK_SUBMIT_ARGS": TINY_ARGUMENTS, **os.environ}
    environment["TMPDIR"] = str(platform.temporary)
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment)


def left(root: Path) -> dict[str, dict[str, object]]:
    """The weights of each model, the metrics, and the number of rows of each table: equal after equal runs. The ledger
    has a row for each time that a step was done, so it is left out."""
    models = {place.name: digest(place) for place in Root.parse(root).at("models").list() if "." not in place.name}
    rated = read_rows(Root.parse(root), METRICS)
    metrics = {f"{row['method']} {row['domain']} {row['date']}": row for row in rated}
    tables = [log.parent for log in sorted(root.rglob("_delta_log")) if log.parent.name != STEPS.name]
    rows = {str(table.relative_to(root)): _rows(Root.parse(table)) for table in tables}
    return {"models": models, "metrics": metrics, "rows": rows}


def differences(found: dict[str, dict[str, object]], expected: dict[str, dict[str, object]]) -> list[str]:
    """What two runs have not left alike: its kind, its name, and both."""
    return [
        f"{kind} {name}: {found[kind].get(name)} and not {expected[kind].get(name)}"
        for kind in expected
        for name in sorted(found[kind].keys() | expected[kind].keys())
        if found[kind].get(name) != expected[kind].get(name)
    ]


def processes(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """The driver, and all that it and its children have started."""
    try:
        driver = psutil.Process(run.pid)
        return [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def named(found: Iterable[psutil.Process], word: str) -> Iterator[psutil.Process]:
    """Those whose command line holds a word."""
    for process in found:
        try:
            if any(word in part for part in process.cmdline()):
                yield process
        except psutil.NoSuchProcess:
            continue


def shares(number: int, among: int) -> list[int]:
    """A number in parts that differ by at most one."""
    return [number // among + (place < number % among) for place in range(among)]


def gone(platform: Platform) -> bool:
    """Whether all processes of the platform's runs end in time: each names the temporary folder or the overlay. Those
    that do not are killed, so that each is found once."""
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        if not list(named(psutil.process_iter(), str(platform.temporary.parent))):
            return True
        time.sleep(0.2)
    for process in named(psutil.process_iter(), str(platform.temporary.parent)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return False


def _rows(table: Root) -> int:
    return sum(file.rows for file in pinned.files(table, pinned.version(table), {}))
