"""Parquet files by Parquet's own types: what pyarrow can write is read, or refused by file, column and type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.sources.files import read
from tests.raw_logs import HEADER, ROW, configured, impressions, refused, values

COLUMNS = HEADER.split(",")[:6]
MOMENT = dt.datetime(2024, 1, 5, 10, 0, 0, 123456)
ZONED = MOMENT.replace(tzinfo=dt.timezone.utc)
AN_ID = UUID("12345678-1234-5678-1234-567812345678")


def write(folder: Path, event: int, **columns: pa.Array) -> Path:
    """One file of one event, e1, e2, ..., with further columns."""
    folder.mkdir(exist_ok=True)
    row = {name: pa.array([value]) for name, value in zip(COLUMNS, (f"e{event}", *ROW[1:]), strict=True)}
    pq.write_table(pa.table({**row, **columns}), folder / f"{event}.parquet")
    return folder


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([MOMENT], pa.timestamp("ns")), "2024-01-05 10:00:00.123456"),
        (pa.array([ZONED], pa.timestamp("ns", "Asia/Tokyo")), "2024-01-05 10:00:00.123456"),
        (pa.array([-1], pa.int64()).cast(pa.timestamp("ns")), "1969-12-31 23:59:59.999999"),
        (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s")), "2024-01-05 10:00:00"),
        (pa.array([dt.date(2024, 1, 5)], pa.date64()), "2024-01-05"),
        (pa.array(["x"], pa.large_string()), "x"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([b"caf\xc3\xa9"]), "café"),
        (pa.array([b"\xff\x00"]), "ff00"),
        (pa.array([AN_ID.bytes], pa.binary(16)), AN_ID.hex),
        (pa.array([2**63], pa.uint64()), str(2**63)),
        (pa.array([200], pa.uint8()), "200"),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([None], pa.null()), None),
        (pa.array([["a"]], pa.large_list(pa.large_string())), "[a]"),
        (pa.array([7], pa.duration("s")), "7"),
    ],
)
def test_types_are_read_as_parquet_has_them(
    spark: SparkSession, tmp_path: Path, column: pa.Array, expected: str | None
) -> None:
    folder = write(tmp_path / "logs", 1, **{"a value": column})
    (row,) = impressions(spark, "parquet", folder).selectExpr("cast(`a value` as string)").collect()
    assert row[0] == expected


@pytest.mark.parametrize(
    ("some", "others", "kind", "expected"),
    [
        (pa.array([7], pa.int8()), pa.array([2**40]), "bigint", [7, 2**40]),
        (pa.array([7], pa.uint16()), pa.array([8], pa.int32()), "int", [7, 8]),
        (pa.array([0.5], pa.float32()), pa.array([0.1]), "double", [0.5, 0.1]),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("9.25")]), "decimal(3,2)", [Decimal("1.50"), Decimal("9.25")]),
        (pa.array(["x"]), pa.array([None], pa.null()), "string", ["x", None]),
        (pa.array([None], pa.null()), pa.array([7]), "bigint", [None, 7]),
        (pa.array([None], pa.null()), pa.array([None], pa.null()), "string", [None, None]),
        (pa.array(["x"]), pa.array(["x"], pa.large_string()).dictionary_encode(), "string", ["x", "x"]),
        (pa.array(["x"]), pa.array([b"y"]), "string", ["x", "y"]),
        (pa.array(["007"]), pa.array([7]), "string", ["007", "7"]),
        (pa.array([7]), pa.array([True]), "string", ["7", "true"]),
        (pa.array([ZONED], pa.timestamp("ms", "UTC")), pa.array([ZONED], pa.timestamp("ns", "UTC")), "timestamp", None),
        (pa.array([MOMENT], pa.timestamp("us")), pa.array([MOMENT], pa.timestamp("ns")), "timestamp_ntz", None),
        (
            pa.array([ZONED], pa.timestamp("us", "UTC")), pa.array([MOMENT], pa.timestamp("us")), "string",
            ["2024-01-05T10:00:00.123456Z", "2024-01-05T10:00:00.123456"],
        ),
        (pa.array([{"a": 1}]), pa.array(["x"]), "string", ['{"a":1}', "x"]),
    ],
)  # fmt: skip
def test_a_column_of_several_types_is_widened_or_becomes_text(
    spark: SparkSession, tmp_path: Path, some: pa.Array, others: pa.Array, kind: str, expected: list[Any] | None
) -> None:
    folder = write(write(tmp_path / "logs", 1, value=some), 2, value=others)
    frame = impressions(spark, "parquet", folder)
    assert dict(frame.dtypes)["value"] == kind
    rows = [row["value"] for row in frame.orderBy("event_id").collect()]
    assert expected is None or rows == expected


@pytest.mark.parametrize("form", ["us", "ns"])
def test_a_time_without_a_zone_is_the_same_in_every_session(spark: SparkSession, tmp_path: Path, form: str) -> None:
    folder = write(tmp_path / "logs", 1, shown=pa.array([MOMENT], pa.timestamp(form)))
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        (row,) = impressions(spark, "parquet", folder).selectExpr("cast(shown as string)").collect()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert row[0] == "2024-01-05 10:00:00.123456"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([dt.time(1, 2)], pa.time64("us")), "Time"),
        (pa.array([dt.time(1, 2)], pa.time32("ms")), "Time"),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 3)), "Decimal(precision=50, scale=3)"),
        (pa.array([{"at": dt.time(1, 2)}], pa.struct([("at", pa.time64("us"))])), "Time"),
    ],
)
def test_a_type_that_spark_cannot_read_is_refused(
    spark: SparkSession, tmp_path: Path, column: pa.Array, kind: str
) -> None:
    folder = write(write(tmp_path / "logs", 1), 2, odd=column)
    said = refused(spark, "parquet", folder)
    assert f"{folder / '2.parquet'}: the column odd" in said and f"has the type {kind}" in said


def test_a_column_twice_or_in_other_capitals_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = write(write(tmp_path / "logs", 1), 2, User_ID=pa.array(["x"]))
    said = refused(spark, "parquet", folder)
    assert f"{folder / '2.parquet'} has a column User_ID beside user_id" in said
    table = pq.read_table(folder / "1.parquet")
    twice = pa.Table.from_arrays([*table.columns, table["user_id"]], [*COLUMNS, "user_id"])
    pq.write_table(twice, folder / "2.parquet")
    assert "has the column user_id twice" in refused(spark, "parquet", folder)


@pytest.mark.parametrize("column", ["_metadata", "_corrupt_record"])
def test_a_column_of_spark_s_own_names_is_refused(spark: SparkSession, tmp_path: Path, column: str) -> None:
    folder = write(tmp_path / "logs", 1, **{column: pa.array(["x"])})
    assert f"{folder / '1.parquet'} has a column {column}" in refused(spark, "parquet", folder)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"no parquet at all, but long enough", b"PAR1" + bytes(40) + b"PAR1"]
)
def test_what_is_not_parquet_is_named(spark: SparkSession, tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "logs", 1)
    (folder / "2.parquet").write_bytes(content)
    assert f"{folder / '2.parquet'} is not a complete Parquet file" in refused(spark, "parquet", folder)


def test_the_rows_of_all_files_are_known_without_reading_them(spark: SparkSession, tmp_path: Path) -> None:
    folder = write(write(tmp_path / "logs", 1, value=pa.array([1], pa.int32())), 2, value=pa.array([2]))
    pq.write_table(pq.read_table(folder / "2.parquet").slice(0, 0), folder / "3.parquet")
    found = read(spark, configured("parquet", folder)).described["impressions"]
    assert (found.rows, found.columns["value"]) == (2, "int, bigint")
    assert values(spark, "parquet", folder, "value") == {"e1": 1, "e2": 2}
