"""How a training reaches its ranks: this process, ranks on this machine, or ranks in Spark's executors.

All three take the same jobs. Ranks on this machine stay up between jobs, so that their start is paid once; Spark's
return their slots after each job. Only ranks import torch, Petastorm and Horovod, so the driver stays light.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from pyspark.sql import SparkSession

from ecdctr_spark.config import Launching
from ecdctr_spark.events import event
from ecdctr_spark.executors import check_executors, wait_for_slots
from ecdctr_spark.launching.local import LocalRanks, Progress
from ecdctr_spark.launching.on_spark import OnSpark
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import RankDiedError, TrainingJob, TrainingResult, WorldKind

# Measured in processor time, on the complete network of conf/methods and ranks of one thread. A step of 512, 1024,
# 2048, 4096 and 8192 rows took one rank 21, 40, 72, 139 and 279 ms, and each of two 23, 43, 67, 89 and 172 ms; their
# exchanges add about 7 ms of waiting. To start a rank took 3.5 s, which a second one saves in 300,000 rows.
_BATCH_ROWS = 2048  # of a batch, per rank
_ROWS = 150_000  # of a training, per rank


class Ranks(Protocol):
    """Ranks that run jobs."""

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """Trains the job's model on all ranks, or on `ranks` of them. Raises the error of the rank that failed:
        ConfigError where its user can act, else RuntimeError; RankDiedError where its process ended. The other ranks
        have ended by then, and the next job starts new ones."""


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


@dataclass(frozen=True)
class Fitting:
    """Ranks of which each job gets as many as are fastest for it, at most `most`."""

    ranks: Ranks
    most: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See Ranks. A training that resumes takes as many as have begun it, so that it ends the same anywhere."""
        from ecdctr_spark.training.resume import begun_by

        rows = sum(unit.rows for unit in job.units) * job.train.epochs
        number = ranks or begun_by(job) or fitting(rows, job.train.batch_size, self.most)
        event("ranks chosen", model=job.model_id, ranks=number, rows=rows, batch_size=job.train.batch_size)
        return self.ranks.train(job, progress, number)


def fitting(rows: int, batch_size: int, most: int) -> int:
    """The number of ranks that are likely to be the fastest for a training that reads `rows` rows, at most `most`.

    A rank more must have work enough to outweigh what it costs: in a step its exchanges and the small operations that
    take as long for few rows as for many; in a training its start. Nothing else decides, so the same training takes the
    same number whenever it is repeated on this machine.
    """
    return max(1, min(most, batch_size // _BATCH_ROWS, rows // _ROWS))


@contextmanager
def open_ranks(settings: Launching, session: Session) -> Iterator[Ranks]:
    """The ranks that the settings ask for; the first job starts them. All have ended when the context ends, also after
    an error.

    The session is asked for by launcher spark only. Raises ConfigError where the ranks are not available.
    """
    most = max(1, _cores() // settings.threads_per_rank) if settings.ranks == "auto" else settings.ranks
    if settings.launcher == "local":
        with closing(LocalRanks(world_of(settings), most, settings.threads_per_rank)) as ranks:
            elastic = _elastic(ranks, most, settings.min_ranks)
            yield Fitting(elastic, most) if settings.ranks == "auto" else elastic
    elif settings.launcher == "spark":
        yield _elastic(_on_spark(settings, most, session()), most, settings.min_ranks)
    else:
        yield Inline(settings.threads_per_rank)


def world_of(settings: Launching) -> WorldKind:
    """What joins the ranks: for auto, Horovod where it is installed, else torch. Raises ConfigError where Horovod is
    asked for and is not installed."""
    installed = find_spec("horovod") is not None
    if settings.world == "horovod" and not installed:
        raise ConfigError("training.world is horovod, which is not installed: use torch, or run `make setup`")
    return "horovod" if installed and settings.world != "torch" else "torch"


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


def _on_spark(settings: Launching, ranks: int, spark: object) -> OnSpark:
    if not isinstance(spark, SparkSession):
        raise ConfigError(
            "training.launcher spark needs a classic Spark session, but got none (Spark Connect?): use local"
        )
    world = world_of(settings)
    if world == "torch" and spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise ConfigError(
            "spark.dynamicAllocation.enabled is true, under which Spark starts no ranks of torch: set it to false, or"
            " training.world to horovod"
        )
    slots = wait_for_slots(spark, ranks)
    if slots < ranks:
        raise ConfigError(
            f"training.ranks is {ranks}, but Spark has {slots} slots: lower it, give Spark more cores, or let"
            " it wait longer for executors (spark.scheduler.maxRegisteredResourcesWaitingTime)"
        )
    check_executors(spark, ["torch", "pyarrow", "safetensors", *(["horovod"] if world == "horovod" else [])])
    return OnSpark(spark, world, ranks, settings.threads_per_rank)


def _elastic(ranks: Ranks, size: int, least: int | None) -> Ranks:
    return Elastic(ranks, size, least) if least else ranks


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
