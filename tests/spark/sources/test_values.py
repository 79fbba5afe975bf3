"""The same thing comes out the same whatever its type, and what is ambiguous comes out as null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType

from ecdctr_spark.sources.values import Clock, as_id, as_text, as_time, is_missing, time_form

Made = Callable[[Column, DataType], Column]


def of_texts(spark: SparkSession, texts: list[str], made: Made) -> dict[str, Any]:
    frame = spark.createDataFrame([(text,) for text in texts], "v string")
    return {row["v"]: row["made"] for row in frame.select("v", made(F.col("v"), StringType()).alias("made")).collect()}


def of_literal(spark: SparkSession, literal: str, made: Made) -> Any:
    frame = spark.sql(f"select {literal} v")
    return frame.select(made(F.col("v"), frame.schema["v"].dataType)).collect()[0][0]


def times(spark: SparkSession, texts: list[str], clock: Clock) -> dict[str, str | None]:
    return of_texts(spark, texts, lambda value, kind: as_time(value, kind, clock).cast("string"))


def test_times_as_text(spark: SparkSession) -> None:
    in_utc = {
        "2024-03-01T10:20:30Z": "2024-03-01 10:20:30",
        "2024-03-01 10:20:30": "2024-03-01 10:20:30",
        "2024-03-01 10:20:30 UTC": "2024-03-01 10:20:30",
        "2024-03-01t10:20:30z": "2024-03-01 10:20:30",
        "2024-03-01T10:20": "2024-03-01 10:20:00",
        "2024-03-01T10:20+02:00": "2024-03-01 08:20:00",
        "2024-03-01T10:20:30+02": "2024-03-01 08:20:30",
        "2024-03-01T10:20:30.25-0530": "2024-03-01 15:50:30.25",
        "2024-03-01T10:20:30,25": "2024-03-01 10:20:30.25",
        "2024-03-01": "2024-03-01 00:00:00",
        "20240301": "2024-03-01 00:00:00",
        "20240301T102030Z": "2024-03-01 10:20:30",
        "20240301T1020+0100": "2024-03-01 09:20:00",
        "20240301 102030": "2024-03-01 10:20:30",
        "20240301102030": "2024-03-01 10:20:30",
        "1709288430": "2024-03-01 10:20:30",
        "1709288430.25": "2024-03-01 10:20:30.25",
        "1709288430250": "2024-03-01 10:20:30.25",
        "1709288430250000": "2024-03-01 10:20:30.25",
        "1709288430250000999": "2024-03-01 10:20:30.25",
        " 2024-03-01 ": "2024-03-01 00:00:00",
    }
    assert times(spark, list(in_utc), Clock()) == in_utc


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30T10:20:30", "2024-03-01T25:00:00", "2024-03-01T10:20:60", "10:20:30", "01/03/2024", "2024-3-1",
        "2024", "2024-W09-5", "2024060", "20240230", "99999999", "20240301T10", "-5", "+1709288430", "0", "10",
        "86400000", "2024010510", "2034123123",
        "1.709E12", "9999999999999999", "99999999999999999999", "9223372036854775807", "NaN", "Infinity", "", " ",
        "soon", "2024-03-01T10:20:30 Europe/Berlin", "2024-03-01T10:20:30+99:00", "1709288430,25", "١٧٠٩٢٨٨٤٣٠",
    ],
)  # fmt: skip
def test_what_is_no_time_comes_out_as_none(spark: SparkSession, text: str) -> None:
    assert times(spark, [text], Clock()) == {text: None}


def test_times_without_a_zone_are_in_the_declared_one(spark: SparkSession) -> None:
    in_utc = {
        "2024-03-01T10:20": "2024-03-01 01:20:00",
        "2024-03-01": "2024-02-29 15:00:00",
        "20240301": "2024-02-29 15:00:00",
        "2024-03-01T10:20Z": "2024-03-01 10:20:00",
        "20240301T1020+0200": "2024-03-01 08:20:00",
        "1709288430": "2024-03-01 10:20:30",
    }
    assert times(spark, list(in_utc), Clock(zone="Asia/Tokyo")) == in_utc
    west = Clock(zone="Etc/GMT+5")
    assert times(spark, ["2024-03-01T10:20", "20240301"], west) == {
        "2024-03-01T10:20": "2024-03-01 15:20:00",
        "20240301": "2024-03-01 05:00:00",
    }


def test_a_declared_unit_decides_what_a_number_is(spark: SparkSession) -> None:
    number = "20240301"
    in_utc = {
        "seconds": "1970-08-23 06:18:21",
        "milliseconds": "1970-01-01 05:37:20.301",
        "microseconds": "1970-01-01 00:00:20.240301",
        "yyyymmdd": "2024-03-01 00:00:00",
    }
    assert {unit: times(spark, [number], Clock(unit=unit))[number] for unit in in_utc} == in_utc
    assert times(spark, ["1709288430"], Clock(unit="yyyymmdd")) == {"1709288430": None}


def test_an_hour_that_could_be_epoch_seconds_needs_a_declared_unit(spark: SparkSession) -> None:
    assert times(spark, ["2024010510"], Clock()) == {"2024010510": None}
    assert times(spark, ["2024010510"], Clock(unit="seconds")) == {"2024010510": "2034-02-20 01:08:30"}


def test_times_as_other_types(spark: SparkSession) -> None:
    in_utc = {
        "timestamp '2024-03-01 10:00:00'": "2024-03-01 10:00:00",
        "timestamp_ntz '2024-03-01 10:00:00'": "2024-03-01 10:00:00",
        "date '2024-03-01'": "2024-03-01 00:00:00",
        "1709287200000L": "2024-03-01 10:00:00",
        "1709287200": "2024-03-01 10:00:00",
        "20240301": "2024-03-01 00:00:00",
        "1709287200000D": "2024-03-01 10:00:00",
        "1709287200.25D": "2024-03-01 10:00:00.25",
        "1709287200123456789L": "2024-03-01 10:00:00.123456",
        "cast(1709287200000 as decimal(20, 0))": "2024-03-01 10:00:00",
        "cast(1709287200.25 as decimal(12, 2))": "2024-03-01 10:00:00.25",
        "cast('2024-03-01T10:00:00' as binary)": "2024-03-01 10:00:00",
        "double('NaN')": None,
        "double('Infinity')": None,
        "9223372036854775807L": None,
        "true": None,
        "null": None,
    }
    found = {
        text: of_literal(spark, text, lambda value, kind: as_time(value, kind, Clock()).cast("string"))
        for text in in_utc
    }
    assert found == in_utc


def test_the_form_of_a_time_is_named(spark: SparkSession) -> None:
    forms = {
        "2024-03-01T10:20Z": "ISO 8601 with a zone",
        "20240301T1020+0100": "ISO 8601 with a zone",
        "2024-03-01": "ISO 8601 in Asia/Tokyo",
        "20240301": "yyyymmdd in Asia/Tokyo",
        "1709288430": "epoch seconds",
        "1709288430000": "epoch milliseconds",
        "1709288430000000000": "epoch nanoseconds",
    }
    assert of_texts(spark, list(forms), lambda value, kind: time_form(value, kind, Clock(zone="Asia/Tokyo"))) == forms
    assert (
        of_literal(spark, "1709287200.123456D", lambda value, kind: time_form(value, kind, Clock())) == "epoch seconds"
    )


def test_text_identifiers(spark: SparkSession) -> None:
    canonical = {
        "u1": "u1", " u1\t": "u1", "u1\u00a0": "u1", "\ufeffu1\u200b": "u1", "7.0": "7", "-7.00": "-7", "007": "007",
        "1e3": "1e3", "7.5": "7.5", "a.0": "a.0", "Ünï 1": "Ünï 1", "\u00a0": None, "\n": None, "": None, "a\nb": None,
        "a\x00b": None, "null": None, "NaN": None, "\\N": None, "<NA>": None,
        '{"a":1}': None, "[1]": None, "{3F2504E0}": "{3F2504E0}", "1.23E+17": None, "1.0E17": None,
        "Infinity": None, "2e5": "2e5", "4821e771": "4821e771", "12e45": "12e45", "[promo]": "[promo]", '["a"]': None,
        "[]": None, "1.23456789E8": "123456789", "1.0E7": "10000000", "1.5E0": None, "1e+16": None, "1.23E5": "123000",
        "1.2E-3": None,
    }  # fmt: skip
    assert of_texts(spark, list(canonical), as_id) == canonical
    missing = {text for text, absent in of_texts(spark, list(canonical), is_missing).items() if absent}
    assert missing == {"\u00a0", "\n", "", "null", "NaN", "\\N", "<NA>"}


def test_identifiers_of_other_types(spark: SparkSession) -> None:
    canonical = {
        "7L": "7", "cast(7 as tinyint)": "7", "7D": "7", "float(7)": "7", "cast(7 as decimal(10, 2))": "7",
        "cast(100 as decimal(10, 2))": "100", "cast(100 as decimal(38, 0))": "100",
        "9007199254740992D": "9007199254740992",
        "X'7531'": "u1", "cast('7.0' as binary)": "7",
        "7.5D": None, "1e17D": None, "float(33554432)": None, "cast(7.5 as decimal(10, 2))": None,
        "double('NaN')": None,
        "X'ff'": None, "null": None,
    }  # fmt: skip
    assert {literal: of_literal(spark, literal, as_id) for literal in canonical} == canonical


def test_text_of_other_types(spark: SparkSession) -> None:
    canonical = {
        "true": "true", "7.0D": "7", "7.25D": "7.25",
        "1709287200.25D": "1709287200.25", "1e-9D": "1.0E-9", "date '2024-03-01'": "2024-03-01",
        "timestamp '2024-03-01 10:00:00.5'": "2024-03-01T10:00:00.5Z",
        "timestamp_ntz '2024-03-01 10:00:00'": "2024-03-01T10:00:00",
        "array(named_struct('a', 1))": '[{"a":1}]', "map('k', 'v')": '{"k":"v"}', "X'ff'": None, "null": None,
    }  # fmt: skip
    assert {literal: of_literal(spark, literal, as_text) for literal in canonical} == canonical
