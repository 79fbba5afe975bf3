"""What the vocabulary holds is counted as Spark would count it, without Spark."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import day_of
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import VOCABULARY
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tables.survey import survey

UTC = dt.timezone.utc
RESERVED = [
    ("", "padding", "0", 0, None), ("user_id", "null", "0", 1, None), ("user_id", "unknown", "0", 2, None),
    ("user_id", "unknown", "1", 3, None), ("seen", "bucket", "0", 4, None), ("seen", "bucket", "1", 5, None),
]  # fmt: skip


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_rows_of_each_day_are_those_that_spark_counts(spark: SparkSession, tmp_path: Path, timezone: str) -> None:
    store = Store(Session.of(spark), Root.parse(tmp_path))
    tokens = [
        ("user_id", "token", f"u{hour}", 6 + hour, dt.datetime(2024, 1, 1, tzinfo=UTC) + dt.timedelta(hours=hour))
        for hour in range(60)
    ]
    for rows in (RESERVED + tokens[:10], tokens[10:], [("user_id", "forgotten", "9", 66, dt.datetime(1970, 1, 1))]):
        store.insert_new(VOCABULARY, spark.createDataFrame(rows, VOCABULARY.columns))
    found = survey(store.place(VOCABULARY), pinned.version(store.place(VOCABULARY)), timezone)
    rows = store.read(VOCABULARY)
    day = F.coalesce(day_of("since", timezone), F.lit(dt.date(1970, 1, 1)))
    counted = rows.groupBy(day.alias("day")).agg((F.max("index") + 1).alias("rows")).orderBy("day").collect()
    assert [tuple(row) for row in counted] == sorted(found.by_day.items())
    blocks = rows.groupBy("field", "kind").agg(F.min("index"), F.count("index")).collect()
    assert {(field, kind): tuple(block) for field, kind, *block in blocks} == found.blocks
    assert found.starts == {"user_id": 2, "seen": 4} and found.next_index == 67
    assert (found.held("user_id"), found.held("seen")) == (61, 2)


def test_an_older_version_has_the_rows_of_its_time(spark: SparkSession, tmp_path: Path) -> None:
    store = Store(Session.of(spark), Root.parse(tmp_path))
    store.insert_new(VOCABULARY, spark.createDataFrame(RESERVED, VOCABULARY.columns))
    before = pinned.version(store.place(VOCABULARY))
    more = [("user_id", "token", "u", 6, dt.datetime(2024, 1, 1))]
    store.insert_new(VOCABULARY, spark.createDataFrame(more, VOCABULARY.columns))
    assert survey(store.place(VOCABULARY), before, "UTC").rows(dt.date(2024, 1, 2)) == 6
    assert survey(store.place(VOCABULARY), before + 1, "UTC").rows(dt.date(2024, 1, 2)) == 7
