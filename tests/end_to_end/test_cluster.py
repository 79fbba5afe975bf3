"""The whole system by spark-submit on a standalone cluster: the wheel by --py-files, all levels trained in two
executors, and the models of a local run, bit for bit.

In CI: one run with the store on S3. `make test-cluster` adds a folder as the store, step by step.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.session import SDK_BUNDLE, s3_packages
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, MODELS
from ecdctr_spark.tables.small import read_rows
from tests.cluster import Submitted, standalone, submit
from tests.end_to_end.test_run import ecdctr
from tests.s3.conftest import s3_root, s3_server  # noqa: F401 - fixtures
from tests.s3.test_run import weights
from tests.wheels import ROOT, build, copy_source

pytestmark = pytest.mark.end_to_end

DAY = "2024-03-05"
SHORT = ["--method", "ecdctr", "--set", "calendar.first_day=2024-02-28"]  # a month's end, a Monday, and the day after
ON_SPARK = ["--set", "training.launcher=spark", "--set", "training.ranks=2"]


class Cluster(NamedTuple):
    """A cluster's address, and what a user has for it: the wheel, the driver's Python and the executors'."""

    master: str
    wheel: Path
    drivers: Path
    executors: Path

    def submit(self, job: str, overlay: Path, root: Root, *arguments: str) -> Submitted:
        """Submits a job with a configuration and a root."""
        conf = {"spark.pyspark.python": str(self.executors), "spark.pyspark.driver.python": str(self.drivers)}
        options = ["--py-files", str(self.wheel)]
        if root.scheme == "s3a":
            options += ["--packages", ",".join(s3_packages()), "--exclude-packages", SDK_BUNDLE]
        where = ["--conf", str(overlay), "--set", f"storage.root={root}"]
        return submit(self.master, ROOT / "jobs" / f"{job}.py", [*arguments, *where], conf, *options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The driver's Python is at a path that exists on its machine only: it runs nothing in an executor."""
    folder = tmp_path_factory.mktemp("cluster")
    copy_source(folder / "source")
    (folder / "theirs").symlink_to(sys.prefix)
    with standalone(folder) as master:
        yield Cluster(
            master, build("wheel", folder / "source", folder), only_on_the_driver(folder), folder / "theirs/bin/python"
        )


def only_on_the_driver(folder: Path) -> Path:
    """A Python of this environment that refuses to start where spark-submit was not called."""
    environment = folder / "ours"
    (environment / "bin").mkdir(parents=True)
    (environment / "lib").symlink_to(Path(sys.prefix, "lib"))
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), environment)
    python = environment / "bin" / "python"
    python.write_text(
        f'#!/bin/bash\n[ "$ON_DRIVER" ] || {{ echo "$0 is not on the executors" >&2; exit 1; }}\n'
        f'exec -a "$0" {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return python


@pytest.fixture(scope="module")
def local(spark: SparkSession, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The same run on this machine, on two ranks."""
    root = Root.parse(tmp_path_factory.mktemp("local"))
    done = ecdctr("run", overlay, Path(str(root)), "--from", DAY, "--to", DAY, *SHORT)
    assert done.code == 0, done.out + done.err
    return root


def same(root: Root, other: Root) -> None:
    assert sorted(row["level"] for row in read_rows(root, MODELS)) == ["actr", "actr", "cpm", "tpm"]
    assert weights(root) == weights(other)
    assert sorted(map(str, read_rows(root, METRICS))) == sorted(map(str, read_rows(other, METRICS)))


def test_a_run_on_s3_by_horovod_ends_with_the_models_of_a_local_one(
    cluster: Cluster,
    overlay: Path,
    local: Root,
    s3_root: Root,  # noqa: F811
) -> None:
    done = cluster.submit("run", overlay, s3_root, "--from", DAY, "--to", DAY, *SHORT, *ON_SPARK)
    assert done.code == 0, done.out + done.err[-4000:]
    same(s3_root, local)
