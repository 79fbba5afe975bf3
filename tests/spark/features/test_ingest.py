"""Each raw row gets one verdict: kept, duplicate, or quarantined with a reason."""

from __future__ import annotations

import datetime as dt
import json
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.features.ingest import (
    DUPLICATE,
    checked_clicks,
    checked_impressions,
    checked_profiles,
    kept,
    quarantined,
)
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, QUARANTINE, USERS

GOOD = {
    "event_id": "e1",
    "event_time": "2024-01-01T23:30:00",
    "domain": "ad",
    "user_id": "u1",
    "item_id": "i1",
    "clicked": "1",
}


def rows(spark: SparkSession, *given: dict[str, Any]) -> DataFrame:
    """A raw frame of strings: what a row does not name is null."""
    names = list(dict.fromkeys(name for row in given for name in row))
    schema = ", ".join(f"`{name}` string" for name in names)
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in given], schema)


def impressions(spark: SparkSession, *changes: dict[str, Any], timezone: str = "UTC") -> DataFrame:
    return checked_impressions(rows(spark, *({**GOOD, **change} for change in changes)), timezone)


def verdicts(checked: DataFrame, key: str = "event_id") -> list[tuple[str | None, str | None]]:
    return sorted(((row[key], row["reason"]) for row in checked.collect()), key=str)


def schema(spark: SparkSession, columns: str) -> list[tuple[str, str]]:
    return spark.createDataFrame([], columns).dtypes


def test_a_bad_impression_has_a_reason(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({}, None),
        ({"event_time": "yesterday"}, "event_time is not ISO 8601 or epoch milliseconds"),
        ({"event_time": None}, "event_time is not ISO 8601 or epoch milliseconds"),
        ({"domain": "organic"}, "domain is neither natural nor ad"),
        ({"domain": None}, "domain is neither natural nor ad"),
        ({"user_id": ""}, "user_id is missing"),
        ({"item_id": None}, "item_id is missing"),
        ({"clicked": "2"}, "clicked is neither 0 nor 1"),
        ({"clicked": None}, "clicked is neither 0 nor 1"),
        ({"_corrupt_record": "e1,2024"}, "row is malformed"),
        ({"event_id": None}, "event_id is missing"),
        ({"event_id": " "}, "event_id is missing"),
    ]
    changes = [{"event_id": f"e{case}", "case": str(case), **change} for case, (change, _) in enumerate(cases)]
    found = impressions(spark, *changes).collect()
    assert {int(row["context"]["case"]): row["reason"] for row in found} == {
        case: reason for case, (_, reason) in enumerate(cases)
    }


def test_times_as_text(spark: SparkSession) -> None:
    in_utc = {
        "2024-03-01T10:20:30Z": "2024-03-01 10:20:30",
        "2024-03-01 10:20:30": "2024-03-01 10:20:30",
        "2024-03-01T10:20": "2024-03-01 10:20:00",
        "2024-03-01T10:20+02:00": "2024-03-01 08:20:00",
        "2024-03-01T10:20:30.25-0530": "2024-03-01 15:50:30.25",
        "2024-03-01": "2024-03-01 00:00:00",
        "1709288430250": "2024-03-01 10:20:30.25",
        "2024-02-30T10:20:30": None,
        "2024-03-01T25:00:00": None,
        "10:20:30": None,
        "01/03/2024": None,
        "999999999999999999": None,
        "-5": None,
    }
    checked = impressions(spark, *({"event_id": text, "event_time": text} for text in in_utc))
    found = checked.selectExpr("event_id", "cast(event_time as string) utc").collect()
    assert {row["event_id"]: row["utc"] for row in found} == in_utc


def test_times_as_other_types(spark: SparkSession) -> None:
    in_utc = {
        "timestamp '2024-03-01 10:00:00'": "2024-03-01 10:00:00",
        "timestamp_ntz '2024-03-01 10:00:00'": "2024-03-01 10:00:00",
        "date '2024-03-01'": "2024-03-01 00:00:00",
        "1709287200000L": "2024-03-01 10:00:00",
        "1709287200000D": "2024-03-01 10:00:00",
        "cast(1709287200000 as decimal(20, 0))": "2024-03-01 10:00:00",
        "double('NaN')": None,
        "4611686018427387904L": None,
    }
    raw = (f"select 'e' event_id, {value} event_time, 'ad' domain, 7 user_id, 'i' item_id" for value in in_utc)
    checked = [checked_impressions(spark.sql(query), "UTC") for query in raw]
    rows = reduce(DataFrame.unionByName, checked).selectExpr("cast(event_time as string) utc", "user_id", "clicked")
    assert [tuple(row) for row in rows.collect()] == [(utc, "7", None) for utc in in_utc.values()]


def test_ds_is_the_date_in_the_calendar_s_timezone(spark: SparkSession) -> None:
    days = {zone: impressions(spark, {}, timezone=zone).collect()[0]["ds"] for zone in ("UTC", "Asia/Tokyo")}
    assert days == {"UTC": dt.date(2024, 1, 1), "Asia/Tokyo": dt.date(2024, 1, 2)}


def test_further_columns_are_context_without_nulls(spark: SparkSession) -> None:
    checked = impressions(spark, {"position": "3", "device.os": "ios"}, {"event_id": "e2", "position": None})
    context = {row["event_id"]: row["context"] for row in checked.collect()}
    assert context == {"e1": {"position": "3", "device.os": "ios"}, "e2": {}}


