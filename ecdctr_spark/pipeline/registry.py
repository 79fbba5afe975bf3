"""The registry (MODELS: what each model was made from) and the ledger (STEPS: which steps are done).

Both are small tables, read and written without a JVM.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Existing, Planner, Training, days
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import CONTENT, MODELS, STEPS
from ecdctr_spark.tables.small import Row, append_rows, literal, read_rows, replace_rows
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.version import code_version

_NAMED = 3  # models that an error names


class Outdated(NamedTuple):
    """A model, and the days that it was trained on whose samples have changed since."""

    model_id: str
    days: tuple[dt.date, ...]


def planner(config: Config) -> Planner:
    """The planner of the configured methods on the configured data set."""
    return Planner(config.chosen, config.data_set_id, config.calendar.first_day)


def existing(root: Root, config: Config) -> Existing:
    """What exists: days ingested and built with this configuration; models and predictions of any."""
    ledger = read_rows(root, STEPS)
    return Existing(
        ingested=_days_of("ingest", config.logs_id, ledger),
        built=_days_of("build", config.data_set_id, ledger),
        models=frozenset(row["model_id"] for row in read_rows(root, MODELS)),
        evaluated=frozenset(
            (row["from_day"], row["subject"], row["detail"]) for row in ledger if row["step"] == "predict"
        ),
    )


def model_named(root: Root, name: str) -> Row:
    """The registry's row of a model. Raises ConfigError that names the newest models where there is no such model."""
    models = read_rows(root, MODELS)
    found = [row for row in models if row["model_id"] == name]
    if found:
        return found[0]
    newest = sorted(models, key=lambda row: (row["date"], row["model_id"]), reverse=True)[:_NAMED]
    known = ", ".join(row["model_id"] for row in newest)
    hint = f"the newest are {known}" if newest else "there is none yet: run `ecdctr run` first"
    raise ConfigError(f"--model {name}: no such model; {hint}")


def outdated(root: Root, config: Config) -> list[Outdated]:
    """The models on this configuration's data set that were trained on days whose samples have changed since, the
    oldest first."""
    changed = {
        (row["domain"], row["ds"]): row["changed"]
        for row in read_rows(root.at("data_set", config.data_set_id), CONTENT)
    }
    found = []
    for row in sorted(read_rows(root, MODELS), key=lambda row: (row["date"], row["model_id"])):
        if row["data_set"] == config.data_set_id:
            read = [(domain, day) for day in days(*row["days"]) for domain in row["domains"]]
            since = {day for domain, day in read if changed.get((domain, day), row["created"]) > row["created"]}
            found += [Outdated(row["model_id"], tuple(sorted(since)))] if since else []
    return found


def register(
    root: Root, config: Config, training: Training, versions: Mapping[str, int], result: TrainingResult
) -> Row:
    """Enters a finished model and returns its row. A model that is trained again replaces its row."""
    row = {
        "model_id": training.model_id,
        "level": training.level.name,
        "date": training.date,
        "data_set": config.data_set_id,
        "domains": sorted(training.level.reads.domains),
        "days": [training.first, training.date],
        "parents": [model.model_id for model in training.parents],
        "tables": dict(versions),
        "settings": _settings(config, training),
        "code_version": code_version(),
        "ranks": config.training.ranks,
        "rows": result.rows,
        "seconds": result.seconds,
        "created": _now(),
    }
    replace_rows(root, MODELS, [row], f"model_id = {literal(training.model_id)}")
    return row


def record(root: Root, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends finished steps to the ledger, with their counts and seconds."""
    append_rows(root, STEPS, [{**row, "finished": _now()} for row in rows])


def _settings(config: Config, training: Training) -> str:
    """All settings that the model was made with, as JSON."""
    data_set = config.model_dump(
        mode="json", include={"source", "synthetic", "calendar", "labels", "features", "sampling", "samples"}
    )
    return json.dumps({"level": training.level.model_dump(mode="json"), **data_set}, sort_keys=True)


def _days_of(step: str, subject: str, ledger: Iterable[Row]) -> frozenset[dt.date]:
    done = (row for row in ledger if (row["step"], row["subject"]) == (step, subject))
    return frozenset(day for row in done for day in days(row["from_day"], row["to_day"]))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
