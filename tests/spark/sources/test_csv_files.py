"""csv files: whatever they hold is read as it was meant, is a malformed row, or is refused by name and line."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.sources.files import read
from tests.raw_logs import HEADER, configured, impressions, laid, line, refused, values

LINES = [HEADER, line(1, "plain"), line(2, '"two\nlines, ""quoted"""'), line(3, "悲慘世界 é")]
TITLES = {"e1": "plain", "e2": 'two\nlines, "quoted"', "e3": "悲慘世界 é"}


def text(*lines: str) -> str:
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "broken",
    [
        line(5, '"5 inch screen'),  # to the end of the file, in the last column
        'e5,2024-01-01T10:00:00,ad,"u1,i1,1,x',  # closed by accident, by the quote that opens the title after it
        line(5, '"5 inch" screen'),
        line(5, '"5 inch\n' + line(6, '",x')),
    ],
)
def test_a_quote_that_is_not_closed_is_refused_with_its_line(spark: SparkSession, tmp_path: Path, broken: str) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": text(*LINES), "2.csv": text(*LINES, broken, line(7, '"x"'))})
    assert f"{folder / '2.csv'}, line 6: a quoted field is not closed" in refused(spark, "csv", folder)


def test_spark_s_own_backslashes_are_read(spark: SparkSession, tmp_path: Path) -> None:
    made = spark.createDataFrame(
        [("e1", "t", "ad", "u", "i", "1", 'say "hi", \\ and\nbye'), ("e2", "t", "ad", "u", "i", "1", "\\")],
        HEADER.replace(",", " string, ") + " string",
    )
    made.write.csv(str(tmp_path / "logs"), header=True)
    found = values(spark, "csv", tmp_path / "logs", "title", "source.csv.escape=\\")
    assert found == {"e1": 'say "hi", \\ and\nbye', "e2": "\\"}


def test_quotes_of_files_that_do_not_quote_are_characters(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": text(HEADER, line(1, '"5 inch'), line(2, 'a "b"'))})
    assert values(spark, "csv", folder, "title", "source.csv.quote=null") == {"e1": '"5 inch', "e2": 'a "b"'}


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_any_character_may_delimit(spark: SparkSession, tmp_path: Path, delimiter: str) -> None:
    lines = [one.replace(",", delimiter) for one in (HEADER, line(1, f'"a{delimiter}b"'))]
    folder = laid(tmp_path / "logs", {"1.csv": text(*lines)})
    setting = f"source.csv.delimiter={json.dumps(delimiter)}"
    assert values(spark, "csv", folder, "title", setting) == {"e1": f"a{delimiter}b"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_files_are_read_in_their_encoding(spark: SparkSession, tmp_path: Path, encoding: str) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": text(*LINES).encode(encoding)})
    declared = encoding.removesuffix("-sig")
    assert values(spark, "csv", folder, "title", f"source.csv.encoding={declared}") == TITLES


def test_latin_1_is_read_as_declared_and_else_refused(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": text(HEADER, line(1, "café")).encode("latin-1")})
    assert values(spark, "csv", folder, "title", "source.csv.encoding=latin-1") == {"e1": "café"}
    said = refused(spark, "csv", folder)
    assert f"{folder / '1.csv'} is not text in utf-8" in said and "source.csv.encoding" in said


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(spark: SparkSession, tmp_path: Path, newline: str) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": newline.join([HEADER, line(1), "", line(2), line(3)])})
    assert values(spark, "csv", folder, "title") == {"e1": "plain", "e2": "plain", "e3": "plain"}


def test_columns_without_a_name_are_left_out(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f",{HEADER},", f"0,{line(1)},", f"1,{line(2)},"]  # the index of pandas, and a trailing comma
    frame = impressions(spark, "csv", laid(tmp_path / "logs", {"1.csv": text(*lines)}))
    assert frame.columns == [*HEADER.split(","), "_corrupt_record"]
    assert sorted((row["event_id"], row["title"], row["_corrupt_record"]) for row in frame.collect()) == [
        ("e1", "plain", None), ("e2", "plain", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("user_id", "has the column user_id twice"),
        ("title", "has the column title twice"),
        ("User_ID", "has a column User_ID beside user_id: they differ only in capitals"),
        ("_corrupt_record", "has a column _corrupt_record, a name that Spark uses itself"),
        ("_Metadata", "has a column _Metadata, a name that Spark uses itself"),
    ],
)
def test_a_header_that_spark_would_misread_is_refused(
    spark: SparkSession, tmp_path: Path, column: str, said: str
) -> None:
    folder = laid(tmp_path / "logs", {"1.csv": text(f"{HEADER},{column}", f"{line(1)},x")})
    assert f"{folder / '1.csv'} {said}" in refused(spark, "csv", folder)


def test_columns_are_read_by_name_whatever_their_order(spark: SparkSession, tmp_path: Path) -> None:
    other = "title,clicked,item_id,user_id,domain,event_time,event_id\nsecond,0,i2,u2,ad,2024-01-02,e2\n"
    folder = laid(tmp_path / "logs", {"1.csv": text(HEADER, line(1)), "2.csv": other})
    assert values(spark, "csv", folder, "title") == {"e1": "plain", "e2": "second"}
    assert values(spark, "csv", folder, "user_id") == {"e1": "u1", "e2": "u2"}


def test_rows_of_any_number_of_fields_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    lines = [HEADER, line(1), "e2,short", f"{line(3)},long", '"e4\n",short over lines']
    folder = laid(tmp_path / "logs", {"1.csv": text(*lines[:4]), "2.csv": text(*lines)})
    rows = impressions(spark, "csv", folder).collect()
    assert len(rows) == 3 + 4
    bad = sorted(row["_corrupt_record"] for row in rows if row["_corrupt_record"] is not None)
    assert bad == sorted([*lines[2:4], *lines[2:4], lines[4]])
    assert read(spark, configured("csv", folder)).described["impressions"].rows == 7


@pytest.mark.parametrize("name", ["1.csv.gz", "1.csv.bz2"])
def test_compressed_files_are_read_and_truncated_ones_named(spark: SparkSession, tmp_path: Path, name: str) -> None:
    content = text(*LINES).encode()
    whole = (gzip if name.endswith("gz") else bz2).compress(content)
    assert values(spark, "csv", laid(tmp_path / "whole", {name: whole}), "title") == TITLES
    folder = laid(tmp_path / "cut", {"0.csv": content, name: whole[: len(whole) // 2]})
    assert f"{folder / name} is truncated or damaged" in refused(spark, "csv", folder)
    folder = laid(tmp_path / "plain", {name: content})
    assert f"{folder / name} is truncated or damaged" in refused(spark, "csv", folder)


@pytest.mark.parametrize("name", ["1.csv.zst", "1.csv.snappy", "1.zip"])
def test_other_compression_is_refused_by_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    folder = laid(tmp_path / "logs", {name: b"\x00\x01"})
    assert f"{folder / name} is compressed in a way that is not read" in refused(spark, "csv", folder)


def test_a_row_is_malformed_whichever_columns_a_query_reads(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path, {"part.csv": text(HEADER, line(1), "e2,2024-01-01", line(3))})
    assert values(spark, "csv", folder, "_corrupt_record") == {"e1": None, "e2": "e2,2024-01-01", "e3": None}
