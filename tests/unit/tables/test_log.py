"""The log of a table: what a version is read from is known, verified, and all that is kept of an old log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from deltalake import DeltaTable

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.log import lost, needed
from ecdctr_spark.tables.schemas import Table
from ecdctr_spark.tables.small import append_rows, read_rows, replace_rows
from tests.flips import with_flipped_bit

NOTES = Table(name="notes", columns="name string", key=("name",))
COMMITS, CHECKPOINTS = 9, (2, 5)


def commit(version: int) -> str:
    return f"{version:020}.json"


def checkpoint(version: int) -> str:
    return f"{version:020}.checkpoint.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A table of one row per commit after the first, with some checkpoints."""
    root = Root.parse(tmp_path)
    for version in range(1, COMMITS):
        append_rows(root, NOTES, [{"name": f"row {version}"}])
        if version in CHECKPOINTS:
            DeltaTable(str(tmp_path / "tables" / "notes")).create_checkpoint()
    append_rows(root, NOTES, [{"name": "the last"}])
    return root


@pytest.fixture
def table(root: Root) -> Root:
    return root.at("tables", "notes")


def names(table: Root) -> set[str]:
    return {file.name for file in table.at("_delta_log").list()}


@pytest.mark.parametrize(
    ("version", "read_from"),
    [
        (1, [commit(0), commit(1)]),
        (2, [checkpoint(2), commit(2)]),
        (4, [checkpoint(2), commit(2), commit(3), commit(4)]),
        (None, [checkpoint(5), *map(commit, range(5, COMMITS + 1))]),
    ],
)
def test_a_version_is_read_from_the_checkpoint_before_it_and_the_commits_since(
    table: Root, version: int | None, read_from: list[str]
) -> None:
    assert needed(names(table), version) == read_from


def test_every_flipped_bit_of_a_checkpoint_is_found_and_what_a_version_is_not_read_from_may_be_damaged(
    root: Root, table: Root
) -> None:
    append_rows(root, NOTES, [])  # writes the sidecar that the checkpoint lacked
    file, chance = table.at("_delta_log", checkpoint(5)), random.Random(1)
    written = file.read_bytes()
    for _ in range(20):
        file.write_bytes(with_flipped_bit(written, chance.randrange(8 * len(written))))
        with pytest.raises(ConfigError, match=f"{file}: damaged"):
            read_rows(root, NOTES)
        assert len(pinned.files(table, 4, {})) == 4
    file.write_bytes(written)
    table.at("_delta_log", commit(3)).write_bytes(b"{")
    assert len(read_rows(root, NOTES)) == COMMITS
    with pytest.raises(ConfigError, match="damaged"):
        pinned.files(table, 4, {})


def test_a_vacuum_keeps_of_the_log_what_recent_and_kept_versions_are_read_from(root: Root, table: Root) -> None:
    before = names(table)
    assert pinned.vacuum(table, hours=1) == 0  # all versions are recent
    assert names(table) == before
    pinned.vacuum(table, hours=0, keep=[4])
    assert {commit(0), commit(1)} == {name for name in before - names(table) if name.endswith(".json")}
    assert [len(pinned.files(table, version, {})) for version in (2, 3, 4, 8)] == [2, 3, 4, 8]
    pinned.vacuum(table, hours=0)
    kept = names(table)
    assert {name for name in kept if name[0].isdigit()} == set(needed(before))
    assert len(read_rows(root, NOTES)) == COMMITS
    with pytest.raises(ConfigError, match="expected version 4"):
        pinned.files(table, 4, {})
    assert pinned.vacuum(table, hours=0, keep=[1, 4]) == 0  # as where a user was forgotten, which no model prevents
    append_rows(root, NOTES, [{"name": "one more"}])
    assert len(read_rows(root, NOTES)) == COMMITS + 1


def test_a_vacuum_removes_nothing_where_an_entry_is_damaged_that_only_a_kept_version_is_read_from(
    root: Root, table: Root
) -> None:
    replace_rows(root, NOTES, [], "true")  # no file is part of the newest version
    before, entry = table.files(), table.at("_delta_log", commit(3))
    written = entry.read_bytes()
    entry.write_bytes(written.replace(b'"path":"part', b'"path":"parv'))
    with pytest.raises(ConfigError, match=f"{entry}: damaged"):
        pinned.vacuum(table, hours=0, keep=[3])
    entry.write_bytes(written)
    assert table.files() == before
    assert pinned.vacuum(table, hours=0, keep=[3]) == COMMITS - 3
    assert len(pinned.files(table, 3, {})) == 3


