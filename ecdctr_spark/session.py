"""The only builder of a SparkSession: local, on a cluster under spark-submit, or the existing one on Databricks; and
what the executors of a cluster must be told and asked."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.resources import as_file
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import pyspark
from pyspark.sql import SparkSession

from ecdctr_spark.config import CONF
from ecdctr_spark.failures import explain, log_file
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.shipped import archive, digest
from ecdctr_spark.storage import S3_VARIABLES, Root, s3_endpoint, s3_region
from ecdctr_spark.version import code_version

DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
}

# Code that Spark generates for wide rows exceeds the size that the JVM compiles by default, and would be interpreted.
# Each query has its own code, whose full optimisation pays off only after ten times the default number of calls. Joins
# and aggregates look up rows all over the heap: large pages save a tenth of their time. Linux has them; the JVM of
# another system would refuse the unknown option.
_JVM = (
    "-XX:-DontCompileHugeMethods -XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000"
    " -XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
    " -XX:+IgnoreUnrecognizedVMOptions -XX:+UseTransparentHugePages"
)

# By default the state of a Delta table is read by 50 tasks and a shuffle makes 200: far too many for one machine.
LOCAL_SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",  # a vacuum would list files with 10,000 tasks
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # The counters of a few weeks' users, items and categories fit the memory: impressions need no shuffle.
    "spark.sql.adaptive.autoBroadcastJoinThreshold": "32m",
    # If no partition of one side is larger, that side is hashed and neither is sorted. Hashed rows cannot be spilled
    # and take several times the bytes that were shuffled.
    "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "16m",
}

_SDK = "software.amazon.awssdk"
SDK_BUNDLE = f"{_SDK}:bundle"  # all of Amazon's services in half a gigabyte; the parts for S3 take 15 MB
_SDK_PARTS = ("s3", "s3-transfer-manager", "sts")
_SDK_VERSION = "2.25.53"

_SPARK_JARS = Path(pyspark.__file__).parent / "jars"


def spark_session(master: str = "local[2]", driver_memory: str = "4g", root: Root | None = None) -> SparkSession:
    """The session of this process: the running one if there is one, else a new one.

    On Databricks the session exists. Under spark-submit the submit command sets master, memory and packages; only
    Delta's settings and the S3 endpoint are added. Otherwise a local session is built with Delta's jars, and with those
    of S3 where `root` is on S3; its JVM writes to the log of this process (failures.py), not to the terminal. Jars are
    fetched from Maven Central the first time.
    """
    builder = SparkSession.builder.appName("ecdctr_spark")
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return builder.getOrCreate()
    for key, value in {**DELTA_SETTINGS, **_s3_settings()}.items():
        builder = builder.config(key, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, which has started the JVM
        return _with_environment(builder.getOrCreate())
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for key, value in LOCAL_SETTINGS.items():
        builder = builder.config(key, value)
    builder = builder.master(master).config("spark.driver.memory", driver_memory)
    packages = s3_packages() if root is not None and root.scheme == "s3a" else []
    if packages:
        builder = builder.config("spark.jars.packages", ",".join(packages))
        builder = builder.config("spark.jars.excludes", SDK_BUNDLE)
    if not any(_SPARK_JARS.glob("delta-spark_*.jar")):
        from delta import (
            configure_spark_with_delta_pip,
        )  # a cluster has Delta's jars, but may lack this package

        builder = configure_spark_with_delta_pip(builder, extra_packages=packages)
    with as_file(CONF / "log4j2.properties") as logging, _standard_error(log_file()):
        options = f"{_JVM} -Dlog4j2.configurationFile={logging}"
        return builder.config("spark.driver.extraJavaOptions", options).getOrCreate()


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
    slots = spark.sparkContext.defaultParallelism
    try:
        found = spark.sparkContext.parallelize(range(slots), slots).map(lambda _: _worker(modules)).collect()
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


def _worker(modules: Collection[str]) -> _Worker:
    missing = tuple(module for module in modules if find_spec(module) is None)
    return _Worker(sys.executable, socket.gethostname(), code_version(), digest(), missing)


def _with_environment(session: SparkSession) -> SparkSession:
    """Tells the Python workers of the executors, and the ranks in them, what Spark's JVM knows without being told.

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


@contextmanager
def _standard_error(log: Path) -> Iterator[None]:
    """Lets processes that are started in the block write their standard error to the end of a file."""
    sys.stderr.flush()
    ours, theirs = os.dup(2), os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(theirs, 2)
    try:
        yield
    finally:
        os.dup2(ours, 2)
        os.close(theirs)
        os.close(ours)


def _s3_settings() -> dict[str, str]:
    """The settings that pyarrow and delta-rs read from the environment. Spark finds credentials there itself."""
    endpoint, region = s3_endpoint(), s3_region()
    settings = {"spark.hadoop.fs.s3a.endpoint.region": region} if region else {}
    if endpoint:
        settings["spark.hadoop.fs.s3a.endpoint"] = endpoint
        settings["spark.hadoop.fs.s3a.path.style.access"] = "true"  # only Amazon is sure to have one host per bucket
        settings["spark.hadoop.fs.s3a.connection.ssl.enabled"] = str(endpoint.startswith("https:")).lower()
    return settings


def s3_packages() -> list[str]:
    """Hadoop's S3 client and the parts of Amazon's SDK that it needs; none if Spark's jars include them."""
    if any(_SPARK_JARS.glob("hadoop-aws-*.jar")):
        return []
    (hadoop,) = _SPARK_JARS.glob("hadoop-client-api-*.jar")
    version = hadoop.stem.rsplit("-", 1)[1]
    return [f"org.apache.hadoop:hadoop-aws:{version}", *(f"{_SDK}:{part}:{_SDK_VERSION}" for part in _SDK_PARTS)]


def install_delta_jars() -> None:
    """Copies Delta's jars, fetched from Maven Central the first time, to Spark's own: sessions then start without the
    network, and `spark-submit` needs no --packages."""
    session = spark_session()
    fetched = session.sparkContext.getConf().get("spark.jars", "")
    for path in filter(None, fetched.split(",")):
        jar = Path(urlparse(path).path)  # Ivy names it after its group and artifact, GROUP_ARTIFACT-VERSION.jar
        partial = _SPARK_JARS / f"{jar.name.split('_', 1)[1]}.partial"
        shutil.copy(jar, partial)
        partial.rename(partial.with_suffix(""))
    session.stop()


if __name__ == "__main__":
    install_delta_jars()
