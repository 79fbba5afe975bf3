"""Where MLflow's SQLite file lies: on a local disk, whatever the root is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark.storage import Root
from ecdctr_spark.tracking import sqlite


def test_the_file_lies_under_a_local_root_and_in_the_working_folder_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite(Root.parse(tmp_path / "place")) == f"sqlite:///{tmp_path}/place/mlflow.db"
    assert sqlite(Root.parse("s3://bucket/root")) == f"sqlite:///{tmp_path}/.ecdctr/mlflow.db"
    assert (tmp_path / ".ecdctr").is_dir()
