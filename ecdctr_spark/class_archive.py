"""Writes an archive of the classes that Spark and Delta load (the JVM's class data sharing): later JVMs need not load
and verify thousands of them. `make setup` runs it once Delta's jars are there."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.session import CLASS_ARCHIVE, spark_session


def archive_classes(archive: Path) -> None:
    """Replaces the archive by that of a session which has written and read a Delta table.

    Raises RuntimeError where the JVM ended without writing one.
    """
    archive.unlink(missing_ok=True)
    partial = archive.with_suffix(".partial")
    os.environ["JDK_JAVA_OPTIONS"] = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} -XX:ArchiveClassesAtExit={partial}"
    session = spark_session()
    with TemporaryDirectory() as folder:
        _work(session, folder)
    _end(session)
    if not partial.exists():
        raise RuntimeError(f"no archive of classes at {partial}: can its folder be written?")
    partial.rename(archive)


def _work(session: SparkSession, folder: str) -> None:
    """What each command does with tables: a join, a window's like, a slice that is replaced, and a read."""
    rows = session.range(1000).select("id", F.create_map(F.lit("key"), F.col("id").cast("string")).alias("attributes"))
    sliced = rows.withColumn("slice", F.pmod("id", F.lit(2)))
    counts = sliced.groupBy("slice").agg(F.count("id").alias("rows"))
    for _ in range(2):
        made = sliced.join(counts, "slice")
        writer = made.repartition(2).write.format("delta").mode("overwrite").partitionBy("slice")
        writer.option("replaceWhere", "slice >= 0").save(folder)
        session.read.format("delta").load(folder).where("slice = 1").groupBy("rows").agg(F.sum("id")).collect()


def _end(session: SparkSession) -> None:
    """Ends the session, and waits for its JVM, which writes the archive then."""
    gateway: Any = session.sparkContext._gateway
    session.stop()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    archive_classes(CLASS_ARCHIVE)
