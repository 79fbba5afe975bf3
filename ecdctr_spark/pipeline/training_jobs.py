"""What a training that is due means on the tables as they stand: its job, and all that it pins."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.contract import contract
from ecdctr_spark.features.columns import day_of
from ecdctr_spark.features.vocabulary import surveyed
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.calendar import Training, days, month_end
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Domain, Part
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import SNAPSHOTS, VOCABULARY, samples_table
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.job import TrainingJob, Unit

_RESERVED = dt.date(1970, 1, 1)  # a day before all logs: reserved rows of the vocabulary were always known


def training_job(store: Store, config: Config, training: Training) -> tuple[TrainingJob, dict[str, int]]:
    """The job that a training means on the tables as they stand, and the table versions that it pins."""
    table = samples_table(config.features)
    if not store.exists(table):
        raise ConfigError(f"no samples under {store.root}: run `ecdctr build` for {training.first}..{training.date}")
    versions = {
        table.name: pinned.version(store.place(table)),
        VOCABULARY.name: pinned.version(store.place(VOCABULARY)),
    }
    if training.snapshots:
        versions[SNAPSHOTS.name] = pinned.version(store.place(SNAPSHOTS))
    domain: Domain = "natural" if training.level in ("tpm", "cpm") else "ad"
    read = [str(day) for day in days(training.first, training.date)]
    files = pinned.files(store.place(table), versions[table.name], {"domain": [domain], "ds": read})
    name = registry.model_id(training.level, training.date, config)
    job = TrainingJob(
        model_id=name,
        model=_model_spec(store, config, training, versions[VOCABULARY.name]),
        train={"tpm": config.tpm.train, "cpm": config.cpm.train}.get(training.level, config.actr.train),
        units=tuple(Unit(path=file.path, rows=file.rows) for file in files),
        shuffle_rows=config.training.shuffle_rows,
        checkpoint_steps=config.training.checkpoint_steps,
        keep_checkpoints=config.training.keep_checkpoints,
        until=training.date,
        output=str(model_folder(store, name)),
        parent=_parent_folder(store, config, training),
        transfer=training.transfer,
        policy=config.actr.from_cpm,
        snapshots=_snapshot_files(store, training, versions),
    )
    return job, versions


def parents(config: Config, training: Training) -> list[str]:
    """Names of the models this one was made from: its parent, the CPM at an A-CTR's root, CPM's TPMs by month."""
    named = [(training.parent.level, training.parent.date)] if training.parent else []
    if training.cpm:
        named.append(("cpm", training.cpm))
    named += [("tpm", month_end(dt.date.fromisoformat(f"{month}-01"))) for month in training.snapshots]
    return list(dict.fromkeys(registry.model_id(level, date, config) for level, date in named))


def model_folder(store: Store, model_id: str) -> Root:
    """Where a model's checkpoint is published."""
    return store.root.at("models", model_id)


def _model_spec(store: Store, config: Config, training: Training, version: int) -> ModelSpec:
    vocabulary = _vocabulary(store, config.calendar.timezone, version)
    part: Part = "tpm" if training.level == "tpm" else "ctr"
    features = contract(config.features, vocabulary.unknown, part)
    rows = vocabulary.rows(training.date)
    if part == "tpm":
        tiny = config.tpm
        return ModelSpec(
            model="tpm",
            contract=features,
            rows=rows,
            dimension=tiny.dimension,
            hidden=tiny.hidden,
            seed=tiny.train.seed,
        )
    memory: dict[str, Literal["snapshots", "merged"]] = {"cpm": "snapshots", "actr": "merged"}
    return ModelSpec(
        model="ctr",
        contract=features,
        rows=rows,
        dimension=config.network.dimension,
        hidden=config.network.hidden,
        pooling=config.network.pooling,
        attention_hidden=config.network.attention_hidden,
        cross_layers=config.network.cross_layers,
        memory=memory.get(training.level, "none"),
        memory_dimension=config.tpm.dimension,
        months=training.snapshots,
        seed=config.cpm.train.seed,
    )


@dataclass(frozen=True)
class _Vocabulary:
    """The first unknown row of each field, and how many rows the embedding has at the end of each day."""

    unknown: dict[str, int]
    by_day: list[tuple[dt.date, int]]

    def rows(self, date: dt.date) -> int:
        return max(rows for day, rows in self.by_day if day <= date)


@lru_cache(maxsize=4)
def _vocabulary(store: Store, timezone: str, version: int) -> _Vocabulary:
    """One row a day comes to the driver; a version never changes, so it is asked for once."""
    table = store.read(VOCABULARY, version)
    day = F.coalesce(day_of("since", timezone), F.lit(_RESERVED))
    newest = table.groupBy(day.alias("day")).agg((F.max("index") + 1).alias("rows")).collect()
    return _Vocabulary(surveyed(table).starts, [(row["day"], row["rows"]) for row in newest])


def _snapshot_files(store: Store, training: Training, versions: dict[str, int]) -> tuple[str, ...]:
    if not training.snapshots:
        return ()
    files = pinned.files(store.place(SNAPSHOTS), versions[SNAPSHOTS.name], {"month": training.snapshots})
    return tuple(file.path for file in files)


def _parent_folder(store: Store, config: Config, training: Training) -> str | None:
    if training.parent is None:
        return None
    return str(model_folder(store, registry.model_id(training.parent.level, training.parent.date, config)))
