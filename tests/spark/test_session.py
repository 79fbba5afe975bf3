"""What Spark is doing can be asked while it does it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pyspark.sql import Row, SparkSession

from ecdctr_spark.progress import Tasks
from ecdctr_spark.session import CLASS_ARCHIVE, Session, watching


def test_the_tasks_of_a_job_are_counted_while_it_runs(spark: SparkSession, tmp_path: Path) -> None:
    watch, gate = watching(Session.of(spark)), tmp_path / "gate"

    def wait(rows: Iterable[Row]) -> Iterator[int]:
        """Only the first part of the rows passes before the gate is there."""
        for row in rows:
            while row.id >= 100 and not gate.exists():
                time.sleep(0.02)
            yield row.id

    def awaited(wanted: Callable[[Tasks | None], bool]) -> Tasks | None:
        """What is seen once it is as wanted, or after a minute: Spark counts a moment after it works."""
        until = time.monotonic() + 60
        while not wanted(found := watch()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    done = threading.Thread(target=spark.range(0, 400, 1, 4).rdd.mapPartitions(wait).count)
    assert awaited(lambda found: found is None) is None
    done.start()
    try:
        found = awaited(lambda found: found is not None and found.done > 0 and found.rows_per_second > 0)
    finally:
        gate.touch()
        done.join()
    assert found is not None
    assert (found.done, found.total) == (1, 4)
    assert found.rows_per_second > 0
    assert awaited(lambda found: found is None) is None


def test_nothing_is_known_of_a_session_that_has_ended() -> None:
    class Ended:
        @property
        def sparkContext(self) -> object:
            raise ConnectionRefusedError("the JVM is gone")

    assert watching(Session.of(Ended()))() is None  # type: ignore[arg-type]


def test_the_archive_of_classes_is_used_where_the_set_up_has_made_one(spark: SparkSession) -> None:
    runtime = spark._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean()  # type: ignore[union-attr]
    used = [option for option in runtime.getInputArguments() if option.startswith("-XX:SharedArchiveFile=")]
    assert used == ([f"-XX:SharedArchiveFile={CLASS_ARCHIVE}"] if CLASS_ARCHIVE.exists() else [])
