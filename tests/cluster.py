"""A standalone Spark cluster of pip's pyspark on loopback, and spark-submit as a user of a cluster calls it.

The master, the workers and so their executors start from a bare environment: what they need to know must be sent to
them, as on machines of their own. The wheel is shipped by --py-files. The driver's Python is at a path that exists on
its own machine only, so nothing may start it in an executor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyspark

from ecdctr_spark.session import SDK_BUNDLE, s3_packages
from ecdctr_spark.storage import Root
from tests.wheels import ROOT, build, copy_source

_SPARK_HOME = Path(pyspark.__file__).parent
_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # a JVM of a minute gains nothing from optimised code
_WORKERS = 2
_START_SECONDS = 120

# Ends its command when its standard input does: when the test session has ended, however it ended.
_LEASH = '"$@" & cat > /dev/null; kill $!; wait $!'

_ON_DRIVER = "ON_DRIVER"  # a variable that only the driver has

_SETTINGS = {  # for tables of a few rows
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.executor.extraJavaOptions": _JVM,
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
def _standalone(folder: Path) -> Iterator[str]:
    """A master and two workers of one core each, that write below `folder`; their address, spark://127.0.0.1:PORT. All
    processes have ended when the block ends."""
    with ExitStack() as daemons:
        master = daemons.enter_context(_daemon("master.Master", folder / "master.log"))
        address = _said(folder / "master.log", master, r"spark://127\.0\.0\.1:\d+")
        for number in range(_WORKERS):
            size = ["--cores", "1", "--memory", "1536m", "--work-dir", str(folder / f"worker-{number}")]
            log = folder / f"worker-{number}.log"
            worker = daemons.enter_context(_daemon("worker.Worker", log, *size, address))
            _said(log, worker, "Successfully registered with master")
        yield address


@dataclass(frozen=True)
class Cluster:
    """A cluster, and what a user has for it: the wheel, the driver's Python and the executors'."""

    master: str
    wheel: Path
    drivers: Path
    executors: Path

    def submit(self, job: str, root: Root, *arguments: str) -> Submitted:
        """spark-submit of one of jobs/ on a root. The driver sees the variables of this process that name S3."""
        options = ["--py-files", str(self.wheel)]
        if root.scheme == "s3a":
            options += ["--packages", ",".join(s3_packages()), "--exclude-packages", SDK_BUNDLE]
        pythons = {"spark.pyspark.python": str(self.executors), "spark.pyspark.driver.python": str(self.drivers)}
        settings = [part for name, value in {**_SETTINGS, **pythons}.items() for part in ("--conf", f"{name}={value}")]
        command = [str(_SPARK_HOME / "bin" / "spark-submit"), "--master", self.master, *options, *settings]
        s3 = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        done = subprocess.run(
            [*command, str(ROOT / "jobs" / f"{job}.py"), *arguments, "--set", f"storage.root={root}"],
            env={**_environment(), **s3, "SPARK_SUBMIT_OPTS": _JVM, _ON_DRIVER: "yes"},
            cwd=self.wheel.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        return Submitted(done.returncode, done.stdout, done.stderr)


@contextmanager
def cluster_below(folder: Path) -> Iterator[Cluster]:
    """A cluster that writes below `folder`, with the wheel of this checkout."""
    copy_source(folder / "source")
    wheel = build("wheel", folder / "source", folder)
    (folder / "theirs").symlink_to(sys.prefix)
    with _standalone(folder) as master:
        yield Cluster(master, wheel, _only_on_the_driver(folder / "ours"), folder / "theirs" / "bin" / "python")


def _only_on_the_driver(environment: Path) -> Path:
    """A Python of this environment that refuses to start where spark-submit was not called."""
    (environment / "bin").mkdir(parents=True)
    (environment / "lib").symlink_to(Path(sys.prefix, "lib"))
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), environment)
    python = environment / "bin" / "python"
    python.write_text(
        f'#!/bin/bash\n[ "${_ON_DRIVER}" ] || {{ echo "$0 is not on the executors" >&2; exit 1; }}\n'
        f'exec -a "$0" {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return python


@contextmanager
def _daemon(name: str, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(_SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1"]
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
    """A machine that knows nothing of this environment."""
    kept = {name: os.environ[name] for name in ("HOME", "JAVA_HOME", "TMPDIR", "LANG") if name in os.environ}
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if not folder.startswith(sys.prefix)]
    spark = {"SPARK_HOME": str(_SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}
    daemons = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": _JVM}
    return {**kept, "PATH": os.pathsep.join(path), **spark, **daemons}


def _said(log: Path, daemon: subprocess.Popen[bytes], pattern: str) -> str:
    """What matches the pattern in a daemon's log, once it is there."""
    deadline = time.monotonic() + _START_SECONDS
    while not (found := re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))):
        assert daemon.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)
    return found.group()
