"""Spark's tables on S3, and ranks and delta-rs beside it."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.parquet as pq

from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import append_rows, read_rows
from tests.s3.on_spark import COUNTS


def test_spark_ranks_and_delta_rs_see_the_same_tables(s3_root: Root) -> None:
    append_rows(s3_root, MODELS, [{"model_id": "m"}])
    command = [sys.executable, "-m", "tests.s3.on_spark", str(s3_root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "counts": [["B", 3], ["a", 1], ["c", 4]],
        "first": ["a", "b"],
        "models": ["m"],
    }
    assert sorted((row["key"], row["n"]) for row in read_rows(s3_root, COUNTS)) == [("B", 3), ("a", 1), ("c", 4)]
    place = s3_root.at("tables", COUNTS.name)
    (file,) = pinned.files(place, pinned.version(place), {"ds": ["2020-01-03"]})
    with Root(file.path).open() as content:  # what a rank is given to read
        assert pq.ParquetFile(content).read()["key"].to_pylist() == ["c"]
