"""How a training reaches its ranks: this process, horovodrun on this machine, or horovod.spark.run on a cluster.

All three take the same jobs. horovodrun's ranks stay up between jobs, so that their start is paid once; Spark's return
their slots after each job. Only ranks import torch, Petastorm and Horovod, so the driver stays light.
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
    """Ranks that run jobs."""

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """Trains the job's model on all ranks, or on `ranks` of them. Raises RuntimeError with the error of the rank
        that failed, RankDiedError where its process ended. The other ranks have ended by then, and the next job starts
        new ones."""


@dataclass(frozen=True)
class Elastic:
    """Ranks that may die: the remaining ones, `least` or more, resume from the job's last checkpoint."""

    ranks: Ranks
    size: int
    least: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks. Each job starts with all ranks."""
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
    """The ranks that the settings ask for; the first job starts them. All have ended when the context ends, also after
    an error.

    `spark` is used by launcher spark only. Raises ConfigError where the ranks are not available.
    """
    if settings.launcher == "horovodrun":
        with closing(Horovodrun(settings.ranks, settings.threads_per_rank)) as ranks:
            yield _elastic(ranks, settings)
    elif settings.launcher == "spark":
        yield _elastic(_on_spark(settings, spark), settings)
    else:
        yield Inline(settings.threads_per_rank)


@dataclass(frozen=True)
class Inline:
    """One rank: this process. Errors are raised as they are."""

    threads: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks."""
        import torch

        from ecdctr_spark.models.exchange import ALONE
        from ecdctr_spark.training.trainer import train

        torch.set_num_threads(self.threads)
        return train(job, ALONE, progress)


@dataclass(frozen=True)
class OnSpark:
    """Ranks in Spark tasks, one each, started for each job."""

    ranks: int
    threads: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks. Progress is reported at the end only: executors may reach the driver through Spark alone."""
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
            except Exception as error:  # Horovod raises bare exceptions that do not say what happened
                log.seek(0)
                raise _cause(log.read()) from error
        result = TrainingResult.model_validate_json(results[0])
        progress(result.rows, result.loss)
        return result


def _on_spark(settings: Launching, spark: SparkSession | None) -> OnSpark:
    if not isinstance(spark, SparkSession):
        raise ConfigError(
            "training.launcher spark needs a classic Spark session, but got none (Spark Connect?): use horovodrun"
        )
    slots = spark.sparkContext.defaultParallelism
    if slots < settings.ranks:
        raise ConfigError(
            f"training.ranks is {settings.ranks}, but Spark has {slots} slots: lower it, or give Spark more cores"
        )
    return OnSpark(settings.ranks, settings.threads_per_rank)


def _elastic(ranks: Ranks, settings: Launching) -> Ranks:
    return Elastic(ranks, settings.ranks, settings.min_ranks) if settings.min_ranks else ranks


def _cause(log: str) -> RuntimeError:
    """The error of the first rank that failed: the others fail because it is gone. A rank that died reports none."""
    reported = re.search(r"rank \d+ failed: .*", log)
    return RuntimeError(reported.group()) if reported else RankDiedError(f"a rank died: {last_words(log)}")


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restores the signal handlers that Horovod's launcher replaces for good: Ctrl-C would do nothing afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
