"""The log of a Delta table: which of its entries a version is read from, whether these are as they were written, and
the removal of entries that no version needs.

A version is read from the newest checkpoint at or before it, a Parquet file, and the commits since.

Neither has a checksum: in a commit, which is JSON, a flipped digit may move a file to another day, and a flipped letter
may hide it. What Spark writes on a local disk has a sidecar, `.NAME.crc`, and Spark verifies it. delta-rs neither
writes nor reads sidecars, so that is done here. An object store verifies what it keeps itself. The format is that of
Hadoop's ChecksumFileSystem: "crc", a zero, the number of bytes per checksum, and a CRC-32 of each piece of that size;
integers are big-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_MAGIC, _BYTES = b"crc\0", 512
_REMOVERS = 8  # of files at a time: an object store needs a while for each
_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\.parquet)")


class _Entry(NamedTuple):
    """A commit or a checkpoint, and its version."""

    number: int
    name: str

    @property
    def checkpoint(self) -> bool:
        return self.name.endswith(".parquet")


def needed(names: Collection[str], version: int | None = None) -> list[str]:
    """Of the names of a log's files the entries that a version, by default the newest, is read from, oldest first."""
    entries = [entry for entry in _entries(names) if version is None or entry.number <= version]
    start = max((entry.number for entry in entries if entry.checkpoint), default=0)
    return [entry.name for entry in entries if entry.number >= start]


def verify(table: Root, version: int | None = None) -> None:
    """Raises ConfigError that names an entry of the version which differs from its sidecar. Those without one pass."""
    for entry, sidecar in _with_sidecars(table, version):
        with suppress(FileNotFoundError):  # an old entry, removed meanwhile, or one without a sidecar
            if sidecar.read_bytes() != _sidecar(entry.read_bytes()):
                raise ConfigError(f"{entry}: damaged: it differs from its checksum {sidecar.name}: restore the file")


def add_sidecars(table: Root) -> None:
    """Writes the sidecars of entries of the newest version that have none. Removes those of files that are no more, and
    that of `_last_checkpoint`, which delta-rs may have replaced."""
    for entry, sidecar in _with_sidecars(table):
        if not sidecar.exists():
            Root.parse(sidecar).write_bytes(_sidecar(entry.read_bytes()))
    for log in _local(table):
        for sidecar in log.glob(".*.crc"):
            entry = log / sidecar.name[1:-4]
            if entry.name == "_last_checkpoint" or not entry.exists():
                sidecar.unlink(missing_ok=True)


def oldest(table: Root) -> int:
    """The oldest version that the log still has."""
    starts = (entry for entry in _entries(table.at("_delta_log").files()) if entry.number == 0 or entry.checkpoint)
    return min((entry.number for entry in starts), default=0)


def shorten(table: Root, first: int) -> None:
    """Removes the entries, and what belongs to them, that no version from `first` on is read from."""
    log = table.at("_delta_log")
    names = log.files()
    start = max((entry.number for entry in _entries(names) if entry.checkpoint and entry.number <= first), default=0)
    old = [name for name in names if (found := re.match(r"\.?(\d{20})\.", name)) and int(found[1]) < start]
    with ThreadPoolExecutor(_REMOVERS) as removers:
        list(removers.map(lambda name: log.at(name).remove(), old))


def _entries(names: Collection[str]) -> list[_Entry]:
    return sorted(_Entry(int(found[1]), name) for name in names if (found := _ENTRY.fullmatch(name)))


def _with_sidecars(table: Root, version: int | None = None) -> Iterator[tuple[Path, Path]]:
    """The entries that a version of a table on a local disk is read from, and where the sidecar of each is."""
    for log in _local(table):
        for name in needed([file.name for file in log.glob("*")], version):
            yield log / name, log / f".{name}.crc"


def _local(table: Root) -> Iterator[Path]:
    """The table's log, if it is on a local disk."""
    if table.path is not None and not table.in_volume:
        yield table.path / "_delta_log"


def _sidecar(content: bytes) -> bytes:
    pieces = (content[start : start + _BYTES] for start in range(0, len(content), _BYTES))
    return _MAGIC + struct.pack(">i", _BYTES) + b"".join(struct.pack(">I", zlib.crc32(piece)) for piece in pieces)
