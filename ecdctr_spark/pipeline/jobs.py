"""Resolves a planned training against the tables: its job, and the table versions that it pins."""

from __future__ import annotations

from ecdctr_spark.config import Config
from ecdctr_spark.contract import contract
from ecdctr_spark.methods.method import Policy
from ecdctr_spark.methods.planning import Training, days
from ecdctr_spark.models.spec import MemorySpec, ModelSpec
from ecdctr_spark.pipeline.registry import checkpoint
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import SNAPSHOTS, VOCABULARY, Table, samples_table
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tables.survey import survey
from ecdctr_spark.training.job import TaughtBy, TrainingJob


def training_job(
    store: Store, config: Config, training: Training, inputs: str = ""
) -> tuple[TrainingJob, dict[str, int]]:
    """The job of a training on the newest versions of the tables, and these versions by table. `inputs` is the hash of
    what the model is made from.

    Raises ConfigError where there are no samples.
    """
    table = samples_table(config.features)
    if not store.exists(table):
        raise ConfigError(f"no samples under {store.root}: run `ecdctr build` for {training.first}..{training.date}")
    read = [table, VOCABULARY, *([SNAPSHOTS] if training.snapshots else [])]
    versions = {each.name: pinned.version(store.place(each)) for each in read}
    units = _units(store, table, training, versions[table.name])
    if not any(unit.rows for unit in units):
        raise ConfigError(
            f"{training.model_id}: no {' or '.join(sorted(training.level.reads.domains))} samples of"
            f" {training.first}..{training.date}, and nothing is trained on 0 rows: run `ecdctr ingest` and"
            " `ecdctr build` for these days once their logs are there"
        )
    job = TrainingJob(
        model_id=training.model_id,
        inputs=inputs,
        model=_model_spec(store, config, training, versions[VOCABULARY.name]),
        train=training.level.train,
        units=units,
        keep_checkpoints=config.training.keep_checkpoints,
        until=training.date,
        output=str(checkpoint(store.root, training.model_id)),
        how=training.how,
        policy=training.policy or Policy(),
        parent=str(checkpoint(store.root, training.parent.model_id)) if training.parent else None,
        snapshots=_snapshot_files(store, training, versions),
        teacher=_taught_by(store.root, training),
        keeps=training.level.keeps,
        reader=config.streaming.reader,
    )
    return job, versions


def _units(store: Store, table: Table, training: Training, version: int) -> tuple[Unit, ...]:
    """The files of the days to read, domain by domain."""
    read = [str(day) for day in days(training.first, training.date)]
    domains = training.level.reads.domains
    return tuple(
        Unit(path=file.path, rows=file.rows, weight=domains[domain])
        for domain in sorted(domains)
        for file in pinned.files(store.place(table), version, {"domain": [domain], "ds": read})
    )


def _taught_by(root: Root, training: Training) -> TaughtBy | None:
    teacher = training.level.teacher
    if teacher is None or training.teacher is None:
        return None
    return TaughtBy(checkpoint=str(checkpoint(root, training.teacher.model_id)), share=teacher.share)


def _model_spec(store: Store, config: Config, training: Training, version: int) -> ModelSpec:
    embedding = survey(store.place(VOCABULARY), version, config.calendar.timezone)
    return ModelSpec(
        network=training.level.network,
        contract=contract(config.features, embedding.starts, training.level.reads.features),
        rows=embedding.rows(training.date),
        memory=_memory(training),
    )


def _memory(training: Training) -> MemorySpec | None:
    if training.level.memory is None:
        return None
    return MemorySpec(
        pooling=training.level.memory.pooling,
        dimension=training.snapshot_dimension,
        snapshots=tuple(model.model_id for model in training.snapshots),
    )


def _snapshot_files(store: Store, training: Training, versions: dict[str, int]) -> tuple[str, ...]:
    if not training.snapshots:
        return ()
    place, chosen = store.place(SNAPSHOTS), [model.model_id for model in training.snapshots]
    files = pinned.files(place, versions[SNAPSHOTS.name], {"model_id": chosen})
    for name in chosen:
        if not any(f"/model_id={name}/" in file.path for file in files):
            raise ConfigError(f"{place}: holds no vectors of {name}: restore it, or train that model again")
    return tuple(file.path for file in files)
