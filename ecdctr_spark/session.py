"""The only builder of a SparkSession: local, on a cluster under spark-submit, or the existing one on Databricks; and
what the executors of a cluster must be given and asked."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from importlib.resources import as_file
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyspark
from pyspark.sql import SparkSession

from ecdctr_spark.config import CONF
from ecdctr_spark.events import quiet_processes
from ecdctr_spark.executors import with_environment
from ecdctr_spark.failures import log_file
from ecdctr_spark.progress import Tasks, Watch
from ecdctr_spark.storage import Root, process_folder, s3_endpoint, s3_region

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "parquet.page.verify-checksum.enabled": "true",  # Spark writes them, but does not look at them by default
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
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",  # of folders; by default 10,000 tasks
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
CLASS_ARCHIVE = Path(pyspark.__file__).parent / "classes.jsa"  # class_archive.py writes it


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
    for key, value in {**SETTINGS, **_s3_settings()}.items():
        builder = builder.config(key, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, which has started the JVM
        return with_environment(builder.getOrCreate())
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for key, value in LOCAL_SETTINGS.items():
        builder = builder.config(key, value)
    temporary = process_folder()  # what Spark leaves where it is killed, and a warehouse that nothing is kept in
    builder = builder.master(master).config("spark.driver.memory", driver_memory)
    builder = builder.config("spark.local.dir", str(temporary))
    builder = builder.config("spark.sql.warehouse.dir", f"file:{temporary}/warehouse")
    packages = s3_packages() if root is not None and root.scheme == "s3a" else []
    if packages:
        builder = builder.config("spark.jars.packages", ",".join(packages))
        builder = builder.config("spark.jars.excludes", SDK_BUNDLE)
    if not any(_SPARK_JARS.glob("delta-spark_*.jar")):
        from delta import (
            configure_spark_with_delta_pip,
        )  # a cluster has Delta's jars, but may lack this package

        builder = configure_spark_with_delta_pip(builder, extra_packages=packages)
    with as_file(CONF / "log4j2.properties") as logging, quiet_processes(log_file()):
        options = [_JVM, f"-Dlog4j2.configurationFile={logging}", f'"-Djava.io.tmpdir={temporary}"']
        if CLASS_ARCHIVE.exists():  # one of another Java or of other jars is ignored by the JVM
            options.append(f"-XX:SharedArchiveFile={CLASS_ARCHIVE}")
        return builder.config("spark.driver.extraJavaOptions", " ".join(options)).getOrCreate()


class Session:
    """The session of a command, started when it is first asked for: that takes seconds, and many commands need none."""

    def __init__(self, start: Callable[[], SparkSession]) -> None:
        self._start = start
        self.running: SparkSession | None = None

    @classmethod
    def of(cls, spark: SparkSession) -> Session:
        """A session that runs already."""
        session = cls(lambda: spark)
        session()
        return session

    def __call__(self) -> SparkSession:
        """The session, which runs from now on."""
        if self.running is None:
            self.running = self._start()
        return self.running


def watching(session: Session) -> Watch:
    """A function that says what Spark is doing, None while no task was started. Any thread may call it.

    Tasks are those of the stages that have begun: a stage that has not may be skipped. Rows are those that stages under
    way have read, from files and shuffles; Spark counts them when a task ends and every ten seconds.
    """

    def tasks() -> Tasks | None:
        spark = session.running
        if spark is None:
            return None
        try:
            tracker = spark.sparkContext.statusTracker()
            jobs = [job for name in tracker.getActiveJobsIds() if (job := tracker.getJobInfo(name))]
            stages = [stage for job in jobs for name in job.stageIds if (stage := tracker.getStageInfo(name))]
        except Exception:  # the JVM has ended, or forbids it: a step that needs it says so, and none fails for this
            return None
        begun = [stage for stage in stages if stage.numActiveTasks or stage.numCompletedTasks]
        if not begun:
            return None
        return Tasks(
            job=max(job.jobId for job in jobs),
            done=sum(stage.numCompletedTasks for stage in begun),
            total=sum(stage.numTasks for stage in begun),
            rows_per_second=sum(_rows_per_second(spark, stage.stageId) for stage in begun if stage.numActiveTasks),
        )

    return tasks


def _rows_per_second(spark: SparkSession, stage: int) -> float:
    """The rows that a stage under way has read per second. Spark's public tracker does not have them."""
    context: Any = spark.sparkContext
    try:
        found = context._jsc.sc().statusStore().lastStageAttempt(stage)
        rows = found.inputRecords() + found.shuffleReadRecords()
        return float(rows / max(time.time() - found.submissionTime().get().getTime() / 1000, 1e-3))
    except Exception:  # a cluster may allow the public methods alone
        return 0.0


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
