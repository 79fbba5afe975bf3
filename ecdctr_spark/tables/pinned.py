"""The Parquet files of a pinned version of a Delta table with their row counts, without Spark: what a rank reads.

A training reads a fixed list of files. The driver asks delta-rs for the files of one version, puts their URIs and row
counts into the job, and records the version with the model. The alternatives:

- The table's directory. Petastorm reads every Parquet file below it, those of replaced versions included, and ignores
  deletion vectors and column mapping. The rows would depend on the moment of reading, and some would come twice.
- A Spark query. Each rank would need a JVM, or each training a copy of its samples. The order of rows would depend on
  how Spark splits the work, so that a killed training could not be resumed in the middle of an epoch.
- The newest version, looked up by each rank. Two ranks could see different tables, and a model could not name the data
  it was made from.

A list of files with row counts also fixes the number of steps before anything is read. All ranks compute the same
number from it and need not ask each other (streaming/shards.py).

What it asks of the reader:

- A reader of bare Parquet sees neither deletion vectors nor column mapping. Every table is created without them
  (tables/store.py), and a table that has either is refused here.
- Each file must have its row count in the Delta log, so statistics stay on when a table is written.
- A vacuum must keep the files of every pinned version: `ecdctr tidy` does, another tool does not. `ecdctr forget`
  removes them on purpose.
- Files come in an order that does not depend on the random part of their names, so that the same rows written again
  are read in the same order.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ecdctr_spark.pages import opened
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.log import oldest, shorten, verify, verify_history

_SHOWN = 200  # characters of what delta-rs says
_READERS = 8  # of logs, of which an object store needs a while for each
_REMOVERS = 8  # of files at a time: an object store needs a while for each
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class DataFile(NamedTuple):
    """A Parquet file of a table: its URI (a storage.Root has it) and its number of rows."""

    path: str
    rows: int


def exists(place: Root) -> bool:
    """Whether the table at `place` has a commit. What a killed writer leaves before its first one is no table.

    Raises ConfigError where files lie there without a commit: no reader would see them, and no table can be created.
    """
    # The first commit or, much later, a checkpoint stays in the log.
    log = place.at("_delta_log")
    if log.at(f"{0:020}.json").exists() or any(".checkpoint." in name for name in log.files()):
        return True
    if left := [name for name in place.files() if not name.startswith("_delta_log/")]:
        raise ConfigError(
            f"{place}: holds {left[0]} but no commit of a Delta table, so its rows cannot be read: remove that folder,"
            " or restore its _delta_log, and run it again"
        )
    return False


def open_table(place: Root, version: int | None = None) -> DeltaTable:
    """The table at `place`, at `version` or the newest. Raises ConfigError where there is no such table or version, or
    where the table has a feature that the ranks cannot read, or an entry of its log is damaged."""
    verify(place, version)
    try:
        table = DeltaTable(place.addresses.deltalake, version=version, storage_options=place.storage_options)
    except DeltaError as error:
        wanted = "a Delta table" if version is None else f"version {version} of a Delta table"
        raise ConfigError(f"{place}: expected {wanted}: {str(error).splitlines()[0][:_SHOWN]}") from error
    if "deletionVectors" in (table.protocol().reader_features or ()):
        raise ConfigError(
            f"{place}: has deletion vectors, which the ranks cannot read: drop the table feature deletionVectors"
        )
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise ConfigError(f"{place}: has column mapping, which the ranks cannot read: write the table without it")
    return table


def version(place: Root) -> int:
    """The newest version of the table at `place`."""
    newest: int = open_table(place).version()
    return newest


def newest(places: Iterable[Root]) -> dict[str, int]:
    """The newest version of each of these tables that exists, by its name and Delta id: a table that was removed and
    made again has another id."""
    with ThreadPoolExecutor(_READERS) as readers:
        opened = readers.map(lambda place: (place.name, open_table(place)) if exists(place) else None, places)
        return {f"{found[0]} {found[1].metadata().id}": found[1].version() for found in opened if found}


def vacuum(place: Root, hours: float, keep: Collection[int] = ()) -> int:
    """Removes the files under the table at `place` that are part of no version of the last `hours` hours (rounded up)
    and of no version in `keep`, those that a killed writer left included. Returns how many. Of the log it removes what
    only versions before all of these are read from. Versions in `keep` that the log no longer has are lost already.

    Spark's own keeps everything since a point in time, so one old version would keep all that came after it.

    Raises ConfigError where an entry of the log is damaged: a file that a kept version needs could seem to be part of
    none. Where no old version is kept, only those of the newest count.
    """
    if hours or keep:
        verify_history(place)
    table, start = open_table(place), oldest(place)
    kept = sorted(version for version in keep if version >= start)  # delta-rs cannot go back
    listed = table.vacuum(
        math.ceil(hours),
        dry_run=True,  # it would remove Hadoop's checksums of all files too
        enforce_retention_duration=False,
        full=True,
        keep_versions=kept,
    )
    removed = [name for name in listed if name.endswith(".parquet")]  # an object store may list folders too
    with ThreadPoolExecutor(_REMOVERS) as removers:
        list(removers.map(lambda name: place.at(name).remove(), removed))
    for sidecar in (name for name in listed if name.endswith(".parquet.crc")):
        folder, _, name = sidecar.rpartition("/")
        if not place.at(f"{folder}/{name[1:-4]}".lstrip("/")).exists():
            place.at(sidecar).remove()
    since = 1000 * (time.time() - 3600 * hours)
    commits = table.history() if hours else []
    recent = (commit["version"] - 1 for commit in commits if commit.get("timestamp", since) >= since)
    shorten(place, min([table.version(), *kept, *recent]))
    return len(removed)


def files(place: Root, version: int, partitions: Mapping[str, Sequence[str]]) -> list[DataFile]:
    """The files of a version whose partition values are among those given, such as {"domain": ["ad"]}.

    They are ordered by partition values, then by name without its random part. Raises ConfigError where the version
    does not exist or a file has no row count, ValueError for a name that is no partition column.
    """
    table = open_table(place, version)
    columns = [f"partition.{name}" for name in table.metadata().partition_columns]
    wanted = {f"partition.{name}": set(values) for name, values in partitions.items()}
    if unknown := set(wanted) - set(columns):
        raise ValueError(f"{place}: no partition columns {sorted(unknown)}; it has {columns}")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    chosen = [action for action in actions if all(str(action[name]) in wanted[name] for name in wanted)]
    return [_data_file(place, action) for action in sorted(chosen, key=lambda action: _place(action, columns))]


def batches(
    place: Root, version: int, columns: Sequence[str], partitions: Mapping[str, Sequence[str]] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of `files`, of all partitions unless some are given, in batches of columns that the table is not
    partitioned by. Types are as stored: Spark's timestamps have nanoseconds and no zone, and are in UTC.

    Raises ConfigError as `files` does, and where a file is missing or damaged.
    """
    for file in files(place, version, partitions or {}):
        with opened(Root.parse(file.path), columns) as rows:
            yield from rows.iter_batches(columns=list(columns))


def rows_by(place: Root, partition: str) -> dict[str, int]:
    """The number of rows of the newest version by the value of a partition column, as text; {} before the first write.

    Raises ConfigError where a file has no row count.
    """
    if not exists(place):
        return {}
    counts: dict[str, int] = {}
    for action in pa.table(open_table(place).get_add_actions(flatten=True)).to_pylist():
        value = str(action[f"partition.{partition}"])
        counts[value] = counts.get(value, 0) + _data_file(place, action).rows
    return counts


def _place(action: dict[str, Any], columns: list[str]) -> tuple[Any, ...]:
    """The sort key of a file. Files of several commits that share a name are ordered by age, then by size."""
    name = _UUID.sub("", action["path"].rsplit("/", 1)[-1])
    return (*(str(action[column]) for column in columns), name, action["modification_time"], action["size_bytes"])


def _data_file(place: Root, action: dict[str, Any]) -> DataFile:
    path = str(place.at(unquote(action["path"])))
    if action["num_records"] is None:
        raise ConfigError(f"{path}: the Delta log has no row count for it: write the table again with statistics on")
    return DataFile(path, action["num_records"])
