"""Which rank reads which files, and in how many steps: computed from row counts alone, before anything is read.

Every rank computes the same answer for all ranks, so none has to ask another and none stops early.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ecdctr_spark.settings.base import ConfigError, Settings

Columns = dict[str, np.ndarray[Any, Any]]  # values of equal length, by the name of their column


class Unit(Settings, frozen=True):
    """The smallest portion of samples that a rank is given: one Parquet file of one row group, read as a whole.

    The `weight` of the file multiplies that of each row in the loss.
    """

    path: str
    rows: int
    weight: float = 1.0


def split(files: Sequence[Unit], share: float, seed: int) -> tuple[list[Unit], list[Unit]]:
    """The files to train on and those held out for validation: a share from 0 to 1, rounded up to files, chosen by
    (seed, order of files)."""
    number = math.ceil(share * len(files))
    chosen = set(np.random.default_rng(seed).permutation(len(files))[:number].tolist())
    kept = [file for position, file in enumerate(files) if position not in chosen]
    return kept, [files[position] for position in sorted(chosen)]


def shard(files: Iterable[Unit], size: int, seed: int, epoch: int) -> list[list[Unit]]:
    """The files of each of `size` ranks in one epoch, in reading order: shuffled by (seed, epoch), then balanced.

    The largest file is given first, each to the rank with the fewest rows so far (the lowest rank in a tie). So two
    ranks differ by the rows of at most one file. Files without rows are left out; a rank may get none.
    """
    filled = [file for file in files if file.rows > 0]
    order = np.random.default_rng([seed, epoch]).permutation(len(filled)).tolist()
    loads = [0] * size
    owner: dict[int, int] = {}
    for position in sorted(order, key=lambda position: -filled[position].rows):
        owner[position] = loads.index(min(loads))
        loads[owner[position]] += filled[position].rows
    return [[filled[position] for position in order if owner[position] == rank] for rank in range(size)]


def pools(files: Iterable[Unit], shuffle_rows: int) -> list[list[Unit]]:
    """Consecutive files in pools of at least `shuffle_rows` rows each, except the last. The rows of a pool are in
    memory together and are shuffled."""
    grouped: list[list[Unit]] = []
    held = shuffle_rows
    for file in files:
        if held >= shuffle_rows:
            grouped.append([])
            held = 0
        grouped[-1].append(file)
        held += file.rows
    return grouped


def batch_rows(batch_size: int, size: int) -> list[int]:
    """Each rank's rows of a batch of `batch_size` rows over all ranks; the first ranks take the remainder. Raises
    ConfigError where a rank would get none."""
    if batch_size < size:
        raise ConfigError(
            f"batch_size is {batch_size}, less than the {size} ranks that share it: raise it, or lower training.ranks"
        )
    return [batch_size // size + (rank < batch_size % size) for rank in range(size)]


def cuts(pool: Iterable[Unit], rows: int) -> int:
    """The number of batches of at most `rows` rows that a pool is cut into."""
    return -(-sum(file.rows for file in pool) // rows)


def lengths(shards: Iterable[Sequence[Unit]], batch_size: int, shuffle_rows: int) -> list[int]:
    """The number of batches of each shard in one epoch."""
    split = list(shards)
    shares = batch_rows(batch_size, len(split))
    return [
        sum(cuts(pool, rows) for pool in pools(files, shuffle_rows)) for files, rows in zip(split, shares, strict=True)
    ]


def taken(rank: int, size: int, shards: int) -> range:
    """The shards that a rank of `size` reads, one after another: its own, or several where `size` ranks resume an epoch
    that more ranks began."""
    return range(rank, shards, size)


def steps(lengths: Sequence[int], done: Sequence[int], size: int) -> int:
    """The steps that are left of an epoch when `done` batches of each shard are made: those of the rank with the most
    batches left. The same on every rank."""
    left = [length - made for length, made in zip(lengths, done, strict=True)]
    return max(sum(left[shard] for shard in taken(rank, size, len(left))) for rank in range(size))


def advanced(lengths: Sequence[int], done: Sequence[int], size: int, steps: int) -> tuple[int, ...]:
    """The batches of each shard that are made `steps` steps after `done`."""
    after = list(done)
    for rank in range(size):
        left = steps
        for shard in taken(rank, size, len(after)):
            made = min(left, lengths[shard] - after[shard])
            after[shard] += made
            left -= made
    return tuple(after)
