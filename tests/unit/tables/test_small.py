"""Small tables without Spark: every type comes back as it was written, and a slice is replaced in one commit."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from msgspec.structs import replace

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import small
from ecdctr_spark.tables.schemas import TABLES, Table
from ecdctr_spark.tables.small import among, append_rows, arrow_schema, literal, read_rows, replace_rows
from tests.flips import with_flipped_bit

NOTES = Table(
    name="notes",
    columns="name string, day date, number int, many bigint, share double, ok boolean, at timestamp,"
    " words array<string>, counts map<string,bigint>, days array<date>",
    key=("name",),
    partitions=("day",),
)
DAY = dt.date(2020, 1, 2)
FULL: dict[str, Any] = {
    "name": "o'clock \\ ü",
    "day": DAY,
    "number": 1,
    "many": 1 << 40,
    "share": 0.1,
    "ok": True,
    "at": dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc),
    "words": ["a", "b"],
    "counts": {"x": 1, "y": 2},
    "days": [DAY],
}
NOTHING: dict[str, Any] = dict.fromkeys(FULL)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.parse(str(tmp_path / "a räum"))


def names(root: Root) -> list[str]:
    return sorted(row["name"] for row in read_rows(root, NOTES))


def test_a_table_has_no_rows_before_the_first_write(root: Root) -> None:
    assert read_rows(root, NOTES) == []


def test_rows_come_back_as_they_were_written(root: Root) -> None:
    append_rows(root, NOTES, [FULL, {}])
    assert sorted(read_rows(root, NOTES), key=lambda row: row["name"] is None) == [FULL, NOTHING]
    assert read_rows(root, NOTES)[0].keys() == FULL.keys()


def test_rows_are_written_after_those_of_a_writer_that_commits_first(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_rows(root, NOTES, [{"name": "before", "number": 1}])
    write = small.write_deltalake

    def beaten(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(small, "write_deltalake", write)
        append_rows(root, NOTES, [{"name": "of another run"}])
        raise CommitFailedError("a concurrent transaction added new data")

    monkeypatch.setattr(small, "write_deltalake", beaten)
    replace_rows(root, NOTES, [{"name": "after", "number": 1}], "number = 1")
    assert names(root) == ["after", "of another run"]


def test_times_are_in_utc_wherever_they_were_written(root: Root) -> None:
    east = FULL["at"].astimezone(dt.timezone(dt.timedelta(hours=9)))
    append_rows(root, NOTES, [{"at": east}])
    (row,) = read_rows(root, NOTES)
    assert row["at"] == FULL["at"]
    assert row["at"].utcoffset() == dt.timedelta(0)


def test_rows_that_satisfy_the_predicate_are_replaced_in_one_commit(root: Root) -> None:
    append_rows(root, NOTES, [{"name": name, "day": DAY} for name in ("a", "b")] + [{"name": "c"}])
    replace_rows(root, NOTES, [{"name": "A"}], among("day", [DAY, None]) + " and " + among("name", ["a", "A"]))
    assert names(root) == ["A", "b", "c"]
    replace_rows(root, NOTES, [], "day is null")
    assert names(root) == ["b"]
    assert DeltaTable(root.at("tables", "notes").uri).version() == 3  # created, then one commit per write


def test_a_row_outside_the_predicate_is_refused_and_nothing_is_replaced(root: Root) -> None:
    append_rows(root, NOTES, [{"name": "a"}])
    with pytest.raises(DeltaError):
        replace_rows(root, NOTES, [{"name": "b"}], among("name", ["a"]))
    assert names(root) == ["a"]


def test_values_in_a_predicate_are_no_sql(root: Root) -> None:
    hostile = "x' or 'a' = 'a"
    append_rows(root, NOTES, [{"name": "a"}, {"name": hostile}, {"name": FULL["name"]}])
    replace_rows(root, NOTES, [], among("name", [hostile, FULL["name"]]))
    assert names(root) == ["a"]
    assert literal(DAY) == "date'2020-01-02'"
    assert literal(None) == "null"
    assert among("name", []) == "false"
    with pytest.raises(TypeError, match="expected"):
        literal(FULL["at"])


def test_a_key_that_is_no_column_is_refused(root: Root) -> None:
    with pytest.raises(ValueError, match=r"notes: no column nmae; it has name, day"):
        append_rows(root, NOTES, [{"nmae": "a"}])
    assert read_rows(root, NOTES) == []


@pytest.mark.parametrize(
    ("sidecars", "said"),
    [(True, r"00000\.json: damaged: it differs from its checksum"), (False, "expected a Delta table")],
)
def test_a_damaged_table_is_reported(root: Root, sidecars: bool, said: str) -> None:
    append_rows(root, NOTES, [{"name": "a"}])
    for log in root.at("tables", "notes", "_delta_log").list():
        if log.name.endswith(".json"):
            log.write_bytes(b"{")
        elif not sidecars:
            log.remove()
    with pytest.raises(ConfigError, match=said):
        read_rows(root, NOTES)


def test_every_flipped_bit_of_a_commit_is_found(root: Root) -> None:
    append_rows(root, NOTES, [{"name": "a"}])
    commit, chance = root.at("tables", "notes", "_delta_log", f"{1:020}.json"), random.Random(1)
    written = commit.read_bytes()
    for _ in range(100):
        commit.write_bytes(with_flipped_bit(written, chance.randrange(8 * len(written))))
        with pytest.raises(ConfigError, match=f"{commit}: damaged"):
            read_rows(root, NOTES)


def test_what_a_killed_writer_left_before_the_first_commit_is_no_table(root: Root) -> None:
    log = root.at("tables", "notes", "_delta_log")
    log.at(".00000000000000000000.json.1f2e.tmp").write_bytes(b"{")  # the disk was full
    assert read_rows(root, NOTES) == []
    append_rows(root, NOTES, [{"name": "a"}])
    assert names(root) == ["a"]


@pytest.mark.parametrize("left", ["part-0.parquet", "day=2020-01-02/part-0.parquet", "notes.txt"])
def test_files_without_a_commit_are_named_and_left_alone(root: Root, left: str) -> None:
    file = root.at("tables", "notes", *left.split("/"))
    file.write_bytes(b"of value?")
    for use in (lambda: read_rows(root, NOTES), lambda: append_rows(root, NOTES, [{"name": "a"}])):
        with pytest.raises(ConfigError, match=rf"notes: holds {left} but no commit .*remove that folder"):
            use()
    assert file.read_bytes() == b"of value?"


@pytest.mark.parametrize("damage", ["missing", "truncated", "emptied"])
def test_a_file_that_the_log_names_and_that_cannot_be_read_is_named(root: Root, damage: str) -> None:
    append_rows(root, NOTES, [{"name": "a", "day": DAY}])
    place = root.at("tables", "notes")
    (file,) = (place.at(name) for name in place.files() if name.endswith(".parquet"))
    content = {"missing": None, "truncated": file.read_bytes()[:-9], "emptied": b""}[damage]
    file.remove()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"notes/day=2020-01-02/.*parquet: missing or damaged") as refused:
        read_rows(root, NOTES)
    assert "\n" not in str(refused.value)


def test_a_flipped_bit_of_a_file_is_found_or_changes_nothing(root: Root) -> None:
    append_rows(root, NOTES, [FULL, {"name": "a", "day": FULL["day"]}])
    expected = sorted(map(repr, read_rows(root, NOTES)))
    place, chance, found = root.at("tables", "notes"), random.Random(1), 0
    (file,) = (place.at(name) for name in place.files() if name.endswith(".parquet"))
    written = file.read_bytes()
    for _ in range(400):
        file.write_bytes(with_flipped_bit(written, chance.randrange(8 * len(written))))
        try:
            assert sorted(map(repr, read_rows(root, NOTES))) == expected
        except ConfigError as error:
            assert str(error).startswith(f"{file}: missing or damaged")
            found += 1
    assert found > 40


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_declared_table_has_an_arrow_schema(table: Table) -> None:
    schema = arrow_schema(table.columns)
    assert set(table.key) | set(table.partitions) <= set(schema.names)
    assert all(not pa.types.is_null(field.type) for field in schema)


def test_a_column_that_a_table_did_not_have_is_added_by_the_next_write_and_null_until_then(root: Root) -> None:
    before = replace(NOTES, columns=NOTES.columns.removesuffix(", days array<date>"))
    append_rows(root, before, [{"name": "old", "day": DAY}])
    assert [row["days"] for row in read_rows(root, NOTES)] == [None]
    append_rows(root, NOTES, [FULL])
    assert {row["name"]: row["days"] for row in read_rows(root, NOTES)} == {"old": None, FULL["name"]: [DAY]}
    replace_rows(root, NOTES, [FULL | {"name": "old"}], among("name", ["old"]))
    assert {row["name"]: row["days"] for row in read_rows(root, NOTES)} == {"old": [DAY], FULL["name"]: [DAY]}
    assert DeltaTable(root.at("tables", "notes").uri).metadata().partition_columns == ["day"]


def test_rows_of_a_table_that_lacks_a_column_can_be_replaced(root: Root) -> None:
    before = replace(NOTES, columns=NOTES.columns.removesuffix(", days array<date>"))
    append_rows(root, before, [{"name": "old", "day": DAY}, {"name": "kept", "day": DAY}])
    replace_rows(root, NOTES, [FULL | {"name": "old"}], among("name", ["old"]))
    assert {row["name"]: row["days"] for row in read_rows(root, NOTES)} == {"kept": None, "old": [DAY]}
