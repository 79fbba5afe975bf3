"""Reads samples by pyarrow, on a local disk and on object stores. The same rows, bit for bit, as by Petastorm."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ecdctr_spark.pages import opened
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Columns

_READS = 4  # files read at a time: an object store answers slowly


def read(files: Sequence[str], names: Sequence[str]) -> list[Columns]:
    """The columns `names` of Parquet files given by their URIs: those of each file, in the order of the files. Raises
    ConfigError where a file is missing or damaged, or lacks a column."""
    with ThreadPoolExecutor(_READS) as threads:
        return list(threads.map(lambda file: _read(file, names), files))


def _read(file: str, names: Sequence[str]) -> Columns:
    with opened(Root.parse(file), names) as content:
        table = content.read(columns=list(names), use_threads=False)
    return {name: table[name].to_numpy() for name in table.column_names}
