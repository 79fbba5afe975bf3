"""How a training reaches its ranks: this process, horovodrun on this machine, or horovod.spark.run on a cluster.

All three take the same jobs. horovodrun's ranks stay up between jobs, so that their start is paid once; Spark's give
their slots back after each. torch, Petastorm and Horovod are imported by the ranks: the process that launches others
stays light.
"""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import SparkSession

from ecdctr_spark.config import Launching
from ecdctr_spark.launching.horovodrun import Horovodrun, Progress, last_words
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import RankDiedError, TrainingJob, TrainingResult

_START_SECONDS = 120


class Ranks(Protocol):
    """Ranks that carry jobs out."""

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """All ranks together, or as many as are asked for, train the job's model. Raises RuntimeError with the error of
        the rank that failed, RankDiedError where its process ended; the others have ended by then, and the next job
        starts new ones."""


@dataclass(frozen=True)
class Elastic:
    """Ranks that may die: those that are left, down to `least`, go on from the job's last checkpoint."""

    ranks: Ranks
    size: int
    least: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks. Each job begins with all of them."""
        size = ranks or self.size
        while True:
            try:
                return self.ranks.train(job, progress, size)
            except RankDiedError:
                if size <= self.least:
                    raise
                size -= 1


@contextmanager
def open_ranks(settings: Launching, spark: SparkSession | None) -> Iterator[Ranks]:
    """The ranks that the settings ask for; the first job starts them. When the context ends, however it ends, none is
    left.

    `spark` is used by the launcher spark alone. Raises ConfigError where the ranks cannot be had.
    """
    if settings.launcher == "horovodrun":
        with closing(Horovodrun(settings.ranks, settings.threads_per_rank)) as ranks:
            yield _elastic(ranks, settings)
    elif settings.launcher == "spark":
        yield _elastic(_on_spark(settings, spark), settings)
    else:
        yield _inline(settings)


@dataclass(frozen=True)
class Inline:
    """One rank: this process. Errors come as they are."""

    threads: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks."""
        import torch

        from ecdctr_spark.models.exchange import ALONE
        from ecdctr_spark.training.trainer import train

        torch.set_num_threads(self.threads)
        return train(job, ALONE, progress)


def _inline(settings: Launching) -> Inline:
    if settings.ranks != 1:
        raise ConfigError(
            f"training.launcher inline is one rank, and training.ranks is {settings.ranks}: set it to 1 (--ranks 1)"
        )
    return Inline(settings.threads_per_rank)


@dataclass(frozen=True)
class OnSpark:
    """As many ranks as Spark tasks, started for each job."""

    ranks: int
    threads: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks. Progress is told at the end only: executors need not reach the driver but through Spark."""
        import horovod.spark

        from ecdctr_spark.launching.rank import train_once

        with tempfile.TemporaryFile("w+", encoding="utf-8") as log, _signal_handlers_kept():
            try:
                results = horovod.spark.run(
                    train_once,
                    args=(job.model_dump_json(), self.threads),
                    num_proc=ranks or self.ranks,
                    use_gloo=True,
                    start_timeout=_START_SECONDS,
                    stdout=log,
                    stderr=log,
                    verbose=0,
                )
            except Exception as error:  # Horovod raises bare ones, which do not say what happened
                log.seek(0)
                raise _cause(log.read()) from error
        result = TrainingResult.model_validate_json(results[0])
        progress(result.rows, result.loss)
        return result


def _on_spark(settings: Launching, spark: SparkSession | None) -> OnSpark:
    if not isinstance(spark, SparkSession):
        raise ConfigError("training.launcher spark needs a classic Spark session, and there is none (Spark Connect?)")
    slots = spark.sparkContext.defaultParallelism
    if slots < settings.ranks:
        raise ConfigError(
            f"training.ranks is {settings.ranks}, and Spark has {slots} slots: lower it, or give Spark more cores"
        )
    return OnSpark(settings.ranks, settings.threads_per_rank)


def _elastic(ranks: Ranks, settings: Launching) -> Ranks:
    return Elastic(ranks, settings.ranks, settings.min_ranks) if settings.min_ranks else ranks


def _cause(log: str) -> RuntimeError:
    """What the first rank to fail said of it: the others fail because it is gone. A rank that died said nothing."""
    told = re.search(r"rank \d+ failed: .*", log)
    return RuntimeError(told.group()) if told else RankDiedError(f"a rank died: {last_words(log)}")


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Horovod's launcher puts its own handlers in place and leaves them there: Ctrl-C would do nothing afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
