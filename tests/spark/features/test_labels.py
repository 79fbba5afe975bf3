"""A click counts for its impression within the attribution window, and for no other."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.features.labels import label
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS


def impressions(spark: SparkSession, **clicked: int | None) -> DataFrame:
    """Impressions at 10:00 with the names and `clicked` given."""
    names = spark.createDataFrame(list(clicked.items()), "event_id string, clicked int")
    return names.selectExpr(
        "event_id", "timestamp '2024-01-01 10:00:00' event_time", "'ad' domain", "'u' user_id", "'i' item_id",
        "cast(map() as map<string,string>) context", "clicked", "date '2024-01-01' ds",
    ).to(spark.createDataFrame([], IMPRESSIONS.columns).schema)  # fmt: skip


def clicks(spark: SparkSession, *given: tuple[str, str]) -> DataFrame:
    frame = spark.createDataFrame(list(given), "event_id string, at string")
    frame = frame.selectExpr("event_id", "cast(at as timestamp) click_time", "to_date(at) ds")
    return frame.to(spark.createDataFrame([], CLICKS.columns).schema)


def labels(labelled: DataFrame) -> dict[str, tuple[int, str | None]]:
    found = labelled.selectExpr("event_id", "label", "cast(click_time as string) at").collect()
    assert len({row["event_id"] for row in found}) == len(found)
    return {row["event_id"]: (row["label"], row["at"]) for row in found}


def test_a_click_counts_from_the_impression_to_the_window_s_end(spark: SparkSession) -> None:
    at = {
        "just before": "2024-01-01 09:59:59",
        "at once": "2024-01-01 10:00:00",
        "later": "2024-01-01 23:00:00",
        "at the end": "2024-01-02 10:00:00",
        "just after": "2024-01-02 10:00:01",
    }
    found = labels(label(impressions(spark, **dict.fromkeys(at)), clicks(spark, *at.items()), 24))
    assert found == {event: (0, None) if "just" in event else (1, time) for event, time in at.items()}


def test_an_impression_without_a_click_stays_with_label_0(spark: SparkSession) -> None:
    found = labels(label(impressions(spark, e1=None, e2=None), clicks(spark, ("e2", "2024-01-01 10:01:00")), 24))
    assert found == {"e1": (0, None), "e2": (1, "2024-01-01 10:01:00")}


def test_clicks_of_days_ingested_apart_double_no_impression(spark: SparkSession) -> None:
    given = clicks(spark, ("e1", "2024-01-02 09:00:00"), ("e1", "2024-01-01 11:00:00"))
    assert labels(label(impressions(spark, e1=None), given, 24)) == {"e1": (1, "2024-01-01 11:00:00")}


def test_a_click_that_does_not_count_hides_none_that_does(spark: SparkSession) -> None:
    given = clicks(spark, ("e1", "2024-01-01 09:59:00"), ("e1", "2024-01-01 11:00:00"), ("e2", "2023-01-01 00:00:00"))
    found = labels(label(impressions(spark, e1=None, e2=None), given, 24))
    assert found == {"e1": (1, "2024-01-01 11:00:00"), "e2": (0, None)}


def test_clicked_of_the_impression_itself_goes_first(spark: SparkSession) -> None:
    given = clicks(spark, ("e1", "2024-01-01 11:00:00"), ("e3", "2024-01-01 11:00:00"))
    found = labels(label(impressions(spark, e1=0, e2=1, e3=None), given, 24))
    assert found == {"e1": (0, None), "e2": (1, "2024-01-01 10:00:00"), "e3": (1, "2024-01-01 11:00:00")}


def test_without_a_clicks_table_impressions_carry_the_label(spark: SparkSession) -> None:
    labelled = label(impressions(spark, e1=0, e2=1), None, 24)
    assert labels(labelled) == {"e1": (0, None), "e2": (1, "2024-01-01 10:00:00")}
    assert "clicked" not in labelled.columns
