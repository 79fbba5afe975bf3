"""Which model was made from which tables, models and configuration: the `models` table, and the ledger of steps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from ecdctr_spark.config import Config, Level
from ecdctr_spark.pipeline.calendar import Done, Model, days
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.tables.schemas import CONTENT, METRICS, MODELS, STEPS, Table
from ecdctr_spark.tables.store import Store


class Outdated(NamedTuple):
    """A model, and the days it was trained on that hold other samples now."""

    model_id: str
    days: tuple[dt.date, ...]


LOGS = "logs"  # the subject of an ingest in the ledger; a build's is the fingerprint of its samples


def model_id(level: Level, date: dt.date, config: Config) -> str:
    """The name of a model: the same level, date and settings give the same name, whenever it is trained."""
    return f"{level}-{date}-{config.fingerprint()}"


def model_named(store: Store, name: str) -> Row:
    """The registry's row of a model; raises ConfigError that names the newest ones where there is no such model."""
    models = store.read(MODELS)
    found = models.where(F.col("model_id") == name).first()
    if found is not None:
        return found
    newest = [row.model_id for row in models.orderBy(F.desc("date"), "model_id").select("model_id").take(3)]
    known = ", ".join(newest) or "none yet: run `ecdctr run` first"
    raise ConfigError(f"--model {name}: no such model; the newest are {known}")


def done(store: Store, config: Config) -> Done:
    """What exists of this configuration: models, ingested and built days, evaluated days."""
    mine = store.read(MODELS).where(F.col("fingerprint") == config.fingerprint())
    rows = mine.select("level", "date", "parents").collect()
    steps = store.read(STEPS).where(F.col("subject").isin(LOGS, config.samples_fingerprint()))
    ranges = steps.select("step", "from_day", "to_day").collect()
    metrics = store.read(METRICS).where(F.col("date").isNotNull() & F.col("model_id").endswith(config.fingerprint()))
    return Done(
        models=frozenset(Model(row.level, row.date, _cpm_date(row.parents)) for row in rows),
        ingested=_days_of("ingest", ranges),
        built=_days_of("build", ranges),
        evaluated=frozenset((row.date, row.model) for row in metrics.select("date", "model").collect()),
    )


def outdated(store: Store, config: Config) -> list[Outdated]:
    """The models of this configuration that were trained on days whose samples have changed since, oldest first."""
    mine = store.read(MODELS).where(F.col("fingerprint") == config.fingerprint())
    read = mine.select(
        "model_id",
        "date",
        "created",
        F.when(F.col("level").isin("tpm", "cpm"), "natural").otherwise("ad").alias("domain"),
        F.explode(F.sequence(F.array_min("days"), F.array_max("days"))).alias("ds"),
    )
    changed = store.read(CONTENT).select("domain", "ds", "changed")
    since = read.join(changed, ["domain", "ds"], how="inner").where(F.col("changed") > F.col("created"))
    found = since.groupBy("model_id", "date").agg(F.sort_array(F.collect_list("ds")).alias("days"))
    return [Outdated(row["model_id"], tuple(row["days"])) for row in found.orderBy("date", "model_id").collect()]


def register(store: Store, row: dict[str, Any]) -> None:
    """Enters a finished model. Training it again is the same model: its row is replaced."""
    frame = _frame(store, MODELS, {**row, "created": _now()})
    store.replace(MODELS, frame, f"model_id = '{row['model_id']}'")


def record(store: Store, rows: Iterable[dict[str, Any]]) -> None:
    """Appends finished steps to the ledger, with their counts and seconds."""
    frames = [{**row, "finished": _now()} for row in rows]
    store.append(STEPS, _frame(store, STEPS, *frames))


def _frame(store: Store, table: Table, *rows: dict[str, Any]) -> DataFrame:
    schema = store.spark.createDataFrame([], table.columns).schema
    return store.spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in rows], schema)


def _cpm_date(parents: list[str]) -> dt.date | None:
    """The date in the name of the CPM among an A-CTR's parents."""
    named = [parent for parent in parents if parent.startswith("cpm-")]
    return dt.date.fromisoformat(named[0][len("cpm-") :][:10]) if named else None


def _days_of(step: str, ranges: list[Row]) -> frozenset[dt.date]:
    return frozenset(day for row in ranges if row.step == step for day in days(row.from_day, row.to_day))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)  # Spark takes one without a zone for this machine's local time
