"""Samples to batches: the rank's files of a pinned table version, read by Petastorm or by pyarrow.

A rank reads one pool of files after another (streaming/shards.py), the next one in the background while it trains on
the present one. It shuffles the rows of each pool and cuts it into batches. The order of rows depends only on the seed,
the order of the files and the number of ranks.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ecdctr_spark.contract import PADDING, Contract
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch, to_batch
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.streaming import Reader
from ecdctr_spark.streaming.shards import (
    Columns,
    Unit,
    advanced,
    batch_rows,
    cuts,
    lengths,
    pools,
    shard,
    steps,
    taken,
)

_EPOCH = dt.date(1970, 1, 1)
_BREAKS_PETASTORM = 15  # the first version of pyarrow with which Petastorm 0.12 reads nothing

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Stream:
    """The samples in `files` as rank `rank` of `size` sees them at the end of the day `until`: a later click does not
    count. `waited` sums the seconds that the trainer has waited for batches, cutting included.

    Its methods raise ConfigError where a file lacks rows or columns, so that no row is lost silently.
    """

    files: Sequence[Unit]
    contract: Contract
    train: Optimisation
    until: dt.date
    rank: int = 0
    size: int = 1
    reader: Reader = "auto"
    waited: float = field(default=0.0, init=False)

    def batches(self, epoch: int, done: Sequence[int] | None = None) -> Generator[Batch, None, None]:
        """This rank's batches of an epoch, in which each row comes once over all ranks. A rank that is out of rows gets
        batches of one padding row of weight zero until all ranks have made their steps.

        `done` holds the number of batches of each shard that were made before (`made`). They are skipped, and pools of
        skipped batches alone are not read. Raises ConfigError where a file is missing, damaged, or differs from the
        Delta log.
        """
        with closing(self._batches(epoch, done or self.made(epoch, 0))) as batches:
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                self.waited += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    def steps(self, epoch: int, done: Sequence[int] | None = None) -> int:
        """The number of batches of the epoch that are left after `done`, the same on every rank."""
        before = done or self.made(epoch, 0)
        return steps(self._lengths(epoch, len(before)), before, self.size)

    def made(self, epoch: int, steps: int, done: Sequence[int] | None = None) -> tuple[int, ...]:
        """The number of batches of each shard that are made after `steps` steps from `done`. An epoch has one shard for
        each rank that began it."""
        before = done or [0] * self.size
        return advanced(self._lengths(epoch, len(before)), before, self.size, steps)

    def _shards(self, epoch: int, shards: int) -> list[list[Unit]]:
        return shard(self.files, shards, self.train.seed, epoch)

    def _lengths(self, epoch: int, shards: int) -> list[int]:
        return lengths(self._shards(epoch, shards), self.train.batch_size, self.train.shuffle_rows)

    def _portions(self, epoch: int, done: Sequence[int]) -> Generator[_Portion, None, None]:
        """What this rank has left to read, in order."""
        shards, shares = self._shards(epoch, len(done)), batch_rows(self.train.batch_size, len(done))
        for shard_ in taken(self.rank, self.size, len(done)):
            passed = done[shard_]
            for number, pool in enumerate(pools(shards[shard_], self.train.shuffle_rows)):
                held = cuts(pool, shares[shard_])
                if passed < held:
                    yield _Portion(pool, [self.train.seed, epoch, shard_, number], held, passed)
                passed = max(0, passed - held)

    def _read(self, files: Sequence[Unit]) -> Batch:
        read = reading(self.reader)
        return _labelled(files, read([file.path for file in files], self.contract.columns), self.contract, self.until)

    def _batches(self, epoch: int, done: Sequence[int]) -> Generator[Batch, None, None]:
        portions = list(self._portions(epoch, done))
        made = 0
        with closing(_ahead(lambda portion: self._read(portion.pool), portions)) as read:
            for portion, held in zip(portions, read, strict=True):
                mixed = np.random.default_rng(portion.seed).permutation(len(held))
                # Cuts of nearly equal size: a last batch of a row or two would give batch norm poor statistics.
                for cut in np.array_split(mixed, portion.batches)[portion.passed :]:
                    yield held.take(torch.from_numpy(cut))
                    made += 1
        for _ in range(self.steps(epoch, done) - made):
            yield _filler(self.contract)


def reading(reader: Reader) -> Callable[[Sequence[str], Sequence[str]], list[Columns]]:
    """The function that reads columns of files. Raises ConfigError where Petastorm is asked for and cannot be used."""
    if reader == "arrow" or (reader == "auto" and _misses_petastorm()):
        from ecdctr_spark.streaming import arrow_reader

        return arrow_reader.read
    if missing := _misses_petastorm():
        raise ConfigError(f"streaming.reader is petastorm, but {missing}: use arrow")
    from ecdctr_spark.streaming import petastorm_reader

    return petastorm_reader.read


@cache
def _misses_petastorm() -> str:
    """Why Petastorm cannot be used here; empty where it can."""
    try:
        petastorm, pyarrow = version("petastorm"), version("pyarrow")
    except PackageNotFoundError:
        return "Petastorm is not installed"
    if int(pyarrow.split(".")[0]) >= _BREAKS_PETASTORM:
        return f"Petastorm {petastorm} reads nothing with pyarrow {pyarrow}"
    return ""


class _Portion(NamedTuple):
    """A pool of files, the seed that shuffles its rows, the number of its batches, and how many of them to skip."""

    pool: list[Unit]
    seed: list[int]
    batches: int
    passed: int


def _ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """work(item) for each item in order; a thread works on the next item while the present result is used. An error
    is raised where its result would come. The thread ends with the iterator."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
    try:
        started = (thread.submit(work, item) for item in items)
        following = next(started, None)
        while following is not None:
            present, following = following, next(started, None)
            yield present.result()
    finally:
        thread.shutdown(cancel_futures=True)


