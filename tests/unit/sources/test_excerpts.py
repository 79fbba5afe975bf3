"""An excerpt of a folder has its columns, types and dialect, whatever its format, without Spark."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import excerpts
from ecdctr_spark.sources.excerpts import Excerpt, excerpt
from ecdctr_spark.storage import Root

CSV = "id;name\n1;a\n2;b, c\n"


def of(folder: Path, **files: bytes | str) -> Excerpt:
    """The excerpt of a folder with these files, whose names have __ for a dot and ___ for a slash."""
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return excerpt(Root.parse(folder))


def columns(found: Excerpt) -> dict[str, list[str | None]]:
    return {name: list(values.values) for name, values in found.columns.items()}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_is_what_splits_lines_alike(tmp_path: Path, delimiter: str) -> None:
    lines = [("id", "name", "note"), ("1", "a", '"x, y; z"'), ("2", "NULL", '" "')]
    found = of(tmp_path, part__csv="\n".join(delimiter.join(line) for line in lines) + "\n")
    assert (found.form, found.delimiter, found.rows, found.whole) == ("csv", delimiter, 2, True)
    assert columns(found) == {"id": ["1", "2"], "name": ["a", None], "note": ["x, y; z", None]}


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_compressed_files_are_read_by_their_endings(tmp_path: Path, ending: str, compress: object) -> None:
    assert callable(compress)
    found = of(tmp_path, **{f"part__csv__{ending}": compress(CSV.encode())})
    assert columns(found) == {"id": ["1", "2"], "name": ["a", "b, c"]}


def test_a_lone_file_a_folder_s_values_and_files_beside_the_data(tmp_path: Path) -> None:
    found = of(tmp_path, **{"shop=7___a__csv": CSV, "shop=8___b__csv": CSV, "_SUCCESS": ""})
    assert (found.files, columns(found)["shop"]) == (2, ["7", "7", "8", "8"])
    assert excerpt(Root.parse(tmp_path / "shop=7" / "a.csv")).rows == 2


def test_json_lines_are_flat_by_path(tmp_path: Path) -> None:
    rows = [{"id": 12345678901234567890, "user": {"id": 7.0, "tags": ["a"]}, "ad": True}, {"id": None, "new": "x"}]
    found = of(tmp_path, part__json="\n".join(map(json.dumps, rows)) + "\n{broken\n\n")
    assert (found.form, found.rows) == ("json", 2)
    assert columns(found) == {
        "id": ["12345678901234567890", None], "user.id": ["7.0", None], "user.tags": ["['a']", None],
        "ad": ["true", None], "new": [None, "x"],
    }  # fmt: skip
    assert found.columns["user.tags"].kind == "nested"


def test_parquet_has_types(tmp_path: Path) -> None:
    at = dt.datetime(2024, 1, 5, 10, tzinfo=dt.timezone.utc)
    table = pa.table({
        "zoned": pa.array([at], pa.timestamp("ns", "UTC")), "local": pa.array([at.replace(tzinfo=None)]),
        "day": pa.array([at.date()]), "id": pa.array([7.0]), "user": pa.array([{"id": 3}]), "list": pa.array([[1]]),
        "kind": pa.array(["a"]).dictionary_encode(),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    found = excerpt(Root.parse(tmp_path))
    assert {name: (one.kind, one.values[0]) for name, one in found.columns.items()} == {
        "zoned": ("timestamp", "2024-01-05T10:00:00+00:00"), "local": ("local time", "2024-01-05T10:00:00"),
        "day": ("local time", "2024-01-05"), "id": ("text", "7"), "user.id": ("text", "3"), "list": ("nested", "[1]"),
        "kind": ("text", "a"),
    }  # fmt: skip


def test_a_delta_table_is_its_current_version(tmp_path: Path) -> None:
    for values in (["old"], ["new", "newer"]):
        table = pa.table({"id": values, "shop": ["a b"] * len(values)})
        write_deltalake(str(tmp_path / "t"), table, mode="overwrite", partition_by=["shop"])
    found = excerpt(Root.parse(tmp_path / "t"))
    assert (found.form, found.whole) == ("delta", True)
    assert columns(found) == {"id": ["new", "newer"], "shop": ["a b", "a b"]}


def test_of_a_large_folder_beginnings_and_ends_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpts, "_BYTES", 3_000)
    monkeypatch.setattr(excerpts, "_FILES", 3)
    files = {f"{number}__csv": "n,m\n" + "".join(f"{number}-{row},x\n" for row in range(400)) for number in range(9)}
    found = of(tmp_path, **files)
    values = [value or "" for value in found.columns["n"].values]
    assert (found.files, found.whole) == (9, False)
    assert sorted({value.split("-")[0] for value in values}) == ["0", "4", "8"]
    assert values[0] == "0-0" and values[-1] == "8-399" and len(values) < 500


@pytest.mark.parametrize(
    ("encoding", "text", "possible"),
    [
        ("utf-8", "Café", ["utf-8"]),
        ("utf-8-sig", "Café", ["utf-8"]),
        ("utf-16", "Café", ["utf-16"]),
        ("cp1252", "Café crème Köln", ["cp1252"]),
        ("ascii", "plain", []),
    ],
)
def test_an_encoding_is_one_that_all_bytes_fit(tmp_path: Path, encoding: str, text: str, possible: list[str]) -> None:
    found = of(tmp_path, part__csv=f"id,name\n1,{text}\n".encode(encoding))
    assert list(found.encodings) == possible and columns(found)["name"] == [text]


def test_chinese_text_that_may_be_western_is_not_decided(tmp_path: Path) -> None:
    assert {"gb18030", "cp1252"} <= of(tmp_path, part__csv="id,name\n1,悲慘世界\n".encode("gb18030")).encodings.keys()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no such folder"),
        ({"a__csv": ""}, "the folder is empty"),
        ({"a__bin": b"\0\1\2"}, "holds neither text nor Parquet nor a Delta table"),
        ({"a__parquet": b"PAR1 and no more"}, "cannot be read"),
        ({"a__csv__gz": gzip.compress(CSV.encode())[:-9]}, "cannot be read"),
        ({"a__csv": "id,id\n1,2\n"}, "has the column id twice"),
    ],
)
def test_what_cannot_be_read_is_named_on_one_line(tmp_path: Path, files: dict[str, bytes | str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        of(tmp_path / "logs", **files)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_rows_that_were_not_read_are_estimated_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpts, "_FILES", 4)
    monkeypatch.setattr(excerpts, "_BYTES", 4_000)
    text = "id;name\n" + "".join(f"{n:04};abcd\n" for n in range(1_000))
    found = of(tmp_path, **{f"{n:02}__csv": text for n in range(8)})
    assert (found.whole, found.rows < 1_000) == (False, True)
    assert found.total == pytest.approx(8_000, rel=0.02)
    assert of(tmp_path / "small", a__csv=CSV).total == 2
    rows = pa.table({"id": list(range(1_000))})
    (tmp_path / "parquet").mkdir()
    for n in range(8):
        pq.write_table(rows, tmp_path / "parquet" / f"{n}.parquet")
    assert excerpt(Root.parse(tmp_path / "parquet")).total == 8_000
