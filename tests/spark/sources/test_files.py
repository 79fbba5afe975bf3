"""The general source: what a folder of logs may hold, and what is reported of one that cannot be used."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.features.ingest import judged_impressions, quarantined
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES, Raw
from ecdctr_spark.sources.values import Clock
from tests.configured import FIRST_DAY

COLUMNS = ("event_id", "event_time", "domain", "user_id", "item_id", "clicked", "title")
ROW = ("e1", "2024-01-01T10:00:00", "ad", "u1", "i1", "1")
TITLE = 'Les "Misérables", 悲慘世界,\nvolume 1'


def read(spark: SparkSession, form: str, **folders: Path) -> Raw:
    settings = [f"source.{name}={folder}" for name, folder in folders.items()]
    return SOURCES["files"](spark, load_config([], [FIRST_DAY, f"source.format={form}", *settings]))


def write_csv(folder: Path, columns: Iterable[str], *rows: Iterable[str], name: str = "part.csv") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


def write_parquet(folder: Path, name: str = "part.parquet", **columns: Any) -> Path:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame([dict(zip(COLUMNS, (*ROW, TITLE), strict=True)) | columns])
    frame.to_parquet(folder / name)
    return folder


def reported(spark: SparkSession, form: str, **folders: Path) -> str:
    with pytest.raises(ConfigError) as error:
        read(spark, form, **folders)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_titles_with_quotes_newlines_and_other_scripts_survive(spark: SparkSession, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "impressions"
    if form == "csv":
        write_csv(folder, COLUMNS, (*ROW, TITLE))
    elif form == "json":
        folder.mkdir()
        (folder / "part.json").write_text(json.dumps(dict(zip(COLUMNS, (*ROW, TITLE), strict=True))) + "\n")
    else:
        write_parquet(folder)
    checked = judged_impressions(read(spark, form, impressions=folder).impressions, Clock(), "UTC").collect()
    assert [(row["context"], row["reason"]) for row in checked] == [({"title": TITLE}, None)]


def test_all_folders_are_read_and_those_not_given_are_none(spark: SparkSession, tmp_path: Path) -> None:
    impressions = write_csv(tmp_path / "impressions", COLUMNS[:5], ROW[:5])
    clicks = write_csv(tmp_path / "clicks", ("event_id", "click_time"), ("e1", "2024-01-01T10:00:05"))
    users = write_csv(tmp_path / "users", ("user_id", "age"), ("u1", "30"), ("u2", "40"))
    raw = read(spark, "csv", impressions=impressions, clicks=clicks, users=users)
    assert raw.clicks is not None and raw.users is not None
    assert (raw.impressions.count(), raw.clicks.count(), raw.users.count()) == (1, 1, 2)
    assert raw.items is None


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_missing_or_empty_folder_is_reported(spark: SparkSession, tmp_path: Path, form: str) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    assert f"source.impressions: {missing}: no such folder" in reported(spark, form, impressions=missing)
    assert f"source.impressions: {empty}: the folder is empty" in reported(spark, form, impressions=empty)


def test_missing_columns_are_named(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "impressions", ("event_id", "user_id", "item_id", "clicked"), ("e1", "u1", "i1", "1"))
    assert "lacks the column event_time, domain; expected csv files with" in reported(spark, "csv", impressions=folder)


def test_impressions_without_clicked_need_clicks(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "impressions", COLUMNS[:5], ROW[:5])
    assert "no column clicked, and source.clicks is not set" in reported(spark, "csv", impressions=folder)


def test_a_source_without_a_folder_is_reported(spark: SparkSession) -> None:
    assert "source.impressions is not set" in reported(spark, "csv")


def test_a_truncated_parquet_file_is_named(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "impressions")
    write_parquet(folder, "broken.parquet")
    broken = folder / "broken.parquet"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert f"{broken} is not a complete Parquet file" in reported(spark, "parquet", impressions=folder)


def test_a_parquet_column_of_newer_files_alone_is_read(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "impressions", "1.parquet")
    write_parquet(folder, "2.parquet", event_id="e2", device="phone")
    rows = read(spark, "parquet", impressions=folder).impressions.orderBy("event_id").collect()
    assert [row["device"] for row in rows] == [None, "phone"]


def test_a_csv_file_with_another_header_is_named(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "impressions", COLUMNS[:6], ROW, name="1.csv")
    write_csv(folder, ("event_id", "time", *COLUMNS[2:6]), ROW, name="2.csv")
    assert f"{folder / '2.csv'} has the columns event_id, time" in reported(spark, "csv", impressions=folder)


def test_malformed_csv_lines_are_quarantined_verbatim(spark: SparkSession, tmp_path: Path) -> None:
    short, long = ("e2", "2024-01-01T10:00:00", "ad"), (*ROW, "a title", "too many")
    folder = write_csv(tmp_path / "impressions", COLUMNS, (*ROW, "a title"), short, long)
    checked = judged_impressions(read(spark, "csv", impressions=folder).impressions, Clock(), "UTC")
    bad = quarantined(checked, "impressions", None).orderBy("row").collect()
    assert checked.count() == 3
    assert [row["reason"] for row in bad] == ["row is malformed"] * 2
    assert {json.loads(row["row"])["_corrupt_record"] for row in bad} == {",".join(short), ",".join(long)}


def test_malformed_json_lines_are_quarantined_verbatim(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "impressions"
    folder.mkdir()
    good = json.dumps(dict(zip(COLUMNS, (*ROW, None), strict=True)))
    (folder / "part.json").write_text(f'{good}\n{{"event_id": "e2", "event_ti\n')
    checked = judged_impressions(read(spark, "json", impressions=folder).impressions, Clock(), "UTC").collect()
    verdicts = {row["event_id"]: row["reason"] for row in checked}
    assert verdicts == {"e1": None, None: "row is malformed"}
    assert [row["raw"]["_corrupt_record"] for row in checked if row["reason"]] == ['{"event_id": "e2", "event_ti']


def test_delta_folders_and_tables_by_one_two_or_three_names_are_logs_too(spark: SparkSession, tmp_path: Path) -> None:
    logs = spark.createDataFrame([ROW], ", ".join(f"{name} string" for name in COLUMNS[:6]))
    logs.write.format("delta").save(str(tmp_path / "delta"))
    logs.createOrReplaceTempView("raw_logs")
    logs.write.format("delta").option("path", str(tmp_path / "named")).saveAsTable("shown")
    names = ("raw_logs", "shown", "default.shown", "spark_catalog.default.shown")
    for form, where in (("delta", tmp_path / "delta"), *(("table", Path(name)) for name in names)):
        checked = judged_impressions(read(spark, form, impressions=where).impressions, Clock(), "UTC").collect()
        assert [(row["event_id"], row["reason"]) for row in checked] == [("e1", None)]
    spark.sql("drop table shown")


def test_a_delta_folder_or_table_that_is_not_there_is_reported(spark: SparkSession, tmp_path: Path) -> None:
    assert "no such folder; expected a Delta table with" in reported(spark, "delta", impressions=tmp_path / "nowhere")
    assert "the folder holds no Delta table" in reported(
        spark, "delta", impressions=write_csv(tmp_path / "csv", COLUMNS, ROW)
    )
    assert "no such table in the catalog; expected a table with" in reported(
        spark, "table", impressions=Path("nowhere")
    )
