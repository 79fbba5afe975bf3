"""Hadoop's checksums of files on a local disk: `.NAME.crc` beside each file that Spark writes there.

Spark verifies them; pyarrow, Petastorm and delta-rs neither read nor write them. An object store verifies what it keeps
itself. The format is that of Hadoop's ChecksumFileSystem: "crc", a zero, the number of bytes per checksum, and a CRC-32
of each piece of that size; integers are big-endian.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_MAGIC, _BYTES = b"crc\0", 512
_HEAD = struct.Struct(">4si")


def sidecar(file: Path) -> Path:
    """Where the checksums of a file are."""
    return file.with_name(f".{file.name}.crc")


def checksums(content: bytes | memoryview, size: int = _BYTES) -> bytes:
    """The content of the sidecar of a file with this content, with a checksum of each `size` bytes."""
    pieces = [zlib.crc32(content[start : start + size]) for start in range(0, len(content), size)]
    return _HEAD.pack(_MAGIC, size) + struct.pack(f">{len(pieces)}I", *pieces)


def as_written(file: Path, content: bytes | memoryview) -> bool | None:
    """Whether the content of a file is as it was written, by its sidecar; None where it has none."""
    try:
        found = sidecar(file).read_bytes()
    except FileNotFoundError:
        return None
    magic, size = _HEAD.unpack(found[: _HEAD.size].ljust(_HEAD.size))
    return magic == _MAGIC and size > 0 and found == checksums(content, size)
