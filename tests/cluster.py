"""A standalone Spark cluster of pip's pyspark on loopback, and spark-submit as a user of a cluster calls it.

The master, the workers and so their executors start from a bare environment: what they need to know must be sent to
them, as on machines of their own. Their Python lacks the package: the wheel is shipped by --py-files. The driver's
Python is at a path that exists on its own machine only, so nothing may start it in an executor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pyspark

from ecdctr_spark.session import SDK_BUNDLE, s3_packages
from ecdctr_spark.storage import Root
from tests.packed import pack
from tests.wheels import ROOT, build, copy_source

_SPARK_HOME = Path(pyspark.__file__).parent
_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # a JVM of a minute gains nothing from optimised code
_WORKERS = 2
_START_SECONDS = 120

# Ends its command when its standard input does: when the test session has ended, however it ended.
_LEASH = '"$@" & cat > /dev/null; kill $!; wait $!'

_ON_DRIVER = "ON_DRIVER"  # a variable that only the driver has

# What starts ranks in executors, one in each, as Python is called.
_RANKS = {"horovod.spark.task.gloo_exec_fn": "horovod", "torch.distributed.run": "torch"}

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
    """The exit code of spark-submit, what the job printed, and how many ranks each world started in each executor."""

    code: int
    out: str
    err: str
    ranks: dict[str, list[int]]


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
    """A cluster, and what a user has for it: the wheel, the options of spark-submit that ship it, the driver's Python
    and the executors', and the file in which the latter notes each of its starts."""

    master: str
    wheel: Path
    options: tuple[str, ...]
    drivers: Path
    executors: str
    starts: Path

    def submit(self, job: str, root: Root, *arguments: str) -> Submitted:
        """spark-submit of one of jobs/ on a root. The driver sees the variables of this process that name S3."""
        pythons = {"spark.pyspark.python": self.executors, "spark.pyspark.driver.python": str(self.drivers)}
        options = [*self.options, *settings({**_SETTINGS, **pythons})]
        if root.scheme == "s3a":
            options += ["--packages", ",".join(s3_packages()), "--exclude-packages", SDK_BUNDLE]
        command = [str(_SPARK_HOME / "bin" / "spark-submit"), "--master", self.master, *options]
        s3 = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self.starts.write_text("")
        done = subprocess.run(
            [*command, str(ROOT / "jobs" / f"{job}.py"), *arguments, "--set", f"storage.root={root}"],
            env={**_environment(), **s3, "SPARK_SUBMIT_OPTS": _JVM, "PYTHONPATH": str(ROOT), _ON_DRIVER: "yes"},
            cwd=self.starts.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        if done.returncode == 0:
            for copies in self.starts.parent.glob("worker-*/app-*"):  # of all that was shipped, for each executor
                shutil.rmtree(copies)
        return Submitted(done.returncode, done.stdout, done.stderr, self._ranks())

    def shipping(self, archive: Path) -> Cluster:
        """The same cluster, whose executors have no Python but the one in an archive, which it writes."""
        pack(self.wheel, python(f'echo "$PWD $*" >> {self.starts}', '"${0%/*}/python3"'), archive)
        return replace(self, options=("--archives", f"{archive}#environment"), executors="./environment/bin/python")

    def having(self, chosen: Mapping[str, str]) -> Cluster:
        """The same cluster with further settings of Spark."""
        return replace(self, options=(*self.options, *settings(chosen)))

    def _ranks(self) -> dict[str, list[int]]:
        found: dict[str, Counter[str]] = {}
        for line in self.starts.read_text().splitlines():
            folder, _, command = line.partition(" -m ")
            if (module := command.partition(" ")[0]) in _RANKS:
                found.setdefault(_RANKS[module], Counter())[folder] += 1
        return {world: sorted(counts.values()) for world, counts in found.items()}


def settings(chosen: Mapping[str, str]) -> list[str]:
    """Spark's settings as options of spark-submit."""
    return [part for name, value in chosen.items() for part in ("--conf", f"{name}={value}")]


@contextmanager
def cluster_below(folder: Path) -> Iterator[Cluster]:
    """A cluster that writes below `folder`, with the wheel of this checkout."""
    copy_source(folder / "source")
    wheel = build("wheel", folder / "source", folder)
    starts = folder / "starts"
    drivers = _with_packages(folder / "ours", python(f'[ "${_ON_DRIVER}" ] || {{ echo "$0: not here" >&2; exit 1; }}'))
    executors = _with_packages(folder / "theirs", python(f'echo "$PWD $*" >> {starts}'))
    with _standalone(folder) as master:
        yield Cluster(master, wheel, ("--py-files", str(wheel)), drivers, str(executors), starts)


def python(line: str, interpreter: str = sys.executable) -> str:
    """A script that runs a line of shell and then an interpreter, as that of the environment in which the script is."""
    return f'#!/bin/bash\n{line}\nexec -a "$0" {interpreter} "$@"\n'


def _with_packages(folder: Path, python: str) -> Path:
    """The path of a Python that has what this one has, by links, but not the package."""
    site_packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    site_packages.mkdir(parents=True)
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if "ecdctr_spark" not in installed.name:
            (site_packages / installed.name).symlink_to(installed)
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), folder)
    script = folder / "bin" / "python"
    script.parent.mkdir()
    script.write_text(python)
    script.chmod(0o755)
    return script


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
