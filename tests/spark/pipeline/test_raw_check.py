"""A look at the raw logs says what an ingest would make of them, and writes nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.pipeline.raw_check import Looked, lines_of, looked_at
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.raw import Described

IMPRESSIONS = """event_id,event_time,domain,user_id,item_id,device
e1,1704448800,ad,u1,i1,phone
e2,2024-01-05T11:00:00Z,natural,u2,i1,
e3,2024-01-08,ad,7.0,i2,phone
e4,2023-12-31T00:00:00,ad,u1,i1,phone
e5,soon,ad,u1,i1,phone
e6,2024-01-05T11:00:00Z,organic,u1,i1,phone
e7,2024
"""
CLICKS = """event_id,click_time
e1,1704448900
e9,1704448900
"""


def configured(folder: Path, *more: str) -> Config:
    for name, text in (("impressions", IMPRESSIONS), ("clicks", CLICKS)):
        (folder / name).mkdir()
        (folder / name / "part.csv").write_text(text)
        (folder / name / "_notes.txt").write_text("no data")
    folders = [f"source.{name}={folder / name}" for name in ("impressions", "clicks")]
    settings = ["source.format=csv", "source.timezone=Europe/Berlin", "calendar.first_day=2024-01-01"]
    settings += ["features.fields.item_category=null", "features.fields.category_natural_rate_7=null"]
    return load_config([], [*settings, *folders, f"storage.root={folder / 'root'}", *more])


def test_it_counts_what_would_be_read_and_refused_and_writes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    impressions, clicks = looked_at(spark, configured(tmp_path))
    assert impressions.rows == 7
    assert impressions.days == {
        dt.date(2024, 1, 5): 3, dt.date(2024, 1, 7): 1, dt.date(2023, 12, 30): 1, None: 2,
    }  # fmt: skip
    assert impressions.times == {
        "epoch seconds": 1, "ISO 8601 with a zone": 2, "ISO 8601 in Europe/Berlin": 2,
    }  # fmt: skip
    assert impressions.bad == {
        "event_time cannot be read as a time": 1,
        "domain is neither natural nor ad": 1,
        "row is malformed": 1,
    }
    assert impressions.described is not None
    assert impressions.described.left_out == (("_notes.txt", "_notes.txt begins with _"),)
    assert clicks.bad == {"click without an impression": 1}
    assert clicks.examples[0]["click_time"] == dt.datetime(2024, 1, 5, 10, 1, 40)
    assert not (tmp_path / "root").exists()


def test_an_attribute_that_the_logs_do_not_have_is_reported_at_the_end(spark: SparkSession, tmp_path: Path) -> None:
    config = configured(tmp_path, "features.fields.shown_on={kind: id, source: context.devise}")
    looked = looked_at(spark, config)
    assert [next(looked).source, next(looked).source] == ["impressions", "clicks"]
    expected = (
        "no attribute devise in the impressions, which shown_on would read as context.devise; .*: device. Correct"
    )
    with pytest.raises(ConfigError, match=expected):
        next(looked)


@pytest.mark.parametrize("source", ["context.clicked", "user.age", "item.item_id"])
def test_a_column_of_the_contract_is_no_attribute_nor_is_one_of_a_log_that_is_not_there(
    spark: SparkSession, tmp_path: Path, source: str
) -> None:
    config = configured(tmp_path, f"features.fields.odd={{kind: id, source: {source}}}")
    with pytest.raises(ConfigError, match=f"which odd would read as {source}"):
        list(looked_at(spark, config))


def test_lines_for_people() -> None:
    looked = Looked(
        source="impressions",
        columns={"event_id": "string", "event_time": "bigint"},
        rows=1_010,
        days={
            dt.date(2023, 12, 31): 5, dt.date(2024, 1, 1): 400, dt.date(2024, 1, 2): 500, dt.date(2024, 1, 5): 95,
            None: 10,
        },
        times={"epoch seconds": 1_000},
        bad={"user_id is missing": 10},
        examples=[{"event_id": "e1", "clicked": None}],
        described=Described(
            "logs", ("logs/1.parquet", "logs/2.parquet"), 2048, (("_old", "_old begins with _"),), 1_010,
            {"event_id": "string", "event_time": "int, bigint"},
        ),
    )  # fmt: skip
    assert lines_of(looked, dt.date(2024, 1, 1)) == [
        "impressions",
        "  files     2 of 2,048 bytes in logs",
        "  files     left out: _old, since _old begins with _",
        "  rows      1,010: 1,000 good, 10 to quarantine",
        "  columns   event_id string, event_time int, bigint",
        "  days      2024-01-01 to 2024-01-05: 3 days of 95 to 500 rows",
        "  days      without rows: 2024-01-03 to 2024-01-04",
        "  days      5 rows of 1 days before calendar.first_day: they are never used",
        "  times     1,000 rows: epoch seconds",
        "  bad       10 rows: user_id is missing",
        "  example   event_id=e1",
    ]
