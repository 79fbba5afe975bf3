"""Objects are stored by identity: configurations, methods and days do not touch each other."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, MODELS, STEPS
from ecdctr_spark.tables.small import read_rows
from tests.end_to_end.test_run import ecdctr
from tests.miniature import PREDICTED

pytestmark = pytest.mark.end_to_end

FIRST, LAST = PREDICTED[0] - dt.timedelta(days=1), PREDICTED[0]  # served by models that start from two of the week's
SETTINGS = (
    "calendar.first_day=2024-02-26",
    "training.launcher=inline",
    "training.ranks=1",
    "evaluation.methods=[ecdctr]",
)
INLINE = [part for setting in SETTINGS for part in ("--set", setting)]
# Another data set, and another chain of the first level.
OTHER = ["--set", "features.freshness=event", "--set", "methods.ecdctr.levels.tpm.train.epochs=2"]
RESEEDED = "methods.reseeded={like: ecdctr, levels: {actr: {train: {seed: 9}}}}"


def run(overlay: Path, root: Path, first: dt.date, last: dt.date, *arguments: str) -> None:
    done = ecdctr("run", overlay, root, "--from", str(first), "--to", str(last), *INLINE, *arguments)
    assert done.code == 0, done.out + done.err


def weights(root: Path) -> dict[str, list[str]]:
    """Hashes of the tensors of each model, by its identity."""
    return {
        path.name: [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.glob("*.safetensors"))]
        for path in (root / "models").iterdir()
    }


def rows(root: Path, method: str) -> list[dict[str, Any]]:
    found = [row for row in read_rows(Root.parse(str(root)), METRICS) if row["method"].startswith(method)]
    return sorted(found, key=lambda row: (row["date"] or dt.date.max, row["method"]))


@pytest.fixture(scope="module")
def alone(spark: SparkSession, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One configuration, both days in one go."""
    root = tmp_path_factory.mktemp("alone")
    run(overlay, root, FIRST, LAST)
    return root


@pytest.fixture(scope="module")
def other(spark: SparkSession, overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another configuration, both days in one go."""
    root = tmp_path_factory.mktemp("other")
    run(overlay, root, FIRST, LAST, *OTHER)
    return root


def test_two_configurations_in_turn_under_one_root_equal_each_alone_under_its_own(
    alone: Path, other: Path, overlay: Path, tmp_path: Path
) -> None:
    run(overlay, tmp_path, LAST, LAST)
    run(overlay, tmp_path, FIRST, LAST, *OTHER)
    run(overlay, tmp_path, FIRST, FIRST)  # out of order, which equals both in one go too
    ours, theirs = weights(alone), weights(other)
    assert not ours.keys() & theirs.keys()
    assert weights(tmp_path) == ours | theirs
    ledger = read_rows(Root.parse(str(tmp_path)), STEPS)
    steps = Counter(row["step"] for row in ledger if row["rows_read"] is not None)  # once per step
    assert (steps["ingest"], steps["build"]) == (1, 2)  # another data set of the same logs
    assert rows(tmp_path, "ecdctr") == sorted(
        [*rows(alone, "ecdctr"), *rows(other, "ecdctr")],
        key=lambda row: (row["date"] or dt.date.max, row["method"]),
    )
    ours_shown, theirs_shown = (ecdctr("report", overlay, tmp_path, *INLINE, *changes).out for changes in ([], OTHER))
    assert ours_shown != theirs_shown and len(list((tmp_path / "reports").iterdir())) == 2


def test_methods_that_share_levels_train_them_once(alone: Path, overlay: Path) -> None:
    before = Counter(row["level"] for row in read_rows(Root.parse(str(alone)), MODELS))
    both = ["--method", "ecdctr", "--method", "reseeded", "--set", RESEEDED]
    run(overlay, alone, FIRST, LAST, *both)
    after = Counter(row["level"] for row in read_rows(Root.parse(str(alone)), MODELS))
    assert after == before + Counter({"actr": before["actr"]})
    planned = ecdctr("plan", overlay, alone, "--from", str(FIRST), "--to", str(LAST), *INLINE, *both, "--json")
    assert json.loads(planned.out)["steps"] == []


def test_a_root_that_was_moved_continues_from_what_it_holds(alone: Path, overlay: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved to here"
    alone.rename(moved)
    try:
        model = next(name for name in weights(moved) if name.startswith(f"actr-{LAST}"))
        exported = ecdctr("export", overlay, moved, "--model", model, "--output", str(tmp_path / "export"))
        assert exported.code == 0, exported.err
        again = ecdctr("run", overlay, moved, "--from", str(FIRST), "--to", str(LAST), *INLINE)
        assert "nothing is due" in again.out
    finally:
        moved.rename(alone)
