"""The whole system on an object store: the same models, bit for bit, as on a local folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS
from ecdctr_spark.tables.small import read_rows
from tests.end_to_end.conftest import logs, overlay  # noqa: F401 - fixtures
from tests.end_to_end.test_run import ecdctr
from tests.s3.commands import DAY, ENDED, INLINE

pytestmark = pytest.mark.end_to_end


def weights(root: Root) -> dict[str, str]:
    """The hash of each file of tensors of each model."""
    names = [name for name in root.at("models").files() if name.endswith(".safetensors")]
    return {name: hashlib.sha256(root.at("models", name).read_bytes()).hexdigest() for name in names}


def test_every_command_works_on_s3_and_models_are_those_of_a_local_run(
    spark: SparkSession,
    overlay: Path,  # noqa: F811
    s3_root: Root,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.s3.commands", str(overlay), str(s3_root), str(s3_root.at("of a user"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    ends = (line.removeprefix(ENDED) for line in done.stdout.splitlines() if line.startswith(ENDED))
    codes = dict(map(json.loads, ends))
    assert len(codes) == 8 and set(codes.values()) == {0}, done.stdout[-2000:] + done.stderr[-4000:]
    local = ecdctr("run", overlay, tmp_path, "--from", DAY, "--to", DAY, *INLINE)
    assert local.code == 0, local.out + local.err
    on_disk = Root.parse(str(tmp_path))
    assert weights(s3_root) == weights(on_disk)
    assert sorted(map(str, read_rows(s3_root, METRICS))) == sorted(map(str, read_rows(on_disk, METRICS)))
    assert s3_root.at("of a user", "scores").files() and s3_root.at("reports").files()
