"""Profiles as of the impression: nothing from later, and each impression stays one row."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.features.labels import label
from ecdctr_spark.features.profiles import with_profiles
from ecdctr_spark.tables.schemas import IMPRESSIONS, ITEMS, LABELLED, USERS


def labelled(spark: SparkSession, *events: tuple[str, str, str, str]) -> DataFrame:
    """Labelled impressions of the (event_id, event_time, user_id, item_id) given."""
    frame = spark.createDataFrame(list(events), "event_id string, at string, user_id string, item_id string")
    frame = frame.selectExpr(
        "event_id", "cast(at as timestamp) event_time", "'natural' domain", "user_id", "item_id",
        "map('position', '1') context", "0 clicked", "to_date(at) ds",
    )  # fmt: skip
    return label(frame.to(spark.createDataFrame([], IMPRESSIONS.columns).schema), None, 24)


def users(spark: SparkSession, *ages: tuple[str, str, str]) -> DataFrame:
    frame = spark.createDataFrame(list(ages), "user_id string, since string, age string")
    return frame.selectExpr("user_id", "cast(since as timestamp) valid_from", "map('age', age) attributes")


def items(spark: SparkSession, *categories: tuple[str, str]) -> DataFrame:
    frame = spark.createDataFrame(list(categories), "item_id string, category string")
    return frame.selectExpr("item_id", "timestamp '1970-01-01' valid_from", "map('category', category) attributes")


def test_the_row_that_applied_just_before_event_time_is_taken(spark: SparkSession) -> None:
    ages = {
        "2023-12-31 23:59:59": None,
        "2024-01-01 00:00:00": None,
        "2024-01-01 00:00:01": {"age": "30"},
        "2024-07-01 00:00:00": {"age": "30"},
        "2024-07-01 00:00:01": {"age": "31"},
        "2025-01-01 00:00:00": {"age": "31"},
    }
    events = labelled(spark, *((at, at, "u1", "i1") for at in ages))
    known = users(spark, ("u1", "2024-07-01", "31"), ("u1", "2024-01-01", "30"), ("u2", "2024-01-01", "77"))
    found = with_profiles(events, known, items(spark, ("i1", "drama")), 0).collect()
    assert {row["event_id"]: row["user"] for row in found} == ages
    assert all(row["item"] == {"category": "drama"} for row in found)


def test_a_row_applies_from_when_it_is_known(spark: SparkSession) -> None:
    events = labelled(spark, ("e1", "2024-01-01 10:30:00", "u1", "i1"), ("e2", "2024-01-01 10:30:01", "u1", "i1"))
    known = users(spark, ("u1", "2023-01-01", "30"), ("u1", "2024-01-01 10:00:00", "31"))
    found = with_profiles(events, known, items(spark, ("i9", "drama")), 30).collect()
    assert {row["event_id"]: row["user"]["age"] for row in found} == {"e1": "30", "e2": "31"}


def test_a_later_change_alters_no_earlier_impression(spark: SparkSession) -> None:
    events = labelled(spark, ("e1", "2024-01-02 10:00:00", "u1", "i1"), ("e2", "2024-01-03 10:00:00", "u1", "i1"))
    before, no_items = users(spark, ("u1", "2024-01-01", "30")), items(spark, ("i9", "drama"))
    after = before.unionByName(users(spark, ("u1", "2024-01-02 10:00:01", "99")))
    earlier = [
        with_profiles(events, known, no_items, 0).where("event_id = 'e1'").collect() for known in (before, after)
    ]
    assert earlier[0] == earlier[1]


def test_unknown_users_and_items_drop_and_double_nothing(spark: SparkSession) -> None:
    events = [(f"e{number}", "2024-01-02 10:00:00", f"u{number % 3}", f"i{number % 2}") for number in range(12)]
    known = users(spark, ("u1", "2024-01-01", "30"), ("u1", "2024-01-02", "31"), ("u1", "2024-01-03", "32"))
    found = with_profiles(labelled(spark, *events), known, items(spark, ("i1", "drama")), 0)
    assert found.dtypes == spark.createDataFrame([], LABELLED.columns).dtypes
    rows = found.collect()
    assert sorted(row["event_id"] for row in rows) == sorted(event[0] for event in events)
    assert all(row["user"] == ({"age": "31"} if row["user_id"] == "u1" else None) for row in rows)
    assert all((row["item"] is None) == (row["item_id"] == "i0") for row in rows)


def test_without_any_profile_the_maps_are_null(spark: SparkSession) -> None:
    none_known = [spark.createDataFrame([], table.columns) for table in (USERS, ITEMS)]
    found = with_profiles(labelled(spark, ("e1", "2024-01-02 10:00:00", "u1", "i1")), *none_known, 0).collect()
    assert [(row["user"], row["item"], row["context"]) for row in found] == [(None, None, {"position": "1"})]
