"""Every job on a standalone cluster, in a folder with Horovod and on S3 with torch (`make test-cluster`)."""

from __future__ import annotations

from pathlib import Path

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import read_rows
from tests.cluster import Cluster
from tests.end_to_end.test_cluster import DAY, DAYS, assert_same, cluster, local, on_executors, short, submitted  # noqa: F401
from tests.s3.conftest import s3_root, s3_server  # noqa: F401 - fixtures


def every_job(cluster: Cluster, root: Root, short: list[str], world: list[str], folder: Root, local: Root) -> None:  # noqa: F811
    conf = short[:2] + short[4:]
    submitted(cluster, "ingest", root, *DAYS, *conf)
    submitted(cluster, "build", root, *DAYS, *conf)
    submitted(cluster, "check", root, *DAYS, *conf)
    for level, date in (("tpm", "2024-02-29"), ("cpm", "2024-03-04"), ("actr", "2024-03-04")):
        submitted(cluster, "train", root, "--level", level, "--date", date, *short, *world)
    assert "predict" in submitted(cluster, "plan", root, *DAY, *short)
    submitted(cluster, "run", root, *DAY, *short, *world)
    assert "gauc" in submitted(cluster, "metrics", root, *short)
    assert "report:" in submitted(cluster, "report", root, *short)
    model = next(row["model_id"] for row in read_rows(root, MODELS) if row["level"] == "actr")
    submitted(cluster, "export", root, "--model", model, "--output", str(folder.at("export")), *conf)
    (samples,) = (place.at("tables", "samples") for place in root.at("data_set").list())
    arguments = ["--model", model, "--input", str(samples), "--output", str(folder.at("scores"))]
    assert "predictions" in submitted(cluster, "score", root, *arguments, *conf)
    assert_same(root, local)
    submitted(cluster, "tidy", root, *conf)
    submitted(cluster, "forget", root, "--user", "user-3", *conf)


def test_every_job_in_a_folder_with_horovod(cluster: Cluster, short: list[str], local: Root, tmp_path: Path) -> None:  # noqa: F811
    root = Root.parse(tmp_path / "root")
    every_job(cluster, root, short, on_executors("horovod"), Root.parse(tmp_path / "of a user"), local)


def test_every_job_on_s3_with_torch(cluster: Cluster, short: list[str], local: Root, s3_root: Root) -> None:  # noqa: F811
    every_job(cluster, s3_root, short, on_executors("torch"), s3_root.at("of a user"), local)
