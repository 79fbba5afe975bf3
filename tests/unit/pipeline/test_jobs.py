"""A training reads all that its plan names, or says what is not there."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Model
from ecdctr_spark.pipeline import jobs, registry
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import SNAPSHOTS
from ecdctr_spark.tables.small import append_rows
from ecdctr_spark.tables.store import Store
from tests.sessions import UNUSED

MONTH_END = dt.date(2024, 1, 31)


def test_a_snapshot_without_vectors_is_named(config: Config, tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    for name in ("tpm-1", "tpm-2"):
        append_rows(root, SNAPSHOTS, [{"model_id": name, "entity": "user_id", "index": 1, "vector": [0.5]}])
    versions = {SNAPSHOTS.name: pinned.version(root.at("tables", SNAPSHOTS.name))}
    plans = registry.planner(config)
    training = plans.training(plans.methods[0], "tpm", MONTH_END)

    def files(*names: str) -> tuple[str, ...]:
        snapshots = tuple(Model(name, "tpm", MONTH_END) for name in names)
        return jobs._snapshot_files(Store(UNUSED, root), replace(training, snapshots=snapshots), versions)

    assert len(files("tpm-1", "tpm-2")) == 2 and files() == ()
    with pytest.raises(ConfigError, match=r"tables/snapshots: holds no vectors of tpm-3: restore it, or train"):
        files("tpm-1", "tpm-3")
