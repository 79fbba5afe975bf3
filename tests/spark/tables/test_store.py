"""Tables change in whole slices, once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.failures import explain
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS, Table
from ecdctr_spark.tables.small import among, literal, read_rows, replace_rows
from ecdctr_spark.tables.store import Store

COUNTS = Table(name="counts", columns="key string, n int, ds date", key=("key",), partitions=("ds",))


@pytest.fixture
def store(spark: SparkSession, tmp_path: Path) -> Store:
    return Store(Session.of(spark), Root.parse(tmp_path))


def rows(spark: SparkSession, *values: tuple[str, int, str]) -> DataFrame:
    frame = spark.createDataFrame(list(values), "key string, n int, ds string")
    return frame.selectExpr("key", "n", "cast(ds as date) ds")


def content(store: Store) -> list[tuple[str, int]]:
    return sorted((row.key, row.n) for row in store.read(COUNTS).collect())


def test_a_table_that_was_never_written_reads_as_empty(store: Store) -> None:
    assert store.read(COUNTS).count() == 0
    assert store.read(COUNTS).columns == ["key", "n", "ds"]


def test_replacing_a_slice_leaves_the_others_alone_and_twice_equals_once(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01"), ("b", 2, "2020-01-02")), "true")
    for _ in range(2):
        store.replace(COUNTS, rows(store.spark, ("c", 3, "2020-01-02")), "ds = '2020-01-02'")
        assert content(store) == [("a", 1), ("c", 3)]


def test_a_row_outside_the_slice_is_refused_and_nothing_changes(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    with pytest.raises(Exception, match=r"replaceWhere|DELTA_REPLACE_WHERE_MISMATCH"):
        store.replace(COUNTS, rows(store.spark, ("x", 9, "2020-01-05")), "ds = '2020-01-01'")
    assert content(store) == [("a", 1)]


def test_inserting_twice_keeps_the_first_row_of_a_key(store: Store) -> None:
    store.insert_new(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")))
    store.insert_new(COUNTS, rows(store.spark, ("a", 7, "2020-01-03"), ("b", 2, "2020-01-03")))
    assert content(store) == [("a", 1), ("b", 2)]


def test_a_missing_or_mistyped_column_is_named(store: Store) -> None:
    good = rows(store.spark, ("a", 1, "2020-01-01"))
    with pytest.raises(ValueError, match="counts: column n is missing"):
        store.replace(COUNTS, good.drop("n"), "true")
    with pytest.raises(ValueError, match="counts: column n is bigint, expected int"):
        store.replace(COUNTS, good.selectExpr("key", "cast(n as bigint) n", "ds"), "true")


def test_a_table_of_other_columns_is_reported_in_one_line_and_left_alone(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    wider = replace(COUNTS, columns=f"{COUNTS.columns}, age int")
    with pytest.raises(ConfigError, match=r"table counts .*other columns than it was made with \(age\)"):
        store.replace(wider, rows(store.spark, ("b", 2, "2020-01-02")).selectExpr("*", "1 age"), "true")
    assert content(store) == [("a", 1)]


@pytest.mark.parametrize("table", [COUNTS, replace(COUNTS, varied=("key",))])
def test_what_a_writer_left_that_was_stopped_before_the_first_commit_is_no_table(store: Store, table: Table) -> None:
    store.place(table).at("_delta_log", ".00000000000000000000.json.1f2e.tmp").write_bytes(b"{")
    assert not store.exists(table) and store.read(table).count() == 0
    store.replace(table, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    assert content(store) == [("a", 1)]


def test_files_without_a_commit_are_named_and_left_alone(store: Store) -> None:
    file = store.place(COUNTS).at("ds=2020-01-01", "part-0.parquet")
    file.write_bytes(b"of value?")
    new = rows(store.spark, ("a", 1, "2020-01-01"))
    for use in (
        lambda: store.read(COUNTS),
        lambda: store.replace(COUNTS, new, "true"),
        lambda: store.insert_new(COUNTS, new),
    ):
        with pytest.raises(ConfigError, match=r"counts: holds ds=2020-01-01/part-0.parquet but no commit .*remove"):
            use()
    assert file.read_bytes() == b"of value?"


def test_a_missing_file_of_a_table_is_the_users_on_one_line(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    place = store.place(COUNTS)
    (file,) = (place.at(name) for name in place.files() if name.endswith(".parquet"))
    file.remove()
    with pytest.raises(Exception) as failed:
        store.read(COUNTS).collect()
    line, code = explain(failed.value)
    assert line.startswith("a file is missing") and file.name in line and code == 2


@pytest.mark.parametrize("damage", [b"", b'{"commitInfo":{"time'])
def test_a_commit_that_is_cut_off_is_the_users_on_one_line(store: Store, damage: bytes) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    place = store.place(COUNTS)
    for name in place.files():
        if name.endswith((".json", ".crc")):
            place.at(name).remove()
    place.at("_delta_log", f"{0:020}.json").write_bytes(damage)
    fresh = store.spark.newSession()  # which has not read the table yet
    with pytest.raises(Exception) as failed:
        Store(Session.of(fresh), store.root).read(COUNTS).collect()
    line, code = explain(failed.value)
    assert line.startswith("a table is half-made or damaged") and code == 2, line


def test_another_reader_sees_the_same_rows(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01")), "true")
    query = QueryBuilder().register("counts", DeltaTable(store.place(COUNTS).uri))
    assert pa.table(query.execute("select n from counts").read_all()).to_pylist() == [{"n": 1}]


def test_spark_and_delta_rs_read_each_others_small_tables(store: Store) -> None:
    root, day = Root(str(store.root)), dt.date(2020, 1, 1)
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01"), ("b", 2, "2020-01-02")), "true")
    replace_rows(root, COUNTS, [{"key": "c", "n": 3, "ds": day}], f"ds = {literal(day)}")
    assert content(store) == [("b", 2), ("c", 3)]
    assert sorted((row["key"], row["n"], row["ds"].day) for row in read_rows(root, COUNTS)) == [
        ("b", 2, 2),
        ("c", 3, 1),
    ]
    model = {
        "model_id": "m",
        "tables": {"t": 1},
        "days": [day],
        "created": dt.datetime(2020, 1, 1, 9, tzinfo=dt.timezone.utc),
    }
    replace_rows(root, MODELS, [model], among("model_id", ["m"]))
    store.replace(MODELS, store.read(MODELS), "true")  # Spark writes what it read
    assert [{name: row[name] for name in model} for row in read_rows(root, MODELS)] == [model]
    store.replace(MODELS, store.read(MODELS).unionByName(store.read(MODELS)), "true")
    assert len(read_rows(root, MODELS)) == 2


def test_no_dictionary_is_made_of_a_column_that_rarely_repeats_a_value(store: Store) -> None:
    varied = replace(COUNTS, varied=("key",))
    store.replace(varied, rows(store.spark, *(("a", 1, "2020-01-01") for _ in range(100))), "true")
    (file,) = Path(store.place(varied).uri).rglob("*.parquet")
    columns = pq.read_metadata(file).row_group(0).to_dict()["columns"]
    assert {column["path_in_schema"]: column["has_dictionary_page"] for column in columns} == {"key": False, "n": True}


def test_rows_that_are_removed_are_counted_and_the_second_time_there_are_none(store: Store) -> None:
    store.replace(COUNTS, rows(store.spark, ("a", 1, "2020-01-01"), ("b", 1, "2020-01-01")), "true")
    keys = store.spark.createDataFrame([("a",)], "key string")
    assert [store.delete(COUNTS, keys, "kept.key = keys.key") for _ in range(2)] == [1, 0]
