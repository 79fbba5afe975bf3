"""The whole system on S3, by spark-submit on a standalone cluster (tests/cluster.py), all levels trained in two
executors: the models and metrics of a local run, bit for bit.

`run` does everything with Horovod, and the commands that come after do their work from this machine. `make
test-cluster` also tries every job, each world for all levels, and a folder as the store (whole_cluster.py).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, MODELS
from ecdctr_spark.tables.small import read_rows
from tests.cluster import Cluster, Submitted, cluster_below
from tests.end_to_end.test_run import ecdctr
from tests.s3.commands import ENDED
from tests.s3.conftest import s3_root, s3_server  # noqa: F401 - fixtures

pytestmark = [pytest.mark.end_to_end, pytest.mark.needs("horovod", "moto")]

DAY = ["--from", "2024-03-05", "--to", "2024-03-05"]
DAYS = ["--from", "2024-02-28", "--to", "2024-03-05"]  # the end of a month, a Monday, and the day to predict
TPM = ["--level", "tpm", "--date", "2024-02-29"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_below(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def short(overlay: Path) -> list[str]:
    """The arguments that choose the configuration: one model of each level, and one of the day to predict."""
    chosen = [f"calendar.first_day={DAYS[1]}", "evaluation.methods=[ecdctr]"]
    return ["--conf", str(overlay), *(part for setting in chosen for part in ("--set", setting))]


@pytest.fixture(scope="module")
def local(spark: SparkSession, short: list[str], tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The same run on this machine, on two ranks."""
    root = tmp_path_factory.mktemp("local")
    done = ecdctr("run", Path(short[1]), root, *DAY, *short[2:])
    assert done.code == 0, done.out + done.err
    assert {row["ranks"] for row in read_rows(Root.parse(root), MODELS)} == {2}
    return Root.parse(root)


def submitted(cluster: Cluster, job: str, root: Root, *arguments: str) -> Submitted:
    """A job that has succeeded."""
    done = cluster.submit(job, root, *arguments)
    assert done.code == 0, done.out + done.err[-5000:]
    return done


def trained(cluster: Cluster, world: str, models: int, job: str, root: Root, *arguments: str) -> Submitted:
    """A job that has succeeded and has trained `models` models, each on one rank in each of two executors."""
    in_executors = ["--set", "training.launcher=spark", "--set", "training.ranks=2", "--set", f"training.world={world}"]
    done = submitted(cluster, job, root, *arguments, *in_executors)
    assert done.ranks == {world: [models, models]}, done.out + done.err[-5000:]
    return done


def weights(root: Root) -> dict[str, str]:
    """The hash of each file of tensors of each model."""
    names = [name for name in root.at("models").files() if name.endswith(".safetensors")]
    return {name: hashlib.sha256(root.at("models", name).read_bytes()).hexdigest() for name in names}


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


def test_a_run_with_horovod_and_what_follows_from_here(
    cluster: Cluster,
    short: list[str],
    local: Root,
    s3_root: Root,  # noqa: F811
) -> None:
    trained(cluster, "horovod", 4, "run", s3_root, *DAY, *short)
    assert_same(s3_root, local)
    commands = [sys.executable, "-m", "tests.s3.commands", str(s3_root), str(s3_root.at("of a user")), *short]
    done = subprocess.run(commands, capture_output=True, text=True, check=False, timeout=900)
    ends = (line.removeprefix(ENDED) for line in done.stdout.splitlines() if line.startswith(ENDED))
    codes = dict(map(json.loads, ends))
    assert len(codes) == 7 and set(codes.values()) == {0}, done.stdout[-2000:] + done.stderr[-4000:]
    assert s3_root.at("of a user", "scores").files() and s3_root.at("reports").files()
