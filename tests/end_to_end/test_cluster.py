"""The whole system by spark-submit on a standalone cluster (tests/cluster.py), all levels trained in two executors: the
models and metrics of a local run, bit for bit.

Two jobs ingest and build on S3, one trains TPM with torch, and `run` does the rest with Horovod. `make test-cluster`
also tries every job, each world for all levels, and a folder as the store (whole_cluster.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, MODELS
from ecdctr_spark.tables.small import read_rows
from tests.cluster import Cluster, cluster_below
from tests.end_to_end.test_run import ecdctr
from tests.s3.conftest import s3_root, s3_server  # noqa: F401 - fixtures
from tests.s3.test_run import weights

pytestmark = pytest.mark.end_to_end

DAY = ["--from", "2024-03-05", "--to", "2024-03-05"]
DAYS = ["--from", "2024-02-28", "--to", "2024-03-05"]  # the end of a month, a Monday, and a day to predict


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_below(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def short(overlay: Path) -> list[str]:
    """The arguments that choose the configuration: one model of each level, and one of the day to predict."""
    return ["--conf", str(overlay), "--method", "ecdctr", "--set", f"calendar.first_day={DAYS[1]}"]


@pytest.fixture(scope="module")
def local(spark: SparkSession, short: list[str], tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The same run on this machine, on two ranks."""
    root = tmp_path_factory.mktemp("local")
    done = ecdctr("run", Path(short[1]), root, *DAY, *short[2:])
    assert done.code == 0, done.out + done.err
    return Root.parse(root)


def submitted(cluster: Cluster, job: str, root: Root, *arguments: str) -> str:
    """What a job printed that has succeeded."""
    done = cluster.submit(job, root, *arguments)
    assert done.code == 0, done.out + done.err[-5000:]
    return done.out


def on_executors(world: str) -> list[str]:
    return ["--set", "training.launcher=spark", "--set", "training.ranks=2", "--set", f"training.world={world}"]


def assert_same(root: Root, other: Root) -> None:
    """Both roots hold one model of each level and one of the predicted day, bit for bit the same, and their metrics."""
    assert sorted(row["level"] for row in read_rows(root, MODELS)) == ["actr", "actr", "cpm", "tpm"]
    assert weights(root) == weights(other)
    measured, expected = ({str(row["date"]): row for row in read_rows(each, METRICS)} for each in (root, other))
    assert measured.keys() == expected.keys()
    for date, row in measured.items():  # rows that are scored together are rounded together
        rounded = {name for name, value in row.items() if isinstance(value, float)}
        assert row.keys() == expected[date].keys()
        for name, value in row.items():
            assert value == (pytest.approx(expected[date][name], rel=1e-6) if name in rounded else expected[date][name])


def test_steps_with_torch_and_the_rest_with_horovod(
    cluster: Cluster,
    short: list[str],
    local: Root,
    s3_root: Root,  # noqa: F811
) -> None:
    logs = [*short[:2], *short[4:]]
    assert "kept" in submitted(cluster, "ingest", s3_root, *DAYS, *logs)
    assert "samples" in submitted(cluster, "build", s3_root, *DAYS, *logs)
    tpm = ["--level", "tpm", "--date", "2024-02-29", *short, *on_executors("torch")]
    assert "published" in submitted(cluster, "train", s3_root, *tpm)
    submitted(cluster, "run", s3_root, *DAY, *short, *on_executors("horovod"))
    assert_same(s3_root, local)
