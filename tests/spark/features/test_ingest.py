"""Each raw row is good, or bad with a reason; of the good rows of one key, one is kept."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.features.ingest import (
    chosen,
    judged_clicks,
    judged_impressions,
    judged_profiles,
    of_impressions,
    quarantined,
    surveyed,
)
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.values import Clock
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
    return judged_impressions(rows(spark, *({**GOOD, **change} for change in changes)), Clock(), timezone)


def kept(judged: DataFrame) -> DataFrame:
    return chosen(judged, IMPRESSIONS, ("event_time",))


def verdicts(checked: DataFrame, key: str = "event_id") -> list[tuple[str | None, str | None]]:
    return sorted(((row[key], row["reason"]) for row in checked.collect()), key=str)


def schema(spark: SparkSession, columns: str) -> list[tuple[str, str]]:
    return spark.createDataFrame([], columns).dtypes


def test_of_days_that_are_not_asked_for_only_the_time_is_read(spark: SparkSession) -> None:
    times = {"before": "2024-01-01T23:59:59", "first": "2024-01-02T00:00:00", "last": "2024-01-03T23:59:59",
             "after": "2024-01-04T00:00:00", "unknown": "soon"}  # fmt: skip
    raw = rows(spark, *({**GOOD, "event_id": name, "event_time": time} for name, time in times.items()))
    asked = (dt.date(2024, 1, 2), dt.date(2024, 1, 3))
    found = {row["raw"]["event_id"]: row for row in judged_impressions(raw, Clock(), "UTC", asked).collect()}
    reasons = {name: row["reason"] for name, row in found.items()}
    other = "it is of a day that was not asked for"
    unread = "event_time cannot be read as a time"
    assert reasons == {"before": other, "first": None, "last": None, "after": other, "unknown": unread}
    assert [found[name]["event_id"] for name in times] == [None, "first", "last", None, "unknown"]
    assert found["after"]["ds"] == dt.date(2024, 1, 4)  # it is counted, as a row of its day
    assert (
        found["first"].asDict()
        == judged_impressions(raw, Clock(), "UTC").where("event_id = 'first'").collect()[0].asDict()
    )


def test_rows_of_other_days_are_dropped_before_they_are_judged(spark: SparkSession) -> None:
    day = dt.date(2024, 1, 2)
    chosen_day = judged_impressions(rows(spark, GOOD), Clock(), "UTC", (day, day)).where(F.col("ds") == F.lit(day))
    plan = chosen_day._jdf.queryExecution().optimizedPlan().toString()
    judging, filtering = (plan.index(node) for node in ("Generate", "Filter"))
    assert judging < filtering < plan.index("Generate", judging + 1)  # a plan is read from its end


def test_a_bad_impression_has_a_reason(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({}, None),
        ({"event_time": "yesterday"}, "event_time cannot be read as a time"),
        ({"event_time": None}, "event_time cannot be read as a time"),
        ({"event_time": "0000-01-01T00:00:00"}, "event_time is not between 1990 and 2100"),
        ({"event_time": "1970-01-01T00:00:10"}, "event_time is not between 1990 and 2100"),
        ({"event_time": "9999-12-31"}, "event_time is not between 1990 and 2100"),
        ({"domain": "organic"}, "domain is neither natural nor ad"),
        ({"domain": None}, "domain is neither natural nor ad"),
        ({"user_id": ""}, "user_id is missing"),
        ({"item_id": None}, "item_id is missing"),
        ({"item_id": "\u00a0\u200b"}, "item_id is missing"),
        ({"user_id": "\n"}, "user_id is missing"),
        ({"user_id": "NULL"}, "user_id is missing"),
        ({"user_id": "u1\nu2"}, "user_id is no identifier (a fraction, rounded, nested, or with a control character)"),
        ({"domain": "AD"}, "domain is neither natural nor ad"),
        ({"clicked": "2"}, "clicked is neither 0 nor 1"),
        ({"clicked": None}, "clicked is neither 0 nor 1"),
        ({"_corrupt_record": "e1,2024"}, "row is malformed"),
        ({"event_id": None}, "event_id is missing"),
        ({"event_id": " "}, "event_id is missing"),
    ]
    changes = [{"event_id": f"e{case}", "case": str(case), **change} for case, (change, _) in enumerate(cases)]
    found = impressions(spark, *changes).select("context", "reason").collect()
    assert {int(row["context"]["case"]): row["reason"] for row in found} == {
        case: reason for case, (_, reason) in enumerate(cases)
    }


def test_a_row_out_of_all_bounds_belongs_to_no_day(spark: SparkSession) -> None:
    times = ("0001-01-01", "1970-01-01", "1989-12-31", "2101-01-02", "9999-12-31", "soon")
    found = impressions(spark, *({"event_time": time} for time in times)).select("ds", "reason").collect()
    assert [(row["ds"], row["reason"] is None) for row in found] == [(None, False)] * len(times)


def test_identifiers_of_any_numeric_type_are_equal(spark: SparkSession) -> None:
    kinds = ("7L", "7D", "cast(7 as decimal(10, 2))", "'7'", "'7.0'", "X'37'", "' 7 '")
    for kind in kinds:
        raw = spark.sql(f"select {kind} event_id, '2024-03-01' event_time, 'ad' domain, {kind} user_id, {kind} item_id")
        row = judged_impressions(raw, Clock(), "UTC").collect()[0]
        assert (row["event_id"], row["user_id"], row["item_id"], row["reason"]) == ("7", "7", "7", None), kind


@pytest.mark.parametrize("kind", ["true", "timestamp '2024-01-01'", "named_struct('a', 1)", "array('u')"])
def test_a_column_that_holds_no_identifiers_is_refused_by_name_and_type(spark: SparkSession, kind: str) -> None:
    raw = spark.sql(f"select 'e' event_id, '2024-03-01' event_time, 'ad' domain, {kind} user_id, 'i' item_id")
    with pytest.raises(ConfigError, match=f"user_id is of type {raw.schema['user_id'].dataType.simpleString()[:5]}"):
        judged_impressions(raw, Clock(), "UTC")


def test_ds_is_the_date_in_the_calendar_s_timezone(spark: SparkSession) -> None:
    days = {zone: impressions(spark, {}, timezone=zone).collect()[0]["ds"] for zone in ("UTC", "Asia/Tokyo")}
    assert days == {"UTC": dt.date(2024, 1, 1), "Asia/Tokyo": dt.date(2024, 1, 2)}


def test_further_columns_are_context_without_nulls(spark: SparkSession) -> None:
    checked = impressions(spark, {"position": "3", "device.os": "ios"}, {"event_id": "e2", "position": None})
    context = {row["event_id"]: row["context"] for row in checked.collect()}
    assert context == {"e1": {"position": "3", "device.os": "ios"}, "e2": {}}


def test_clicked_as_csv_writers_spell_it(spark: SparkSession) -> None:
    spelled = {"1": 1, "0": 0, "True": 1, "false": 0, "1.0": 1, "0.0": 0}
    checked = impressions(spark, *({"title": text, "clicked": text} for text in spelled))
    assert {row["context"]["title"]: row["clicked"] for row in checked.collect()} == spelled


def test_nested_columns_are_kept_as_json(spark: SparkSession) -> None:
    query = "select 'e' event_id, '2024-03-01' event_time, 'ad' domain, 'u' user_id, 'i' item_id"
    raw = spark.sql(f"{query}, named_struct('os', 'ios', 'v', array(1, 2)) device, map('k', 7.0D) tags, 2.0D price")
    context = judged_impressions(raw, Clock(), "UTC").collect()[0]["context"]
    assert context == {"device": '{"os":"ios","v":[1,2]}', "tags": '{"k":7.0}', "price": "2"}


def test_of_one_event_the_earliest_row_is_kept(spark: SparkSession) -> None:
    late, early = {"user_id": "late"}, {"user_id": "early", "event_time": "2024-01-01T23:29:00"}
    assert [row["user_id"] for row in kept(impressions(spark, late, early)).collect()] == ["early"]


def test_ties_are_broken_by_the_row_and_not_by_its_place(spark: SparkSession) -> None:
    ties = [{"user_id": f"u{number}"} for number in range(5)]
    there, back = (kept(impressions(spark, *order)).collect() for order in (ties, reversed(ties)))
    assert there == back
    assert len(there) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"event_time": "1970-01-01T00:00:10"},
        {"event_time": "2023-01-01T00:00:00", "domain": "?"},
        {"event_time": "2023-01-01T00:00:00", "user_id": " "},
        {"event_time": "2023-01-01T00:00:00", "clicked": "2"},
    ],
)
def test_a_bad_copy_of_an_event_does_not_displace_the_good_one(spark: SparkSession, bad: dict[str, str]) -> None:
    judged = impressions(spark, bad, bad, {})
    assert [row["event_time"].year for row in kept(judged).collect()] == [2024]
    assert quarantined(judged, "impressions", None).count() == 2


def test_the_survey_accounts_for_every_row(spark: SparkSession) -> None:
    given = [
        {}, {}, {"event_id": "e2"}, {"event_id": "e3", "domain": "?"}, {"event_id": None}, {"event_time": "?"},
        {"event_time": "2024-01-05"},
    ]  # fmt: skip
    found = surveyed(impressions(spark, *given), restated=[dt.date(2024, 1, 1)]).collect()
    by_day = {(str(row["ds"]), row["good"]): (row["rows"], row["events"]) for row in found}
    assert by_day == {
        ("2024-01-01", True): (3, 2),
        ("2024-01-01", False): (2, 0),
        ("None", False): (1, 0),
        ("2024-01-05", True): (1, 0),
    }


def test_kept_and_quarantined_rows_have_their_tables_columns(spark: SparkSession) -> None:
    judged = impressions(spark, {}, {"event_id": "e2", "domain": "?", "title": 'Café "Ü"'})
    assert kept(judged).dtypes == schema(spark, IMPRESSIONS.columns)
    bad = quarantined(judged, "impressions", "logs/2024")
    assert bad.dtypes == schema(spark, QUARANTINE.columns)
    row = bad.collect()[0]
    assert (row["source"], row["folder"], row["ds"]) == ("impressions", "logs/2024", dt.date(2024, 1, 1))
    assert json.loads(row["row"]) == {**GOOD, "event_id": "e2", "domain": "?", "title": 'Café "Ü"'}


def test_clicks_need_an_impression_before_them_and_count_once(spark: SparkSession) -> None:
    shown = spark.sql(
        "select id event_id, timestamp '2024-01-01 10:00:00' event_time from values 'e1', 'e2', 'e3' t(id)"
    )
    clicks = [
        ("e1", "10:05"), ("e1", "10:04"), ("e1", "09:59"), ("e2", "10:00"), ("e3", "25:00"), ("e9", "10:00"),
        (None, "10:00"),
    ]  # fmt: skip
    raw = rows(spark, *({"event_id": event, "click_time": f"2024-01-01T{time}:00"} for event, time in clicks))
    judged = of_impressions(judged_clicks(raw, Clock(), "UTC"), shown)
    assert verdicts(judged) == [
        ("e1", "click before its impression"),
        ("e1", None),
        ("e1", None),
        ("e2", None),
        ("e3", "click_time cannot be read as a time"),
        ("e9", "click without an impression"),
        (None, "event_id is missing"),
    ]
    clicked = chosen(judged, CLICKS, ("click_time",))
    assert clicked.dtypes == schema(spark, CLICKS.columns)
    times = clicked.where("event_id = 'e1'").selectExpr("cast(click_time as string) t").collect()
    assert [row["t"] for row in times] == ["2024-01-01 10:04:00"]


def test_profiles_without_a_date_apply_from_1970_on(spark: SparkSession) -> None:
    raw = rows(
        spark, {"user_id": "u1", "age": "30", "city": None}, {"user_id": "u1", "age": "31", "valid_from": "2024-01-01"}
    )
    found = chosen(judged_profiles(raw, "user_id", Clock()), USERS)
    assert found.dtypes == schema(spark, USERS.columns)
    times = found.selectExpr("cast(valid_from as string) t", "attributes").orderBy("t").collect()
    assert [(row["t"], row["attributes"]) for row in times] == [
        ("1970-01-01 00:00:00", {"age": "30"}),
        ("2024-01-01 00:00:00", {"age": "31"}),
    ]


def test_a_profile_s_valid_from_is_never_misread_as_always(spark: SparkSession) -> None:
    times = ("1709288430", "1709288430000", "20240301", "10", "1970-01-01", "soon", "NaT", " ")
    raw = rows(spark, *({"user_id": time, "valid_from": time} for time in times))
    found = judged_profiles(raw, "user_id", Clock()).where("user_id is not null").collect()
    assert {row["user_id"]: row["reason"] or row["valid_from"].year for row in found} == {
        "1709288430": 2024,
        "1709288430000": 2024,
        "20240301": 2024,
        "10": "valid_from cannot be read as a time",
        "1970-01-01": "valid_from is not between 1990 and 2100",
        "soon": "valid_from cannot be read as a time",
    }


def test_of_equal_profiles_one_is_kept_and_bad_ones_have_a_reason(spark: SparkSession) -> None:
    raw = rows(
        spark,
        {"user_id": "u1", "age": "30"},
        {"user_id": "u1", "age": "30"},
        {"user_id": "u2", "valid_from": "soon"},
        {"user_id": None, "age": "5"},
    )
    judged = judged_profiles(raw, "user_id", Clock())
    assert [row["user_id"] for row in chosen(judged, USERS).collect()] == ["u1"]
    bad = quarantined(judged, "users", None).collect()
    assert sorted((row["reason"], row["ds"]) for row in bad) == [
        ("user_id is missing", None),
        ("valid_from cannot be read as a time", None),
    ]


def test_of_equal_profiles_one_is_kept_whatever_the_order_where_a_log_holds_maps(spark: SparkSession) -> None:
    both = [("u1", {"k": 1}), ("u1", {"k": 2})]
    raws = [spark.createDataFrame(rows, "user_id string, tags map<string, int>") for rows in (both, both[::-1])]
    first, second = (chosen(judged_profiles(raw, "user_id", Clock()), USERS).collect() for raw in raws)
    assert first == second and len(first) == 1


def test_profiles_of_a_source_without_dates(spark: SparkSession) -> None:
    found = judged_profiles(rows(spark, {"item_id": "i1", "category": "Ü"}), "item_id", Clock()).collect()
    assert [(row["attributes"], row["reason"]) for row in found] == [({"category": "Ü"}, None)]
