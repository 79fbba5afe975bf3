"""Ranks in Spark's executors, one in each task: started for each job by horovod.spark.run or Spark's TorchDistributor.

The executors' Python needs this package, by its own environment or by a wheel in --py-files (executors.py).
"""

from __future__ import annotations

import logging
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import IO, Any

import msgspec
from pyspark.sql import SparkSession

from ecdctr_spark.failures import explain
from ecdctr_spark.launching.local import Progress, failure, last_words
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import BROKEN_EXCHANGE, RankDiedError, TrainingJob, TrainingResult, WorldKind

_START_SECONDS = 120
_REPORTED = rf"rank \d+ failed: (?!{BROKEN_EXCHANGE}).*"
# A shell gives 128 + the number of the signal, torchrun and Python its negative; -1: the machine is gone.
_DIED = rf"Signal \d+ \(SIG|Exit code: (?:-\d+|1(?:2[89]|[3-9]\d))|ExecutorLostFailure|{BROKEN_EXCHANGE}"
_RAISED = r"(?:^|[\s:])(\w+(?:Error|Exception): .*)$"


@dataclass(frozen=True)
class OnSpark:
    """Ranks in Spark tasks, one each, started for each job."""

    spark: SparkSession
    world: WorldKind
    ranks: int
    threads: int

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        """See launch.Ranks. Progress is reported at the end only: executors may reach the driver through Spark alone.

        Raises ConfigError where Spark fails for a reason that its user can act on.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as log, _errors_of_threads() as others:
            try:
                answer = _RUNS[self.world](
                    self.spark, ranks or self.ranks, (msgspec.json.encode(job).decode(), self.threads, self.world), log
                )
            except Exception as error:  # the launchers raise bare exceptions that do not say what happened
                log.seek(0)
                raise cause(log.read(), [*others, error]) from error
        result = msgspec.json.decode(answer, type=TrainingResult)
        progress(result.rows, result.loss)
        return result


def _by_horovod(spark: SparkSession, ranks: int, arguments: Sequence[Any], log: IO[str]) -> str:
    import horovod.spark

    from ecdctr_spark.launching.rank import train_once

    with _signal_handlers_kept():
        answers = horovod.spark.run(
            train_once,
            args=tuple(arguments),
            num_proc=ranks,
            use_gloo=True,
            start_timeout=_START_SECONDS,
            stdout=log,
            stderr=log,
            verbose=0,
            executable=spark.sparkContext.pythonExec,  # by default the driver's own path
        )
    return str(answers[0])


def _by_torch(spark: SparkSession, ranks: int, arguments: Sequence[Any], log: IO[str]) -> str:
    from pyspark.ml.torch.distributor import TorchDistributor

    from ecdctr_spark.launching.rank import train_once

    gpus = spark.conf.get("spark.task.resource.gpu.amount", None) is not None
    distributor = TorchDistributor(num_processes=ranks, local_mode=False, use_gpu=gpus)
    logging.getLogger("TorchDistributor").setLevel(logging.WARNING)
    with redirect_stderr(log):  # to which Spark writes what the ranks print
        return str(distributor.run(train_once, *arguments))


_RUNS: dict[WorldKind, Callable[[SparkSession, int, Sequence[Any], IO[str]], str]] = {
    "horovod": _by_horovod,
    "torch": _by_torch,
}


def cause(log: str, errors: Sequence[BaseException]) -> Exception:
    """The error of a job that failed, from what its ranks printed and what its launcher and Spark raised.

    The first rank that failed reports why (`failure`); the others fail because it is gone. A rank that died reports
    nothing: RankDiedError. Otherwise Spark failed: ConfigError where its user can act, else RuntimeError.
    """
    raised = [text for text in map(str, errors) if "cancelled" not in text]  # the others, once one rank has failed
    heard = "\n".join([log, *raised])
    if reported := re.search(_REPORTED, heard):
        return failure(reported.group().strip())
    if re.search(_DIED, heard):
        return RankDiedError(f"a rank died: {last_words(log or heard)}")
    explained = [explain(error) for error in errors]
    for line, code in explained:
        if code == 2:
            return ConfigError(line)
    return RuntimeError(f"Spark failed: {_last_raised(heard) or explained[0][0]}")


def _last_raised(heard: str) -> str:
    """The last error that a Python process printed; empty where there is none."""
    raised = [found.group(1) for found in re.finditer(_RAISED, heard, flags=re.MULTILINE)]
    return raised[-1] if raised else ""


@contextmanager
def _errors_of_threads() -> Iterator[list[BaseException]]:
    """What threads raise in the block: Horovod runs its Spark job in one."""
    raised: list[BaseException] = []
    before = threading.excepthook
    threading.excepthook = lambda args: raised.append(args.exc_value) if args.exc_value else None
    try:
        yield raised
    finally:
        threading.excepthook = before


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restores the signal handlers that Horovod's launcher replaces for good: Ctrl-C would do nothing afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