def test_clicked_as_csv_writers_spell_it(spark: SparkSession) -> None:
    spelled = {"1": 1, "0": 0, "True": 1, "false": 0, "1.0": 1, "0.0": 0}
    checked = impressions(spark, *({"event_id": text, "clicked": text} for text in spelled))
    assert {row["event_id"]: row["clicked"] for row in checked.collect()} == spelled


def test_of_one_event_the_earliest_row_is_kept(spark: SparkSession) -> None:
    late, early = {"user_id": "late"}, {"user_id": "early", "event_time": "2024-01-01T23:29:00"}
    assert verdicts(impressions(spark, late, early), "user_id") == [("early", None), ("late", DUPLICATE)]


def test_ties_are_broken_by_the_row_and_not_by_its_place(spark: SparkSession) -> None:
    ties = [{"user_id": f"u{number}"} for number in range(5)]
    there = verdicts(impressions(spark, *ties), "user_id")
    assert there == verdicts(impressions(spark, *reversed(ties)), "user_id")
    assert [reason for _, reason in there].count(DUPLICATE) == 4


def test_a_bad_row_makes_no_good_one_a_duplicate(spark: SparkSession) -> None:
    bad = {"event_time": "2023-01-01T00:00:00", "domain": "?"}
    found = verdicts(impressions(spark, bad, bad, {}))
    assert found == [("e1", "domain is neither natural nor ad")] * 2 + [("e1", None)]


def test_rows_read_are_kept_duplicate_or_quarantined(spark: SparkSession) -> None:
    given = [{}, {}, {"event_id": "e2"}, {"event_id": "e3", "domain": "?"}, {"event_id": None}, {"event_time": "?"}]
    checked = impressions(spark, *given)
    duplicates = checked.where(f"reason = '{DUPLICATE}'").count()
    counts = (kept(checked, IMPRESSIONS).count(), duplicates, quarantined(checked, "impressions").count())
    assert counts == (2, 1, 3)
    assert sum(counts) == len(given)


def test_kept_and_quarantined_rows_have_their_tables_columns(spark: SparkSession) -> None:
    checked = impressions(spark, {}, {"event_id": "e2", "domain": "?", "title": 'Café "Ü"'})
    assert kept(checked, IMPRESSIONS).dtypes == schema(spark, IMPRESSIONS.columns)
    bad = quarantined(checked, "impressions")
    assert bad.dtypes == schema(spark, QUARANTINE.columns)
    row = bad.collect()[0]
    assert (row["source"], row["ds"]) == ("impressions", dt.date(2024, 1, 1))
    assert json.loads(row["row"]) == {**GOOD, "event_id": "e2", "domain": "?", "title": 'Café "Ü"'}


def test_clicks_need_an_impression_and_count_once(spark: SparkSession) -> None:
    shown = spark.createDataFrame([("e1",), ("e1",), ("e2",), ("e3",)], "event_id string")
    clicks = [("e1", "10:05"), ("e1", "10:04"), ("e2", "10:00"), ("e3", "25:00"), ("e9", "10:00"), (None, "10:00")]
    raw = rows(spark, *({"event_id": event, "click_time": f"2024-01-01T{time}:00"} for event, time in clicks))
    checked = checked_clicks(raw, shown, "UTC")
    assert verdicts(checked) == [
        ("e1", DUPLICATE),
        ("e1", None),
        ("e2", None),
        ("e3", "click_time is not ISO 8601 or epoch milliseconds"),
        ("e9", "click without an impression"),
        (None, "event_id is missing"),
    ]
    clicked = kept(checked, CLICKS)
    assert clicked.dtypes == schema(spark, CLICKS.columns)
    times = clicked.where("event_id = 'e1'").selectExpr("cast(click_time as string) t").collect()
    assert [row["t"] for row in times] == ["2024-01-01 10:04:00"]


def test_profiles_without_a_date_apply_from_1970_on(spark: SparkSession) -> None:
    raw = rows(
        spark, {"user_id": "u1", "age": "30", "city": None}, {"user_id": "u1", "age": "31", "valid_from": "2024-01-01"}
    )
    found = kept(checked_profiles(raw, "user_id"), USERS)
    assert found.dtypes == schema(spark, USERS.columns)
    times = found.selectExpr("cast(valid_from as string) t", "attributes").orderBy("t").collect()
    assert [(row["t"], row["attributes"]) for row in times] == [
        ("1970-01-01 00:00:00", {"age": "30"}),
        ("2024-01-01 00:00:00", {"age": "31"}),
    ]


def test_bad_and_duplicate_profiles_have_different_reasons(spark: SparkSession) -> None:
    raw = rows(
        spark,
        {"user_id": "u1", "age": "30"},
        {"user_id": "u1", "age": "30"},
        {"user_id": "u2", "valid_from": "soon"},
        {"user_id": None, "age": "5"},
    )
    checked = checked_profiles(raw, "user_id")
    assert verdicts(checked, "user_id") == [
        ("u1", DUPLICATE),
        ("u1", None),
        ("u2", "valid_from is not ISO 8601 or epoch milliseconds"),
        (None, "user_id is missing"),
    ]
    assert [row["ds"] for row in quarantined(checked, "users").collect()] == [None, None]


def test_profiles_of_a_source_without_dates(spark: SparkSession) -> None:
    found = checked_profiles(rows(spark, {"item_id": "i1", "category": "Ü"}), "item_id").collect()
    assert [(row["attributes"], row["reason"]) for row in found] == [({"category": "Ü"}, None)]
