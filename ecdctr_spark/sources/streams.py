"""Text files read on the driver, to find before the work starts what Spark would find in the middle of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from ecdctr_spark.sources.folders import Unusable
from ecdctr_spark.storage import Root

COMPRESSED = (".gz", ".bz2")  # by both pyarrow and Spark, wherever it runs
_NOT_READ = (".deflate", ".snappy", ".lz4", ".zst", ".xz", ".br", ".zip", ".lzo")
_PIECE = 1 << 20


@contextmanager
def text(file: Root, encoding: str) -> Iterator[io.TextIOWrapper]:
    """The lines of a file, decompressed by the ending of its name; each ends in a newline.

    Raises Unusable that names the file, also from within the block, where it is truncated, not compressed as its name
    says, compressed in a way that is not read, or not in this encoding.
    """
    if file.name.endswith(_NOT_READ):
        raise Unusable(f"{file} is compressed in a way that is not read; expected .gz, .bz2 or no compression")
    try:
        with file.stream() as stream:
            yield io.TextIOWrapper(io.BufferedReader(stream, _PIECE), encoding=encoding)
    except UnicodeError as error:
        name = encoding.removesuffix("-sig")
        raise Unusable(f"{file} is not text in {name}: {error}; correct it, or set source.csv.encoding") from error
    except (OSError, pa.ArrowException) as error:
        raise Unusable(f"{file} is truncated or damaged, replace or remove it: {error}") from error


def check_compressed(file: Root) -> None:
    """Reads a compressed file to its end. Raises Unusable that names it where it is truncated or damaged."""
    if file.name.endswith((*COMPRESSED, *_NOT_READ)):
        with text(file, "latin-1") as lines:
            while lines.buffer.read(_PIECE):
                pass
