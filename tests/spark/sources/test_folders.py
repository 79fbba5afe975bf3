"""Which files below a folder are read, and what the names of their folders say."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.sources.files import read
from tests.raw_logs import HEADER, configured, impressions, laid, line, refused, values

FORMS = ("csv", "json", "parquet")


def lay_events(folder: Path, form: str, places: dict[str, int], **columns: str) -> Path:
    """One event per file; the file's name gets the ending of its format."""
    for place, event in places.items():
        path = folder / f"{place}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = dict(zip(HEADER.split(","), line(event).split(","), strict=True)) | columns
        if form == "csv":
            path.write_text("\n".join([",".join(row), ",".join(row.values())]))
        elif form == "json":
            path.write_text(json.dumps(row))
        else:
            pd.DataFrame([row]).to_parquet(path)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_files_at_any_depth_are_read_and_others_are_named(spark: SparkSession, tmp_path: Path, form: str) -> None:
    places = {"top": 1, "2024/01/05/part": 2, "archive/a [1] {x} 50%": 3, "_old/part": 4, ".part": 5, "_part": 6}
    folder = lay_events(tmp_path / "logs", form, places)
    assert values(spark, form, folder, "title").keys() == {"e1", "e2", "e3"}
    found = read(spark, configured(form, folder)).described["impressions"]
    assert sorted(Path(name).stem for name in found.files) == ["a [1] {x} 50%", "part", "top"]
    assert found.size == sum(Path(name).stat().st_size for name in found.files)
    assert dict(found.left_out) == {
        f"_old/part.{form}": "_old begins with _",
        f".part.{form}": f".part.{form} begins with .",
        f"_part.{form}": f"_part.{form} begins with _",
    }
    assert found.rows == (None if form == "json" else 3)


@pytest.mark.parametrize("form", FORMS)
def test_values_of_folders_are_text_as_written(spark: SparkSession, tmp_path: Path, form: str) -> None:
    shops = ["007", "7", "1e3", "2024-01-05", "true", "a b+c", "x=y/z%", "über", " 1.0 "]
    places = {f"shop={quote(shop, safe=' +')}/part": event for event, shop in enumerate(shops)}
    folder = lay_events(tmp_path / "logs", form, {**places, "shop=__HIVE_DEFAULT_PARTITION__/part": 9})
    expected = {f"e{event}": shop for event, shop in enumerate(shops)}
    assert values(spark, form, folder, "shop") == {**expected, "e9": None}


@pytest.mark.parametrize("form", FORMS)
def test_folders_of_several_depths_may_mix(spark: SparkSession, tmp_path: Path, form: str) -> None:
    places = {"top": 1, "shop=07/part": 2, "year=2024/shop=08/part": 3, "shop=09/archive/part": 4, "shop=1/year=2/p": 5}
    folder = lay_events(tmp_path / "logs", form, places)
    shops = {"e1": None, "e2": "07", "e3": "08", "e4": "09", "e5": "1"}
    assert values(spark, form, folder, "shop") == shops
    assert values(spark, form, folder, "year") == dict.fromkeys(shops) | {"e3": "2024", "e5": "2"}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_the_files_is_not_overwritten_by_their_folder(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    folder = lay_events(tmp_path / "logs", form, {"title=other/part": 1})
    assert values(spark, form, folder, "title") == {"e1": "plain"}
    assert impressions(spark, form, folder).columns.count("title") == 1


def test_required_columns_may_be_folders(spark: SparkSession, tmp_path: Path) -> None:
    names = HEADER.replace("domain,", "").split(",")
    row = "e1,2024-01-01T10:00:00,u1,i1,1,plain"
    folder = laid(tmp_path / "logs", {"domain=natural/1.csv": f"{','.join(names)}\n{row}\n"})
    assert values(spark, "csv", folder, "domain") == {"e1": "natural"}


def test_folders_whose_names_differ_only_in_capitals_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = lay_events(tmp_path / "logs", "csv", {"shop=1/a": 1, "Shop=2/a": 2})
    assert "they differ only in capitals" in refused(spark, "csv", folder)


def test_a_percent_that_is_no_escape_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = lay_events(tmp_path / "logs", "csv", {"discount=50%/a": 1})
    assert "the folder discount=50% has a % that starts no escape" in refused(spark, "csv", folder)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_empty_files_are_left_out_and_a_folder_of_such_is_refused(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    folder = lay_events(tmp_path / "logs", form, {"1": 1})
    (folder / f"0.{form}").touch()
    assert values(spark, form, folder, "title") == {"e1": "plain"}
    found = read(spark, configured(form, folder)).described["impressions"]
    assert found.left_out == ((f"{folder}/0.{form}", "the file is empty"),)
    (folder / f"1.{form}").unlink()
    assert "the folder is empty, but for" in refused(spark, form, folder)


def test_one_file_may_be_named_itself(spark: SparkSession, tmp_path: Path) -> None:
    folder = lay_events(tmp_path / "logs", "csv", {"1": 1, "2": 2})
    assert values(spark, "csv", folder / "2.csv", "title") == {"e2": "plain"}


def test_what_spark_writes_beside_its_files_is_no_file_left_out(spark: SparkSession, tmp_path: Path) -> None:
    folder = lay_events(tmp_path / "logs", "csv", {"1": 1})
    for name in ("_SUCCESS", "._SUCCESS.crc", ".1.csv.crc", "_committed_123"):
        (folder / name).touch()
    assert read(spark, configured("csv", folder)).described["impressions"].left_out == ()


def test_a_json_row_without_a_key_has_its_folder_s_value_where_another_file_has_the_key(
    spark: SparkSession, tmp_path: Path
) -> None:
    row = (
        '{"event_id": "%s", "event_time": "2024-01-05", "domain": "ad", "user_id": "u", "item_id": "i", "clicked": 0%s}'
    )
    folder = laid(
        tmp_path,
        {"shop=007/p.json": row % ("e1", "") + "\n", "shop=7/p.json": row % ("e2", ', "shop": "inner"') + "\n"},
    )
    assert values(spark, "json", folder, "shop") == {"e1": "007", "e2": "inner"}
