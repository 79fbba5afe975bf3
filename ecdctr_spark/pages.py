"""Parquet files that are verified before they are read. Unless they are, a flipped bit comes through as another value.

On a local disk a file has checksums of all of its bytes beside it (checksums.py). Where these are missing, as after a
copy, the pages are verified: Spark writes a CRC-32 of each page, as it is stored, into the page's header. Spark
verifies both (session.py). pyarrow does so for pages from version 15 on, but Petastorm 0.12 needs 14: so what pyarrow
and Petastorm read is verified here. A page's header is a struct of Thrift's compact protocol (Parquet's parquet.thrift,
PageHeader), of which two integers are needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecdctr_spark.checksums import as_written
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_SIZE, _CRC = 3, 4  # fields of a page's header: its bytes as stored, and their CRC-32 where the writer gives one
_BOOLEANS, _INTEGERS, _DOUBLE, _BINARY, _STRUCT = (1, 2), (4, 5, 6), 7, 8, 12  # types of the compact protocol
_I32 = 5


@contextmanager
def opened(file: Root, columns: Collection[str] | None = None, copy: Root | None = None) -> Iterator[pq.ParquetFile]:
    """A Parquet file of a table, or a copy of it, whose bytes are as they were written: by the checksums beside it, or
    else by those of the pages of these columns, by default of all. The pages of a column without any checksum, as other
    writers leave it, are taken as they are. Its whole content is in memory.

    Raises ConfigError that names the file where it is missing, lacks a column, or is damaged, and also where the block
    finds that.
    """
    try:
        place = copy or file
        with place.open() as stored:
            content = stored.read_buffer()
        whole = as_written(place.path, memoryview(content)) if place.path else None
        if whole is False:
            raise pa.ArrowInvalid("it differs from the checksums beside it")
        parquet = pq.ParquetFile(pa.BufferReader(content))
        names = parquet.schema_arrow.names if columns is None else columns
        if missing := sorted(set(names).difference(parquet.schema_arrow.names)):
            raise ConfigError(
                f"{file}: no column {missing[0]}: another configuration has made it: build it again, or restore it"
            )
        if whole is None:
            _verify_pages(memoryview(content), parquet.metadata, names)
        yield parquet
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{file}: missing or damaged, but the log of its table names it: restore the file ({line})"
        ) from error


def _verify_pages(content: memoryview, metadata: pq.FileMetaData, columns: Collection[str]) -> None:
    """Raises ArrowInvalid where the pages of the columns are not as they were written."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(metadata.num_columns)):
            if chunk.path_in_schema.partition(".")[0] in columns:
                _verify_chunk(content, chunk)


def _verify_chunk(content: memoryview, chunk: Any) -> None:
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    try:
        matching = set(_pages(content[start : start + chunk.total_compressed_size]))
    except (IndexError, KeyError, ValueError) as error:  # a header is damaged, or a size or place of the footer
        raise pa.ArrowInvalid(f"column {chunk.path_in_schema}: its page headers cannot be read") from error
    if matching not in ({True}, {None}):
        raise pa.ArrowInvalid(f"column {chunk.path_in_schema}: a page differs from its checksum")


def _pages(data: memoryview) -> Iterator[bool | None]:
    """Of each page whether it matches its checksum, None where it has none. Raises IndexError, KeyError or ValueError
    where the bytes are no sequence of pages."""
    at = 0
    while at < len(data):
        header, at = _header(data, at)
        end = at + header[_SIZE]
        if not at <= end <= len(data):
            raise ValueError(f"a page of {header[_SIZE]} bytes")
        yield zlib.crc32(data[at:end]) == header[_CRC] & 0xFFFFFFFF if _CRC in header else None
        at = end


def _header(data: memoryview, at: int) -> tuple[dict[int, int], int]:
    """The 32-bit integers of the struct at a place, by their fields, and where it ends."""
    values, field = {}, 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        field, at = (field + step, at + 1) if step else _integer(data, at + 1)
        if kind == _I32:
            values[field], at = _integer(data, at)
        else:
            at = _skipped(data, at, kind)
    return values, at + 1


def _skipped(data: memoryview, at: int, kind: int) -> int:
    """Where a value of this type ends that begins at a place."""
    if kind in _BOOLEANS:  # the type is the value
        return at
    if kind in _INTEGERS:
        return _integer(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _unsigned(data, at)
        return at + length
    if kind == _STRUCT:
        return _header(data, at)[1]
    raise ValueError(f"a value of type {kind}, which no page header holds")


def _integer(data: memoryview, at: int) -> tuple[int, int]:
    """A signed integer, and where it ends."""
    number, at = _unsigned(data, at)
    return (number >> 1) ^ -(number & 1), at


def _unsigned(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return number | data[at] << shift, at + 1
