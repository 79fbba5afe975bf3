"""Small tables (registry, ledger, metrics) by delta-rs: read and written in milliseconds, without a JVM.

They are the tables of tables/store.py, at the same place and with the same properties: Spark reads what is written
here, and vice versa. All rows of a table come as dictionaries, so it must fit the memory.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from ecdctr_spark.pages import opened
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.log import add_sidecars, verify
from ecdctr_spark.tables.schemas import Table, properties

Row = dict[str, Any]

_READERS = 8  # of files, of which an object store needs a while for each
_TRIES = 10  # of a commit that other writers are faster than
# delta-rs writes no checksums of pages. Gzip has its own, which every reader verifies.
_CHECKED = WriterProperties(compression="GZIP")

_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "binary": pa.binary(),
}


def read_rows(root: Root, table: Table) -> list[Row]:
    """All rows of the newest version, in no particular order; none before the first write.

    Timestamps are in UTC, maps are dictionaries. Raises ConfigError where the table cannot be read.
    """
    place, schema = _place(root, table), arrow_schema(table.columns)
    with ThreadPoolExecutor(_READERS) as readers:
        return [row for rows in readers.map(partial(_rows, place, schema), _files(place)) for row in rows]


def replace_rows(root: Root, table: Table, rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Replaces the rows that satisfy `where` by `rows`, which must all satisfy it, in one commit. A column that a row
    lacks is null. Values must be put into `where` by `literal` or `among`.

    Where another writer commits first, the rows are written after its: they do not depend on what it wrote. Raises
    ValueError for a key that is no column, DeltaError where a row does not satisfy `where`, ConfigError where a file of
    the table is damaged: delta-rs writes the rows that it keeps again, as it reads them. Of a table with partitions
    whole ones are replaced, and none is read.
    """
    place = _place(root, table)
    if not table.partitions:
        with ThreadPoolExecutor(_READERS) as readers:
            list(readers.map(partial(_verify, place), _files(place)))
    _write(root, table, rows, mode="overwrite", predicate=where)


def append_rows(root: Root, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows. See replace_rows, but only the table's log is verified."""
    _write(root, table, rows, mode="append")


def create(place: Root, table: Table) -> None:
    """Creates the table at `place`, empty, unless it exists; see pinned.exists."""
    pinned.exists(place)
    DeltaTable.create(
        place.addresses.deltalake,
        arrow_schema(table.columns),
        mode="ignore",  # where it exists
        partition_by=list(table.partitions),
        configuration=properties(table),
        storage_options=place.storage_options,
    )


def literal(value: str | int | float | dt.date | None) -> str:
    """A value as an SQL literal. Raises TypeError for another type."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return f"date'{value.isoformat()}'"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise TypeError(f"{value!r}: expected a string, a number, a date or None")


def among(column: str, values: Iterable[str | int | float | dt.date | None]) -> str:
    """The SQL predicate that a column holds one of the values; None stands for null."""
    wanted = list(values)
    held = ", ".join(literal(value) for value in wanted if value is not None)
    parts = [f"{column} in ({held})"] if held else []
    parts += [f"{column} is null"] if None in wanted else []
    return f"({' or '.join(parts)})" if parts else "false"


def arrow_schema(columns: str) -> pa.Schema:
    """The schema of DDL text, `name type, ...`. Arrays and maps hold plain types only."""
    fields = (column.strip().split(" ", 1) for column in re.split(r",(?![^<]*>)", columns))
    return pa.schema([(name, _type(kind.strip())) for name, kind in fields])


def _type(kind: str) -> pa.DataType:
    if nested := re.fullmatch(r"array<(\w+)>", kind):
        return pa.list_(_TYPES[nested[1]])
    if nested := re.fullmatch(r"map<(\w+),\s*(\w+)>", kind):
        return pa.map_(_TYPES[nested[1]], _TYPES[nested[2]])
    return _TYPES[kind]


def _place(root: Root, table: Table) -> Root:
    return root.at("tables", table.name)


def _files(place: Root) -> list[dict[str, Any]]:
    """The files of the newest version, as its log describes them; none before the first write."""
    if not pinned.exists(place):
        return []
    actions: list[dict[str, Any]] = pa.table(pinned.open_table(place).get_add_actions(flatten=True)).to_pylist()
    return actions


def _verify(place: Root, action: Mapping[str, Any]) -> None:
    with opened(place.at(unquote(action["path"]))):
        pass


def _rows(place: Root, schema: pa.Schema, action: Mapping[str, Any]) -> list[Row]:
    """The rows of one file, partition values included."""
    with opened(place.at(unquote(action["path"]))) as content:
        stored = content.read()
        if unknown := set(stored.column_names).difference(schema.names):
            raise pa.ArrowInvalid(f"holds a column {min(unknown)}, which its table does not have")
        columns = [_column(stored, action, field) for field in schema]
        rows: list[Row] = pa.Table.from_arrays(columns, schema=schema).to_pylist()
    maps = [field.name for field in schema if pa.types.is_map(field.type)]
    return [row | {name: None if row[name] is None else dict(row[name]) for name in maps} for row in rows]


def _column(stored: pa.Table, action: Mapping[str, Any], field: pa.Field) -> pa.ChunkedArray:
    if field.name in stored.column_names:
        return stored[field.name].cast(field.type)
    value = action.get(f"partition.{field.name}")  # None also for a column added after the file
    return pa.chunked_array([pa.array([value] * len(stored), field.type)])


def _write(root: Root, table: Table, rows: Sequence[Mapping[str, Any]], mode: str, **how: Any) -> None:
    place, schema = _place(root, table), arrow_schema(table.columns)
    verify(place)
    if unknown := sorted({key for row in rows for key in row}.difference(schema.names)):
        raise ValueError(f"table {table.name}: no column {', '.join(unknown)}; it has {', '.join(schema.names)}")
    made = pa.Table.from_pylist([_filled(row, schema) for row in rows], schema=schema)
    create(place, table)
    # A column that the version before did not have is added.
    options = {"mode": mode, "schema_mode": "merge", "writer_properties": _CHECKED}
    for left in reversed(range(_TRIES)):
        try:
            write_deltalake(place.addresses.deltalake, made, storage_options=place.storage_options, **options, **how)
            add_sidecars(place)
            return
        except CommitFailedError:
            if not left:
                raise


def _filled(row: Mapping[str, Any], schema: pa.Schema) -> Row:
    """The row as pyarrow expects it: a map as pairs."""
    return {
        name: list(value.items()) if isinstance(value := row.get(name), Mapping) else value for name in schema.names
    }
