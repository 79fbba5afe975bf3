"""Copies files of an object store to this machine's disk for as long as they are read.

Petastorm 0.12 with pyarrow 14 reads local files only, so a rank fetches its next pool of files while it trains on the
present one. At most one pool is on the disk at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ecdctr_spark.storage import Root, scratch

_FETCHES = 4  # files fetched at a time


@contextmanager
def staged(files: Sequence[str]) -> Iterator[list[str]]:
    """URLs that Petastorm can read for files given by their URIs, in the same order. Local files are read in place;
    copies of the others are removed when the block ends. Raises OSError where a file is missing."""
    places = [Root.parse(file) for file in files]
    local = [place.addresses.petastorm for place in places]
    if all(local):
        yield [url for url in local if url]
        return
    with scratch() as folder:
        copies = [folder / f"{number:06d}.parquet" for number in range(len(places))]
        with ThreadPoolExecutor(_FETCHES) as threads:
            for _ in threads.map(_fetch, places, copies):  # raises what a fetch raised
                pass
        yield [f"file://{copy}" for copy in copies]


def _fetch(place: Root, copy: Path) -> None:
    place.fetch(copy)
