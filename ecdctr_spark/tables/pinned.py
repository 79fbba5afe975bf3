"""The Parquet files of a pinned version of a Delta table and their row counts, without Spark: what a rank may read.

Readers of bare Parquet see neither deletion vectors nor column mapping, so a table with either is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DataFile(NamedTuple):
    """A Parquet file of a table: its URI (a storage.Root has it) and its number of rows."""

    path: str
    rows: int


def open_table(place: Root, version: int | None = None) -> DeltaTable:
    """The table at `place`, at `version` or the newest. Raises ConfigError where there is none, or none that the
    ranks can read."""
    try:
        table = DeltaTable(place.addresses.deltalake, version=version, storage_options=place.storage_options)
    except DeltaError as error:
        wanted = "a Delta table" if version is None else f"version {version} of a Delta table"
        raise ConfigError(f"{place}: expected {wanted}: {str(error).splitlines()[0]}") from error
    if "deletionVectors" in (table.protocol().reader_features or ()):
        raise ConfigError(
            f"{place}: has deletion vectors, which the ranks cannot read: drop the feature deletionVectors"
        )
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise ConfigError(f"{place}: has column mapping, which the ranks cannot read: rewrite it without")
    return table


def version(place: Root) -> int:
    """The newest version of the table at `place`."""
    newest: int = open_table(place).version()
    return newest


def files(place: Root, version: int, partitions: Mapping[str, Sequence[str]]) -> list[DataFile]:
    """The files of a version whose partition values are among those given, say {"domain": ["ad"]}.

    They come by partition values, then by name less its random part, so that the same rows written again come in the
    same order.
    """
    table = open_table(place, version)
    columns = [f"partition.{name}" for name in table.metadata().partition_columns]
    wanted = {f"partition.{name}": set(values) for name, values in partitions.items()}
    if unknown := set(wanted) - set(columns):
        raise ValueError(f"{place}: no partition columns {sorted(unknown)}; it has {columns}")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    chosen = [action for action in actions if all(str(action[name]) in wanted[name] for name in wanted)]
    return [_data_file(place, action) for action in sorted(chosen, key=lambda action: _place(action, columns))]


def _place(action: dict[str, Any], columns: list[str]) -> tuple[Any, ...]:
    """Where a file comes among others; files of several commits that share a name are told apart by age and size."""
    name = _UUID.sub("", action["path"].rsplit("/", 1)[-1])
    return (*(str(action[column]) for column in columns), name, action["modification_time"], action["size_bytes"])


def _data_file(place: Root, action: dict[str, Any]) -> DataFile:
    path = str(place.at(unquote(action["path"])))
    if action["num_records"] is None:
        raise ConfigError(f"{path}: its table does not say how many rows it has: write it again with statistics on")
    return DataFile(path, action["num_records"])
