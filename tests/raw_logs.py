"""Folders of raw logs as users leave them, and what the general source makes of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES, Raw
from tests.configured import FIRST_DAY

HEADER = "event_id,event_time,domain,user_id,item_id,clicked,title"
ROW = ("e1", "2024-01-01T10:00:00", "ad", "u1", "i1", "1")


def line(event: int, title: str = "plain") -> str:
    return f"e{event},2024-01-01T10:00:00,ad,u1,i1,1,{title}"


def laid(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Files below a folder by their path; text is encoded in UTF-8 and, in a file named .gz, compressed."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if isinstance(content, str) and name.endswith(".gz") else raw)
    return folder


def configured(form: str, folder: Path, *settings: str) -> Config:
    return load_config([], [FIRST_DAY, f"source.format={form}", f"source.impressions={folder}", *settings])


def read(spark: SparkSession, form: str, folder: Path, *settings: str) -> Raw:
    return SOURCES["files"](spark, configured(form, folder, *settings))


def impressions(spark: SparkSession, form: str, folder: Path, *settings: str) -> DataFrame:
    return read(spark, form, folder, *settings).impressions


def values(spark: SparkSession, form: str, folder: Path, column: str, *settings: str) -> dict[str, object]:
    """A column by the event's id."""
    rows = impressions(spark, form, folder, *settings).select("event_id", f"`{column}`").collect()
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1] for row in rows}


def refused(spark: SparkSession, form: str, folder: Path, *settings: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(spark, form, folder, *settings)
    assert "\n" not in str(error.value)
    return str(error.value)
