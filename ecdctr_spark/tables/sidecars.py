"""Checksums of a table's commits on a local disk, in the files beside them that Hadoop keeps and verifies.

A commit of a Delta table is JSON without a checksum: a flipped digit may move a file to another day, a flipped letter
may hide it. What Spark writes on a local disk has a sidecar, `.NAME.crc`, and Spark verifies it. delta-rs neither
writes nor reads sidecars, so that is done here. An object store verifies what it keeps itself.

The format is that of Hadoop's ChecksumFileSystem: "crc", a zero, the number of bytes per checksum, and a CRC-32 of each
so many bytes; integers are big-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root

_MAGIC, _BYTES = b"crc\0", 512


def verify_commits(table: Root) -> None:
    """Raises ConfigError that names a commit of the table which differs from its sidecar. Those without one pass."""
    for commit, sidecar in _commits(table):
        with suppress(FileNotFoundError):  # an old commit, removed meanwhile, or one without a sidecar
            if sidecar.read_bytes() != _sidecar(commit.read_bytes()):
                raise ConfigError(f"{commit}: damaged: it differs from its checksum {sidecar.name}: restore the file")


def add_sidecars(table: Root) -> None:
    """Writes the sidecars of commits that have none, and removes those of commits that are no more."""
    commits = dict(_commits(table))
    for commit, sidecar in commits.items():
        if not sidecar.exists():
            Root.parse(sidecar).write_bytes(_sidecar(commit.read_bytes()))
    for log in {commit.parent for commit in commits}:
        for left in set(log.glob(".*.json.crc")).difference(commits.values()):
            left.unlink(missing_ok=True)


def _commits(table: Root) -> Iterator[tuple[Path, Path]]:
    """The commits in the log of a table on a local disk, and where the sidecar of each is."""
    if table.path is not None and not table.in_volume:
        for commit in sorted((table.path / "_delta_log").glob("*.json")):
            yield commit, commit.with_name(f".{commit.name}.crc")


def _sidecar(content: bytes) -> bytes:
    pieces = (content[start : start + _BYTES] for start in range(0, len(content), _BYTES))
    return _MAGIC + struct.pack(">i", _BYTES) + b"".join(struct.pack(">I", zlib.crc32(piece)) for piece in pieces)
