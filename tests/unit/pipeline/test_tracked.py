"""What MLflow is to know of a training, from the plan and the results."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ecdctr_spark.config import load_config
from ecdctr_spark.methods.planning import Training
from ecdctr_spark.pipeline import registry, tracked
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.job import TrainingResult
from tests.configured import FIRST_DAY
from tests.sessions import UNUSED

CONFIG = load_config([], [FIRST_DAY])
DATE = dt.date(2000, 4, 5)
RESULT = TrainingResult(rows=300, steps=6, seconds=2.0, loss=0.5, waiting=0.1, held_out=(0.7, 0.6, 0.65), ranks=3)


def planned(level: str, date: dt.date = DATE) -> Training:
    planner = registry.planner(CONFIG)
    return planner.training(planner.methods[0], level, date)


def metric_row(**changes: Any) -> dict[str, Any]:
    row = {"date": DATE, "method": "m-1", "model_id": "actr-1", "domain": "ad", "gauc_coverage": 1.0, "auc": None}
    return {**row, "gauc": 0.75, "logloss": 0.5, "pcoc": float("nan"), "impressions": 40, "clicks": 9, **changes}


def test_a_run_opens_with_all_settings_of_its_level_and_its_lineage() -> None:
    training = planned("actr")
    record = tracked.opened(CONFIG, training)
    level = training.level
    expected = {
        "methods": "ecdctr",
        "level": "actr",
        "date": "2000-04-05",
        "how": "continue",
        "data_set": CONFIG.data_set_id,
        "network.kind": "ctr",
        "train.batch_size": str(level.train.batch_size),
        "train.dense_learning_rate": str(level.train.dense_learning_rate),
        "training.ranks": "auto",
        "training.launcher": "local",
    }
    assert {name: record.params[name] for name in expected} == expected
    assert "training.min_ranks" not in record.params  # it is not set
    assert training.parent and record.tags["parent"] == training.parent.model_id


def test_snapshots_are_lineage_too() -> None:
    training = planned("cpm", registry.planner(CONFIG).methods[0].levels["cpm"].clock.newest(DATE))
    snapshots = [model.model_id for model in training.snapshots]
    assert snapshots and tracked.opened(CONFIG, training).tags["snapshots"] == ", ".join(snapshots)


def test_a_finished_training_has_its_figures_its_validation_losses_and_the_tables_that_it_read() -> None:
    store: Any = Store(UNUSED, Root("/store"), "logs", "data")
    *losses, last = tracked.trained(store, CONFIG, {"tables": {"samples": 7, "vocabulary": 2}}, RESULT)
    assert [(record.step, dict(record.metrics)) for record in losses] == [
        (100, {"validation_loss": 0.7}),
        (200, {"validation_loss": 0.6}),
        (300, {"validation_loss": 0.65}),
    ]
    assert last.step == 300 and last.metrics["loss"] == 0.5 and last.metrics["steps"] == 6.0
    assert last.metrics["ranks"] == 3.0
    read = [(table.name, table.place, table.version) for table in last.inputs]
    home = "/store/data_set/data/tables"
    assert read == [("samples", f"{home}/samples", 7), ("vocabulary", f"{home}/vocabulary", 2)]


def test_a_judged_day_is_of_the_model_that_predicted_it() -> None:
    rows = [metric_row(), metric_row(method="other-2", model_id="x"), metric_row(domain="natural", model_id="y")]
    (model, record), *others = tracked.judged(rows, {"m-1"}).items()
    assert (model, record.step, others) == ("actr-1", 20000405, [])
    figures = {"gauc": 0.75, "gauc_coverage": 1.0, "logloss": 0.5, "impressions": 40.0, "clicks": 9.0}
    assert record.metrics == {f"next_day.{name}": value for name, value in figures.items()}