def test_a_vacuum_that_keeps_no_old_version_is_not_hindered_by_a_damaged_one(root: Root, table: Root) -> None:
    """A user must be forgotten also where an old commit is lost."""
    table.at("_delta_log", commit(3)).write_bytes(b"{")
    for hours, keep in ((1.0, ()), (0.0, (7,))):
        with pytest.raises(ConfigError, match=f"{commit(3)}: damaged"):
            pinned.vacuum(table, hours, keep)
    pinned.vacuum(table, hours=0)
    assert len(read_rows(root, NOTES)) == COMMITS
    assert not table.at("_delta_log", commit(3)).exists()


def test_a_log_without_a_checkpoint_is_kept_whole(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    for number in range(3):
        append_rows(root, NOTES, [{"name": str(number)}])
    before = names(root.at("tables", "notes"))
    pinned.vacuum(root.at("tables", "notes"), hours=0)
    assert names(root.at("tables", "notes")) == before


def test_each_file_of_a_small_table_has_checksums_so_that_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    append_rows(root, NOTES, [{"name": "a row"}])
    (file,) = (tmp_path / "tables" / "notes").glob("*.parquet")
    written = file.read_bytes()
    for place in range(len(written)):
        file.write_bytes(with_flipped_bit(written, 8 * place + place % 8))
        with pytest.raises(ConfigError, match=f"{file}: .*differs from the checksums"):
            read_rows(root, NOTES)


def test_a_damaged_last_checkpoint_is_named_and_without_one_the_table_is_read(root: Root, table: Root) -> None:
    hint, rows = table.at("_delta_log", "_last_checkpoint"), read_rows(root, NOTES)
    written = hint.read_bytes()
    for bit in range(8 * len(written)):
        hint.write_bytes(with_flipped_bit(written, bit))
        try:
            assert read_rows(root, NOTES) == rows
        except ConfigError as error:
            assert f"{hint}: damaged: " in str(error)
    hint.write_bytes(written)
    pinned.vacuum(table, hours=0)  # the first commits are gone
    hint.remove()
    assert read_rows(root, NOTES) == rows
    append_rows(root, NOTES, [{"name": "one more"}])
    assert len(read_rows(root, NOTES)) == COMMITS + 1


def test_what_is_damaged_is_not_written_over(root: Root, table: Root) -> None:
    log, (data, *_) = table.at("_delta_log", commit(7)), sorted(table.path.glob("*.parquet")) if table.path else []
    for file in (log, Root.parse(data)):
        written = file.read_bytes()
        file.write_bytes(written[:-9] + bytes([written[-9] ^ 1]) + written[-8:])
        with pytest.raises(ConfigError, match=str(file)):
            replace_rows(root, NOTES, [{"name": "row 1"}], "name = 'row 1'")
        file.write_bytes(written)
    assert pinned.version(table) == COMMITS


@pytest.mark.parametrize(
    ("held", "version", "missing"),
    [
        ([], None, None),
        ([commit(0), commit(1)], None, None),
        ([commit(1)], None, commit(0)),
        ([commit(0), commit(2)], None, commit(1)),
        ([commit(0), commit(2), commit(4)], None, commit(1)),
        ([commit(0), commit(2)], 0, None),  # of an older version, which is whole
        ([checkpoint(2), commit(3)], None, None),  # old commits are removed
        ([checkpoint(2), commit(2), commit(4)], None, commit(3)),
        ([commit(0), f"{1:020}.crc"], None, commit(1)),  # the newest, of which Delta's checksum is left
        ([commit(0), f".{commit(1)}.crc"], None, commit(1)),  # or the sidecar
        ([commit(0), f".{commit(1)}.0b1c.tmp", f"..{commit(1)}.0b1c.tmp.crc"], None, None),  # never committed
    ],
)
def test_a_lost_commit_is_known_by_what_was_written_after_it(
    held: list[str], version: int | None, missing: str | None
) -> None:
    assert lost(held, version) == missing


@pytest.mark.parametrize("version", [7, COMMITS])
def test_a_lost_commit_is_named(root: Root, table: Root, version: int) -> None:
    gone = table.at("_delta_log", commit(version))
    gone.remove()
    for read in (lambda: read_rows(root, NOTES), lambda: append_rows(root, NOTES, [{"name": "more"}])):
        with pytest.raises(ConfigError, match=rf"{gone}: is missing"):
            read()
