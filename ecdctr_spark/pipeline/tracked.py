"""What MLflow is to know of trainings, judgements, reports and served models: rows and plans to records. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Training
from ecdctr_spark.settings.base import plain
from ecdctr_spark.tables.schemas import SNAPSHOTS, VOCABULARY, samples_table
from ecdctr_spark.tables.small import Row
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tracking.spool import DeltaInput, Record, now
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.version import code_version

_FIGURES = ("rows", "steps", "seconds", "loss", "waiting", "resumed", "ranks")
_JUDGED = ("gauc", "gauc_coverage", "auc", "logloss", "pcoc", "impressions", "clicks")


def opened(config: Config, training: Training) -> Record:
    """What opens the run of a training: its parameters, and its lineage as tags."""
    level = training.level
    methods = [method.name for method in config.chosen if method.levels.get(level.name) == level]
    params = {
        "methods": ", ".join(methods),
        "level": level.name,
        "date": training.date,
        "first_day": training.first,
        "how": training.how,
        "data_set": config.data_set_id,
        **_flat("reads", plain(level.reads)),
        **_flat("network", level.network),
        **_flat("train", plain(level.train)),
        **_flat("training", plain(config.training)),
    }
    tags = {
        "level": level.name,
        "date": str(training.date),
        "code_version": code_version(),
        "parents": ", ".join(model.model_id for model in training.parents),
        "parent": training.parent.model_id if training.parent else "",
        "snapshots": ", ".join(model.model_id for model in training.snapshots),
        "teacher": training.teacher.model_id if training.teacher else "",
    }
    return Record(
        time=now(),
        params={name: str(value) for name, value in params.items() if value is not None},
        tags={name: value for name, value in tags.items() if value},
    )


def trained(store: Store, config: Config, row: Row, result: TrainingResult) -> list[Record]:
    """What a finished training made: the validation loss of each epoch, by the rows trained on until then; its figures,
    and the versions of the tables that it read."""
    losses = [
        Record(time=now(), step=result.rows * epoch // len(result.held_out), metrics=_finite({"validation_loss": loss}))
        for epoch, loss in enumerate(result.held_out, start=1)
    ]
    figures = {name: getattr(result, name) for name in _FIGURES}
    places = {table.name: store.place(table) for table in (samples_table(config.features), VOCABULARY, SNAPSHOTS)}
    inputs = [DeltaInput(name=name, place=str(places[name]), version=at) for name, at in row["tables"].items()]
    return [*losses, Record(time=now(), step=result.rows, metrics=_finite(figures), inputs=tuple(inputs))]


def judged(rows: Iterable[Row], methods: Collection[str]) -> dict[str, Record]:
    """By model, how it did on the ads of a day, from rows of METRICS of that day. The step is the day, as YYYYMMDD."""
    return {
        row["model_id"]: Record(
            time=now(),
            step=int(f"{row['date']:%Y%m%d}"),
            metrics=_finite({f"next_day.{name}": row[name] for name in _JUDGED}),
        )
        for row in rows
        if row["model_id"] and row["domain"] == "ad" and row["method"] in methods
    }


def _flat(name: str, node: Any) -> dict[str, Any]:
    """Settings by their dotted names."""
    if not isinstance(node, Mapping):
        return {name: node}
    return {key: value for inner, below in node.items() for key, value in _flat(f"{name}.{inner}", below).items()}


def _finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    """The figures that are there and finite: those that every server takes."""
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}
