"""All that is tried on a standalone cluster (`make test-cluster`): CI's own test, and what CI has no time for. Every
job; all levels by each launcher, by jobs and by `run`, on S3 and in a folder; executors that start on demand; an
environment that is shipped in an archive.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import read_rows
from tests.cluster import Cluster
from tests.s3.conftest import s3_root, s3_server  # noqa: F401
from tests.whole.test_cluster import (
    DAY,
    DAYS,
    TPM,
    assert_same,
    cluster,  # noqa: F401 - a fixture
    local,  # noqa: F401
    short,  # noqa: F401
    submitted,
    test_a_run_with_horovod_and_what_follows_from_here,  # noqa: F401 - on this cluster
    trained,
    weights,
)

LEVELS = (TPM, ["--level", "cpm", "--date", "2024-03-04"], ["--level", "actr", "--date", "2024-03-04"])
ON_DEMAND = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.initialExecutors": "0",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "20s",
}


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """An empty root: a bucket or a folder."""
    found: Root = request.getfixturevalue("s3_root") if request.param == "s3" else Root.parse(tmp_path / "root")
    return found


@pytest.fixture
def without_tpm(local: Root, tmp_path: Path) -> Root:  # noqa: F811
    """A finished root in a folder, where TPM is to be trained again."""
    root = Root.parse(shutil.copytree(str(local), tmp_path / "root"))
    (tpm,) = (place for place in root.at("models").list() if place.name.startswith("tpm"))
    tpm.remove()
    return root


def test_every_job_and_each_level_by_both_launchers(
    cluster: Cluster,  # noqa: F811
    short: list[str],  # noqa: F811
    local: Root,  # noqa: F811
    s3_root: Root,  # noqa: F811
) -> None:
    for job in ("ingest", "build", "check"):
        submitted(cluster, job, s3_root, *DAYS, *short)
    for world in ("torch", "horovod"):
        for level in LEVELS:
            trained(cluster, world, 1, "train", s3_root, *level, *short)
        assert sorted(row["level"] for row in read_rows(s3_root, MODELS)) == ["actr", "cpm", "tpm"]
        assert weights(s3_root).items() <= weights(local).items()
    assert "predict" in submitted(cluster, "plan", s3_root, *DAY, *short).out
    trained(cluster, "horovod", 1, "run", s3_root, *DAY, *short)
    assert_same(s3_root, local)
    assert "gauc" in submitted(cluster, "metrics", s3_root, *short).out
    assert "report:" in submitted(cluster, "report", s3_root, *short).out
    model = next(row["model_id"] for row in read_rows(s3_root, MODELS) if row["level"] == "actr")
    submitted(cluster, "export", s3_root, "--model", model, "--output", str(s3_root.at("export")), *short)
    (samples,) = (place.at("tables", "samples") for place in s3_root.at("data_set").list())
    arguments = ["--model", model, "--input", str(samples), "--output", str(s3_root.at("scores"))]
    assert "predictions" in submitted(cluster, "score", s3_root, *arguments, *short).out
    submitted(cluster, "tidy", s3_root, *short)
    submitted(cluster, "forget", s3_root, "--user", "user-3", *short)


@pytest.mark.parametrize(("root", "world"), [("s3", "torch"), ("folder", "horovod")], indirect=["root"])
def test_a_run_from_logs_to_predictions_and_its_report(
    cluster: Cluster,  # noqa: F811
    short: list[str],  # noqa: F811
    local: Root,  # noqa: F811
    root: Root,
    world: str,
) -> None:
    trained(cluster, world, 4, "run", root, *DAY, *short)
    assert_same(root, local)
    assert "report:" in submitted(cluster, "report", root, *short).out


@pytest.mark.parametrize("world", ["torch", "horovod"])
def test_executors_train_with_an_environment_that_is_shipped_in_an_archive(
    cluster: Cluster,  # noqa: F811
    short: list[str],  # noqa: F811
    local: Root,  # noqa: F811
    without_tpm: Root,
    tmp_path: Path,
    world: str,
) -> None:
    archive = tmp_path / "environment.tar.gz"
    trained(cluster.shipping(archive), world, 1, "train", without_tpm, *TPM, *short)
    archive.unlink()
    assert weights(without_tpm) == weights(local)


def test_executors_are_asked_for_before_ranks_are_refused(
    cluster: Cluster,  # noqa: F811
    short: list[str],  # noqa: F811
    local: Root,  # noqa: F811
    without_tpm: Root,
) -> None:
    on_demand = cluster.having(ON_DEMAND)
    trained(on_demand, "horovod", 1, "train", without_tpm, *TPM, *short)
    assert weights(without_tpm) == weights(local)
    for setting, refused in (
        ("training.ranks=3", "training.ranks is 3, but Spark has"),
        ("training.world=torch", "spark.dynamicAllocation.enabled is true"),
    ):
        chosen = ["--set", "training.launcher=spark", "--set", setting]
        done = on_demand.submit("train", without_tpm, *TPM, *short, *chosen)
        assert (done.code, done.ranks) == (2, {}) and refused in done.out, done.out + done.err[-5000:]
