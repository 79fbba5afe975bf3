"""The same steps by spark-submit: on one JVM, and on a cluster of two executor JVMs with training inside them."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import PREDICTED

pytestmark = pytest.mark.end_to_end

FIRST = PREDICTED[0] - dt.timedelta(days=1)  # of the ads-only chain
JOBS = Path(__file__).resolve().parents[2] / "jobs"


def submit(master: str, job: str, overlay: Path, root: Path, *arguments: str) -> str:
    """What a job printed, run by spark-submit."""
    spark = [str(Path(sys.executable).with_name("spark-submit")), "--master", master, "--driver-memory", "2g"]
    quick = ["spark.sql.shuffle.partitions=2", "spark.databricks.delta.snapshotPartitions=2", "spark.ui.enabled=false"]
    settings = [part for setting in quick for part in ("--conf", setting)]
    command = [*spark, *settings, str(JOBS / f"{job}.py"), *arguments, "--conf", str(overlay)]
    done = subprocess.run(
        [*command, "--set", f"storage.root={root}"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def root(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables that spark-submit in local[2] has ingested and built, for the last days."""
    root = tmp_path_factory.mktemp("jobs")
    days = ["--from", "2024-03-01", "--to", str(PREDICTED[1])]
    assert "kept" in submit("local[2]", "ingest", overlay, root, *days)
    assert "samples" in submit("local[2]", "build", overlay, root, *days)
    return root


def test_training_runs_inside_two_executors_through_horovod_on_spark(root: Path, overlay: Path) -> None:
    arguments = ["--level", "ads_only", "--date", str(FIRST), "--launcher", "spark", "--ranks", "2"]
    printed = submit("local-cluster[2,1,2048]", "train", overlay, root, *arguments)
    assert f"ads_only-{FIRST}" in printed
    published = next((root / "models").glob(f"ads_only-{FIRST}-*"))
    assert len(list(published.glob("rows-*-of-2.safetensors"))) == 2