def _labelled(files: Sequence[Unit], groups: Sequence[Columns], contract: Contract, until: dt.date) -> Batch:
    """All rows of the files, in order, labelled as of the end of the day `until`, from the columns of their row
    groups."""
    _check_rows(files, [len(next(iter(group.values()))) for group in groups])
    columns = {name: np.concatenate([group[name] for group in groups]) for name in contract.columns}
    for name in contract.ids:
        if columns[name].dtype.kind != "i":  # a null turns integers into floats
            raise ConfigError(
                f"samples column {name} holds nulls in {files[0].path} or a file read with it: build the samples again"
            )
    weights = np.repeat([np.float32(file.weight) for file in files], [file.rows for file in files])
    columns["weight"] = columns["weight"] * weights
    columns["label"] = np.where(columns["click_day"] <= (until - _EPOCH).days, columns["label"], 0)
    return to_batch(columns, contract)


def _check_rows(files: Sequence[Unit], groups: list[int]) -> None:
    """Row groups come in the order of the files: each file must end where a row group ends."""
    ends = set(np.cumsum(groups).tolist())
    expected = 0
    for file in files:
        expected += file.rows
        if expected not in ends:
            raise ConfigError(
                f"{file.path}: expected {file.rows} rows by the Delta log, but read another number: build it again"
            )
    if sum(groups) != expected:
        raise ConfigError(
            f"{files[-1].path}: expected {files[-1].rows} rows by the Delta log, but read more: build it again"
        )


def _filler(contract: Contract) -> Batch:
    return Batch(
        ids=torch.full((1, len(contract.ids)), PADDING, dtype=torch.int32),
        numbers=torch.zeros(1, len(contract.numbers)),
        sequences={
            sequence.name: torch.full((1, sequence.length), PADDING, dtype=torch.int32)
            for sequence in contract.sequences
        },
        labels=torch.zeros(1),
        weights=torch.zeros(1),
    )
