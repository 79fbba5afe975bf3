"""Spark's executors: whether they have slots for all ranks, whether their Python can run this package, and what it has
to be given for that."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple
from uuid import uuid4

from pyspark.sql import SparkSession

from ecdctr_spark.failures import explain
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.shipped import archive, digest
from ecdctr_spark.storage import S3_VARIABLES
from ecdctr_spark.version import code_version


def slots(spark: SparkSession) -> int:
    """How many tasks the executors that have registered run at once, by their cores and GPUs."""
    context: Any = spark.sparkContext._jsc.sc()  # the public defaultParallelism is a setting, and 2 without executors
    return int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile()))


def wait_for_slots(spark: SparkSession, tasks: int) -> int:
    """Returns the number of slots once there are `tasks`, or once Spark has waited for executors as long as it is
    configured to (spark.scheduler.maxRegisteredResourcesWaitingTime, 30 seconds by default)."""
    if slots(spark) < tasks:
        seconds = _patience(spark)
        deadline = time.monotonic() + seconds
        with _pending(spark, tasks, seconds):
            while slots(spark) < tasks and time.monotonic() < deadline:
                time.sleep(0.1)
    return slots(spark)


class _Worker(NamedTuple):
    """What a Python process of an executor says of itself."""

    python: str
    host: str
    version: str
    digest: str
    missing: tuple[str, ...]


def check_executors(spark: SparkSession, modules: Collection[str] = ()) -> None:
    """Asks the Python of the executors, by a job of one small task per slot, whether it runs the driver's code and has
    the top-level `modules` (horovod).

    Raises ConfigError where it does not start, has another minor version than the driver's, cannot import the package,
    has other code of it, or lacks a module.
    """
    ours = _worker(modules)
    tasks = max(slots(spark), 1)
    try:
        found = spark.sparkContext.parallelize(range(tasks), tasks).map(lambda _: _worker(modules)).collect()
    except Exception as error:
        said, code = explain(error)
        if code == 2:
            raise ConfigError(f"Spark's executors cannot run this package: {said}") from error
        raise
    for worker in found:
        if worker.digest != ours.digest:
            raise ConfigError(
                f"{worker.python} on {worker.host} has other code of ecdctr_spark ({worker.version}) than the driver"
                f" ({ours.version}): install the same version there, or ship the wheel by --py-files"
            )
        if worker.missing:
            raise ConfigError(
                f"{worker.python} on {worker.host} has no module {' and no '.join(worker.missing)}: install it there,"
                " or set spark.pyspark.python to a Python on the executors that has it"
            )


def _patience(spark: SparkSession) -> int:
    settings: Any = spark.sparkContext._jsc.getConf()
    return int(settings.getTimeAsSeconds("spark.scheduler.maxRegisteredResourcesWaitingTime", "30s"))


@contextmanager
def _pending(spark: SparkSession, tasks: int, seconds: int) -> Iterator[None]:
    """In the block, a job of `tasks` tasks runs or waits: dynamic allocation asks for executors only while tasks wait.
    Whether their Python starts is for check_executors to find out."""
    context, group = spark.sparkContext, uuid4().hex

    def occupy() -> None:
        context.setJobGroup(group, "asks for a slot for each rank", interruptOnCancel=True)
        context.parallelize(range(tasks), tasks).foreach(lambda _: time.sleep(seconds))

    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(occupy)
        try:
            yield
        finally:
            while not job.done():
                context.cancelJobGroup(group)
                time.sleep(0.1)


def _worker(modules: Collection[str]) -> _Worker:
    missing = tuple(module for module in modules if find_spec(module) is None)
    return _Worker(sys.executable, socket.gethostname(), code_version(), digest(), missing)


def with_environment(session: SparkSession) -> SparkSession:
    """Tells the Python workers of the executors, and the ranks in them, what Spark's JVM knows already.

    Spark itself sends the driver's S3 credentials to the executors' JVMs. It copies a wheel of --py-files to the
    executors' working folder, but leaves it off their path, and off that of the ranks.
    """
    environment = session.sparkContext.environment
    for name in S3_VARIABLES:
        if name in os.environ:
            environment.setdefault(name, os.environ[name])
    if place := archive():
        others = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys([place.name, *others])))
    return session
