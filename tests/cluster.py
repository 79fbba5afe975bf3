"""A standalone Spark cluster of pip's pyspark on loopback, and spark-submit as a user of a cluster calls it.

The master, the workers and so their executors start from a bare environment: what they need to know must be sent to
them, as on machines of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # a JVM of a minute gains nothing from optimised code
WORKERS = 2
_START_SECONDS = 120

# Ends its command when its standard input does: when the test session has ended, however it ended.
_LEASH = '"$@" & cat > /dev/null; kill $!; wait $!'

QUICK = {  # for tables of a few rows
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.ui.enabled": "false",
}


class Submitted(NamedTuple):
    """The exit code of spark-submit and what the job printed."""

    code: int
    out: str
    err: str


@contextmanager
def standalone(folder: Path) -> Iterator[str]:
    """A master and two workers of one core each, that write below `folder`; their address, spark://127.0.0.1:PORT. All
    processes have ended when the block ends."""
    with ExitStack() as daemons:
        master = daemons.enter_context(_daemon("master.Master", folder / "master.log"))
        address = _said(folder / "master.log", master, r"spark://127\.0\.0\.1:\d+")
        for number in range(WORKERS):
            size = ["--cores", "1", "--memory", "1536m", "--work-dir", str(folder / f"worker-{number}")]
            log = folder / f"worker-{number}.log"
            worker = daemons.enter_context(_daemon("worker.Worker", log, *size, address))
            _said(log, worker, "Successfully registered with master")
        yield address


def submit(master: str, job: Path, arguments: Sequence[str], conf: Mapping[str, str], *options: str) -> Submitted:
    """spark-submit of a job in client mode. `conf` are Spark's settings, `options` further ones of spark-submit. The
    driver sees the variables of this process that name S3."""
    settings = {
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1g",
        "spark.executor.extraJavaOptions": JVM,
        **QUICK,
        **conf,
    }
    command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", master, *options]
    command += [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    done = subprocess.run(
        [*command, str(job), *arguments],
        env={
            **_environment(),
            **variables,
            "SPARK_SUBMIT_OPTS": JVM,
            "ON_DRIVER": "yes",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return Submitted(done.returncode, done.stdout, done.stderr)


@contextmanager
def _daemon(name: str, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1"]
    command += ["--port", "0", "--webui-port", "0", *arguments]
    with log.open("wb") as output:
        leashed = ["sh", "-c", _LEASH, "sh", *command]
        daemon = subprocess.Popen(
            leashed, env=_environment(), stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield daemon
    finally:
        assert daemon.stdin is not None
        daemon.stdin.close()
        daemon.wait()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME", "TMPDIR", "LANG") if name in os.environ}
    spark = {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}
    return {**kept, **spark, "SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": JVM}


def _said(log: Path, daemon: subprocess.Popen[bytes], pattern: str) -> str:
    """What matches the pattern in a daemon's log, once it is there."""
    deadline = time.monotonic() + _START_SECONDS
    while not (found := re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))):
        assert daemon.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)
    return found.group()
