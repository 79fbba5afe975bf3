"""The files of a pinned version, without Spark: the right ones, in an order that depends on the rows alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned


def frame(spark: SparkSession, rows: int) -> DataFrame:
    """`rows` numbers over two domains, one with a name that paths must escape, and two days, written by two tasks."""
    return spark.range(0, rows, numPartitions=2).selectExpr(
        "id",
        "if(id % 2 = 0, 'ad', 'a b:%') domain",
        "date_add(date'2020-01-01', cast(id div 2 % 2 as int)) ds",
    )


def write(data: DataFrame, path: Path, mode: str = "append") -> Root:
    data.write.format("delta").partitionBy("domain", "ds").mode(mode).save(str(path))
    return Root(str(path))


def ids(file: pinned.DataFile) -> list[int]:
    return pq.ParquetFile(file.path).read(columns=["id"]).column("id").to_pylist()


def test_files_are_where_their_uris_say_and_hold_as_many_rows_as_counted(spark: SparkSession, tmp_path: Path) -> None:
    path = write(frame(spark, 32), tmp_path / "a table")
    found = pinned.files(path, 0, {})
    assert sorted(number for file in found for number in ids(file)) == list(range(32))
    assert [file.rows for file in found] == [len(ids(file)) for file in found]


def test_partitions_choose_files(spark: SparkSession, tmp_path: Path) -> None:
    path = write(frame(spark, 32), tmp_path / "table")
    found = pinned.files(path, 0, {"domain": ["a b:%"], "ds": ["2020-01-02", "2020-01-03"]})
    assert sorted(number for file in found for number in ids(file)) == list(range(3, 32, 4))
    assert pinned.files(path, 0, {"domain": []}) == []
    with pytest.raises(ValueError, match="no partition columns"):
        pinned.files(path, 0, {"id": ["1"]})


def test_a_version_stays_what_it_was(spark: SparkSession, tmp_path: Path) -> None:
    path = write(frame(spark, 8), tmp_path / "table")
    first = pinned.files(path, pinned.version(path), {})
    write(frame(spark, 4), tmp_path / "table", mode="overwrite")
    assert pinned.version(path) == 1
    assert pinned.files(path, 0, {}) == first
    assert sorted(number for file in pinned.files(path, 1, {}) for number in ids(file)) == [0, 1, 2, 3]


def test_the_same_rows_written_again_come_in_the_same_order(spark: SparkSession, tmp_path: Path) -> None:
    paths = [write(frame(spark, 32), tmp_path / name) for name in ("first", "second", "third")]
    found = [pinned.files(path, 0, {}) for path in paths]
    assert [ids(file) for file in found[0]] == [ids(file) for file in found[1]] == [ids(file) for file in found[2]]
    assert [ids(file)[0] for file in found[0]] == [1, 17, 3, 19, 0, 16, 2, 18]  # by domain, day, then task


def test_what_a_reader_of_bare_parquet_would_misread_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    for name, setting, value in (
        ("deletion vectors", "delta.enableDeletionVectors", "true"),
        ("column mapping", "delta.columnMapping.mode", "name"),
    ):
        path = str(tmp_path / name)
        spark.range(1).write.format("delta").option(setting, value).save(path)
        with pytest.raises(ConfigError, match=rf"{path}: has {name}"):
            pinned.files(Root(path), 0, {})


def test_a_file_of_unknown_length_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = Root(str(tmp_path / "table"))
    spark.conf.set("spark.databricks.delta.stats.collect", "false")
    try:
        spark.range(1).write.format("delta").save(str(path))
    finally:
        spark.conf.unset("spark.databricks.delta.stats.collect")
    with pytest.raises(ConfigError, match=r"parquet: the Delta log has no row count"):
        pinned.files(path, 0, {})


def test_a_vacuum_keeps_the_newest_version_and_those_to_keep(spark: SparkSession, tmp_path: Path) -> None:
    path, table = tmp_path / "table", Root(str(tmp_path / "table"))
    for number in range(4):
        rows = spark.createDataFrame([(number, "a b:%")], "id long, domain string")
        rows.write.format("delta").mode("overwrite").partitionBy("domain").save(str(path))
    (path / "left.parquet").write_bytes(b"of a writer that was killed")
    assert pinned.vacuum(table, hours=1, keep=()) == 0
    assert pinned.vacuum(table, hours=0, keep={2, 0}) == 2
    assert [ids(file) for kept in (0, 2, 3) for file in pinned.files(table, kept, {})] == [[0], [2], [3]]
    files = {file.name for file in path.rglob("*.parquet")}
    assert len(files) == 3
    assert {file.name for file in path.rglob(".*.parquet.crc")} == {f".{name}.crc" for name in files}
    assert spark.read.format("delta").load(str(path)).count() == 1  # Spark reads what delta-rs committed


def test_spark_reads_and_writes_a_table_whose_log_was_shortened(spark: SparkSession, tmp_path: Path) -> None:
    path, table = tmp_path / "table", Root(str(tmp_path / "table"))
    often = {"delta.checkpointInterval": "2"}
    for _ in range(7):
        spark.range(1).write.format("delta").mode("append").options(**often).save(str(path))
    before = {file.name for file in (path / "_delta_log").iterdir()}
    pinned.vacuum(table, hours=0)
    gone = before - {file.name for file in (path / "_delta_log").iterdir()}
    assert {f"{0:020}.json", f".{0:020}.json.crc", f"{4:020}.checkpoint.parquet"} <= gone
    assert f"{6:020}.json" not in gone
    for session in (spark, spark.newSession()):
        assert session.read.format("delta").load(str(path)).count() == 7
    spark.range(1).write.format("delta").mode("append").save(str(path))
    assert sum(file.rows for file in pinned.files(table, pinned.version(table), {})) == 8


def test_a_missing_table_or_version_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: expected a Delta table"):
        pinned.version(Root(str(tmp_path / "nowhere")))
    spark.range(1).write.format("delta").save(str(tmp_path / "table"))
    with pytest.raises(ConfigError, match=r"table: expected version 7 of a Delta table"):
        pinned.open_table(Root(str(tmp_path / "table")), 7)
