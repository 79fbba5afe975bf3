"""JSON lines: as many rows as lines that are not blank, each read whole or malformed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.raw_logs import HEADER, ROW, impressions, laid, refused, values

ROWS = dict(zip(HEADER.split(","), (*ROW, "plain"), strict=True))


def event(number: int, **more: object) -> str:
    return json.dumps({**ROWS, "event_id": f"e{number}", **more}, ensure_ascii=False)


def verdicts(spark: SparkSession, folder: Path) -> list[tuple[str | None, str | None]]:
    rows = impressions(spark, "json", folder).select("event_id", "_corrupt_record").collect()
    return sorted(((row[0], row[1]) for row in rows), key=str)


@pytest.mark.parametrize(
    "bad",
    [
        f"[{event(2)}, {event(3)}]",
        f"[{event(2)}]",
        "[]",
        "[1, 2]",
        "5",
        '"text"',
        "null",
        "NaN",
        event(2) + event(3),  # a newline lost: the second object would be passed over
        event(2) + " and more",
        event(2) + "," + event(3),
        event(2)[:-1],
        event(2)[1:],
        "]",
        "\x00",
    ],
)
def test_a_line_that_is_not_one_object_is_malformed(spark: SparkSession, tmp_path: Path, bad: str) -> None:
    folder = laid(tmp_path / "logs", {"1.json": f"{event(1)}\n\n  \n{bad}\r\n{event(4)}"})
    assert verdicts(spark, folder) == sorted([("e1", None), ("e4", None), (None, bad)], key=str)


def test_an_array_over_several_lines_loses_no_line(spark: SparkSession, tmp_path: Path) -> None:
    content = json.dumps([json.loads(event(number)) for number in range(3)], indent=2)
    folder = laid(tmp_path / "logs", {"1.json": f"{event(9)}\n{content}"})
    assert len(verdicts(spark, folder)) == 1 + len(content.splitlines())
    assert ("e9", None) in verdicts(spark, folder)


def test_values_keep_their_text(spark: SparkSession, tmp_path: Path) -> None:
    numbers = (
        '"big": 12345678901234567890123, "float": 12345678.10, "nan": NaN, "inf": -Infinity, "yes": true, "none": null'
    )
    folder = laid(tmp_path / "logs", {"1.json": f"\ufeff{event(1)[:-1]}, {numbers}}}\n{event(2)}\n"})
    first, second = impressions(spark, "json", folder).orderBy("event_id").collect()
    found = [first[name] for name in ("big", "float", "yes", "none", "nan", "inf", "title", "_corrupt_record")]
    assert found == ["12345678901234567890123", "12345678.10", "true", None, "NaN", "-Infinity", "plain", None]
    assert second["big"] is None and second["event_id"] == "e2"


LONG = "x" * 9000 + '"1.0' * 9000


@pytest.mark.parametrize("title", ['a " 1.5, b', "-1", "1e3 NaN", '{"a": 1.50}', "\\\\", "\u4e2d 7.0", LONG])
def test_numbers_within_texts_are_left_alone(spark: SparkSession, tmp_path: Path, title: str) -> None:
    content = json.dumps({"n": -1.50, **json.loads(event(1, title=title)), "m": 7.0})
    folder = laid(tmp_path / "logs", {"1.json": content})
    assert values(spark, "json", folder, "title") == {"e1": title}
    assert values(spark, "json", folder, "m") == {"e1": "7.0"}


def test_nested_values_stay_nested(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": event(1, page={"id": 7, "tags": ["a", "b"]}) + "\n" + event(2)})
    found = values(spark, "json", folder, "page")
    assert found == {"e1": ("7", ["a", "b"]), "e2": None}


def test_a_repeated_key_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": event(1)[:-1] + ', "title": "last"}'})
    assert "the key title occurs twice in an object" in refused(spark, "json", folder)


def test_keys_with_dots_and_blanks_are_columns(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": event(1, **{"a.b": "x", "c d": "y"})})
    assert values(spark, "json", folder, "a.b") == {"e1": "x"}
    assert values(spark, "json", folder, "c d") == {"e1": "y"}


def test_keys_that_differ_only_in_capitals_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": event(1) + "\n" + event(2, User_ID="x")})
    assert "in spellings that differ only in capitals" in refused(spark, "json", folder)


def test_a_file_without_an_object_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": "not json\n"})
    assert f"{folder / '1.json'} has no line with a JSON object" in refused(spark, "json", folder)


def test_truncated_compressed_files_are_named(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress((event(1) + "\n").encode())
    assert values(spark, "json", laid(tmp_path / "whole", {"1.json.gz": whole}), "title") == {"e1": "plain"}
    folder = laid(tmp_path / "cut", {"0.json": event(0), "1.json.gz": whole[:-9]})
    assert f"{folder / '1.json.gz'} is truncated or damaged" in refused(spark, "json", folder)
    folder = laid(tmp_path / "plain", {"1.json.gz": (event(1) + "\n").encode()})
    assert f"{folder / '1.json.gz'} is truncated or damaged" in refused(spark, "json", folder)


def test_bytes_that_are_no_text_are_malformed(spark: SparkSession, tmp_path: Path) -> None:
    lines = [event(1, title="\ufffd"), event(2, title="café")]
    folder = laid(tmp_path / "logs", {"1.json": lines[0].encode() + b"\n" + lines[1].encode("latin-1")})
    rows = impressions(spark, "json", folder).selectExpr("event_id", "_corrupt_record is null").collect()
    assert sorted(map(tuple, rows), key=str) == [("e1", True), (None, False)]


def test_lines_in_another_encoding_are_malformed(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.json": (event(1) + "\n" + event(2)).encode("utf-16")})
    rows = impressions(spark, "json", folder).selectExpr("event_id", "_corrupt_record is not null").collect()
    assert [tuple(row) for row in rows] == [(None, True)] * 2
