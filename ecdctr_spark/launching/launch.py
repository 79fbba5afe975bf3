"""How a training reaches its ranks: this process, ranks on this machine, or ranks in Spark's executors.

All three take the same jobs. Ranks on this machine stay up between jobs, so that their start is paid once; Spark's
return their slots after each job. Only ranks import torch, Petastorm and Horovod, so the driver stays light.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from pyspark.sql import SparkSession

from ecdctr_spark.config import Launching
from ecdctr_spark.executors import check_executors, wait_for_slots
from ecdctr_spark.launching.local import LocalRanks, Progress
from ecdctr_spark.launching.on_spark import OnSpark
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import RankDiedError, TrainingJob, TrainingResult, WorldKind


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
def open_ranks(settings: Launching, session: Session) -> Iterator[Ranks]:
    """The ranks that the settings ask for; the first job starts them. All have ended when the context ends, also after
    an error.

    The session is asked for by launcher spark only. Raises ConfigError where the ranks are not available.
    """
    if settings.launcher == "local":
        with closing(LocalRanks(world_of(settings), settings.ranks, settings.threads_per_rank)) as ranks:
            yield _elastic(ranks, settings)
    elif settings.launcher == "spark":
        yield _elastic(_on_spark(settings, session()), settings)
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


def _on_spark(settings: Launching, spark: object) -> OnSpark:
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
    slots = wait_for_slots(spark, settings.ranks)
    if slots < settings.ranks:
        raise ConfigError(
            f"training.ranks is {settings.ranks}, but Spark has {slots} slots: lower it, give Spark more cores, or let"
            " it wait longer for executors (spark.scheduler.maxRegisteredResourcesWaitingTime)"
        )
    check_executors(spark, ["torch", "pyarrow", "safetensors", *(["horovod"] if world == "horovod" else [])])
    return OnSpark(spark, world, settings.ranks, settings.threads_per_rank)


def _elastic(ranks: Ranks, settings: Launching) -> Ranks:
    return Elastic(ranks, settings.ranks, settings.min_ranks) if settings.min_ranks else ranks
