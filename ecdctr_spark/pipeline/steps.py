"""The one place where pure functions meet storage: each step reads, calls, writes. Read this first.

A step may be killed and run again: it replaces its own slice, or publishes its own folder, in one move.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

import ecdctr_spark
from ecdctr_spark.config import Config, Level
from ecdctr_spark.evaluation.metrics import metrics, overall
from ecdctr_spark.features.behaviours import daily_clicks
from ecdctr_spark.features.columns import narrowed, when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.ingest import (
    DUPLICATE,
    checked_clicks,
    checked_impressions,
    checked_profiles,
    kept,
    quarantined,
)
from ecdctr_spark.features.labels import label
from ecdctr_spark.features.past import Past, clicked, today
from ecdctr_spark.features.profiles import with_profiles
from ecdctr_spark.features.samples import content, samples, shuffled
from ecdctr_spark.features.vocabulary import Vocabulary, admit, reserve, surveyed
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.calendar import DAY, Training
from ecdctr_spark.pipeline.training_jobs import model_folder, parents, training_job
from ecdctr_spark.serving.export import current, export
from ecdctr_spark.serving.score import score
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import (
    CLICKS,
    CONTENT,
    DAILY_CLICKS,
    DAILY_COUNTS,
    IMPRESSIONS,
    ITEMS,
    LABELLED,
    METRICS,
    PREDICTIONS,
    QUARANTINE,
    SNAPSHOTS,
    USERS,
    VOCABULARY,
    Table,
    samples_table,
)
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.checkpoint import VECTORS
from ecdctr_spark.training.job import TrainingJob, TrainingResult

Train = Callable[[TrainingJob], TrainingResult]


@dataclass(frozen=True)
class Counts:
    """rows_read = rows_kept + duplicates + quarantined, for the rows of the days asked for."""

    rows_read: int
    rows_kept: int
    duplicates: int = 0
    quarantined: int = 0


def ingest(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Raw logs of the days first..last to the canonical tables; bad rows to quarantine, duplicates counted. Days before
    `first` that are not mature (labels.maturity_days) are read again: rows may have come late.

    A row without a readable time belongs to no day: it is quarantined by whichever ingest reads it.
    """
    raw = SOURCES[config.source.kind](store.spark, config)
    start = max(config.calendar.first_day, first - config.labels.maturity_days * DAY)
    here = between(start, last)
    admitted = [_admit(store, IMPRESSIONS, checked_impressions(raw.impressions, config.calendar.timezone), here)]
    if raw.clicks is not None:
        impressions = store.read(IMPRESSIONS).where(between(start - _window(config), last)).select("event_id")
        checked = checked_clicks(raw.clicks, impressions, config.calendar.timezone)
        admitted.append(_admit(store, CLICKS, checked, here))
    if raw.users is not None:
        admitted.append(_admit(store, USERS, checked_profiles(raw.users, "user_id"), "true"))
    if raw.items is not None:
        admitted.append(_admit(store, ITEMS, checked_profiles(raw.items, "item_id"), "true"))
    sources = ", ".join(f"'{one.source}'" for one in admitted)
    bad = reduce(DataFrame.unionByName, (one.bad for one in admitted))
    store.replace(QUARANTINE, bad, f"source in ({sources}) and ({here} or ds is null)")
    return reduce(_sum, (one.counts for one in admitted))


def build(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Canonical tables to samples of the days first..last. Days before `first` are restated as far as a click of that
    day may belong to them (labels.attribution_hours) or their logs were read again (labels.maturity_days): all from
    there on, since features count what the days before hold.
    """
    start = max(config.calendar.first_day, first - max(_window(config), config.labels.maturity_days * DAY))
    here = between(start, last)
    labelled = _label(store, config, start, last)
    vocabulary = _remember(store, config, start, last)
    table = samples_table(config.features)
    store.replace(table, _samples(store, config, start, last, vocabulary), here)
    return Counts(labelled, _keep_content(store, content(store.read(table).where(here)), here))


def train(store: Store, config: Config, training: Training, run: Train) -> dict[str, Any]:
    """Resolves a due training to a job, has the ranks run it, keeps TPM's snapshot, and registers the model."""
    job, versions = training_job(store, config, training)
    result = run(job)
    if training.level == "tpm":
        _keep_snapshot(store, training.date, job)
    row = {
        "model_id": job.model_id,
        "level": training.level,
        "date": training.date,
        "path": f"models/{job.model_id}",  # below the root, which may be moved
        "parents": parents(config, training),
        "tables": versions,
        "days": [training.first, training.date],
        "fingerprint": config.fingerprint(),
        "code_version": ecdctr_spark.__version__,
        "rows": result.rows,
        "seconds": result.seconds,
    }
    registry.register(store, row)
    return row


def predict(store: Store, config: Config, day: dt.date, levels: tuple[Level, ...]) -> int:
    """Predictions of the day's ads by the models of the day before, as they would be served. Rows predicted."""
    exports: dict[str, Root] = {
        level: _exported(store, registry.model_id(level, day - DAY, config)) for level in levels
    }
    ads = store.read(samples_table(config.features)).where(f"domain = 'ad' and ds = '{day}'")
    names = ", ".join(f"'{level}'" for level in levels)
    return _replace(store, PREDICTIONS, score(ads, exports), f"ds = '{day}' and model in ({names})")


def evaluate(store: Store, day: dt.date, levels: tuple[Level, ...]) -> None:
    """Metrics of the day's predictions."""
    names = ", ".join(f"'{level}'" for level in levels)
    predictions = store.read(PREDICTIONS).where(f"ds = '{day}' and model in ({names})")
    store.replace(METRICS, metrics(predictions), f"date = '{day}' and model in ({names})")


def evaluate_overall(store: Store) -> None:
    """Metrics over all predicted days together; their date is null."""
    store.replace(METRICS, overall(store.read(PREDICTIONS)), "date is null")


def read_metrics(store: Store) -> list[dict[str, Any]]:
    """Every row of the metrics table, days in order, then the rows over all days with date "all"."""
    rows = store.read(METRICS).orderBy(F.col("date").asc_nulls_last(), "domain", "model").collect()
    return [{**row.asDict(), "date": str(row["date"] or "all")} for row in rows]


def score_samples(store: Store, model_id: str, source: Root, output: Root) -> int:
    """Predictions of the samples at `source` (Delta or Parquet) by a registered model, as Parquet. Rows predicted."""
    if not source.exists():
        raise ConfigError(f"--input {source}: no such folder; expected samples as a Delta table or Parquet files")
    registry.model_named(store, model_id)
    form = "delta" if source.at("_delta_log").exists() else "parquet"
    exports = {model_id: _exported(store, model_id)}
    scored = score(store.spark.read.format(form).load(source.addresses.spark), exports)
    scored.write.mode("overwrite").parquet(output.addresses.spark)
    return store.spark.read.parquet(output.addresses.spark).count()


def between(first: dt.date, last: dt.date) -> str:
    """The predicate of the slice of days first..last."""
    return f"ds >= date'{first}' and ds <= date'{last}'"


class _Admitted(NamedTuple):
    """What became of the raw rows of a source, and those of them (QUARANTINE) that its table did not get."""

    source: str
    counts: Counts
    bad: DataFrame


def _admit(store: Store, table: Table, checked: DataFrame, here: str) -> _Admitted:
    """Writes the kept rows of a slice; a row without a day is of every slice."""
    rows = checked.where(f"({here}) or ds is null") if "ds" in checked.columns else checked
    passing = Observation()  # counts what passes while it is written: the logs are read once, where all rows are good
    counted = rows.observe(
        passing,
        F.count(F.lit(1)).alias("rows_read"),
        F.count_if(F.col("reason").isNull()).alias("rows_kept"),
        F.count_if(F.col("reason") == DUPLICATE).alias("duplicates"),
    )
    store.replace(table, kept(counted, table), here)
    seen = {"rows_read": 0, "rows_kept": 0, "duplicates": 0, **passing.get}
    bad = seen["rows_read"] - seen["rows_kept"] - seen["duplicates"]
    return _Admitted(
        table.name, Counts(**seen, quarantined=bad), quarantined(rows if bad else rows.limit(0), table.name)
    )


def _replace(store: Store, table: Table, frame: DataFrame, where: str) -> int:
    """Store.replace; rows written."""
    passing = Observation()
    store.replace(table, frame.observe(passing, F.count(F.lit(1)).alias("rows")), where)
    return int(passing.get.get("rows", 0))  # nothing is observed of a frame that Spark knows to be empty


def _label(store: Store, config: Config, first: dt.date, last: dt.date) -> int:
    impressions = store.read(IMPRESSIONS).where(between(first, last))
    clicks = store.read(CLICKS).where(between(first, last + _window(config))) if store.exists(CLICKS) else None
    labelled = label(impressions, clicks, config.labels.attribution_hours)
    frame = with_profiles(labelled, store.read(USERS), store.read(ITEMS), config.features.availability_minutes)
    return _replace(store, LABELLED, frame, between(first, last))


def _remember(store: Store, config: Config, first: dt.date, last: dt.date) -> Vocabulary:
    """What features will look back on: the daily counts, the tokens that are new, and the daily clicks. The vocabulary
    as it is then."""
    features, here = config.features, between(first, last)
    labelled = narrowed(store.read(LABELLED).where(between(first - _lag(config), last)), features)
    known = when_known(labelled, config.calendar.timezone, features.availability_minutes)
    store.replace(DAILY_COUNTS, daily_counts(known, features.counted).where(here), here)
    counts = store.read(DAILY_COUNTS).where(between(first - _days_rationed(config), last))
    before = surveyed(store.read(VOCABULARY))
    reserved = reserve(before, features)
    declared = surveyed(before.rows.unionByName(reserved))
    store.insert_new(VOCABULARY, reserved.unionByName(admit(declared, labelled.where(here), counts, config)))
    vocabulary = surveyed(store.read(VOCABULARY))
    rows = clicked(known, vocabulary, counts, config)
    store.replace(DAILY_CLICKS, daily_clicks(rows, features.behaviours).where(here), here)
    return vocabulary


def _keep_content(store: Store, made: DataFrame, here: str) -> int:
    """The content of the days as it is now; their rows. Days that hold what they held keep the time at which they
    changed last; a day that lost all its samples stays, with none."""
    known = store.read(CONTENT).where(here)
    before = known.select("domain", "ds", F.col("checksum").alias("held"), F.col("changed").alias("since"))
    both = made.join(before, ["domain", "ds"], how="full")  # (domain, ds) is unique in both
    checksum = F.coalesce("checksum", F.lit(0)).cast("bigint")
    changed = F.when(checksum == F.col("held"), F.col("since")).otherwise(F.current_timestamp())
    rows = both.select(
        "domain", "ds", F.coalesce("rows", F.lit(0)).alias("rows"), checksum.alias("checksum"), changed.alias("changed")
    )
    store.replace(CONTENT, rows, here)
    return int(store.read(CONTENT).where(here).agg(F.coalesce(F.sum("rows"), F.lit(0))).collect()[0][0])


def _samples(store: Store, config: Config, first: dt.date, last: dt.date, vocabulary: Vocabulary) -> DataFrame:
    features, labelled = config.features, store.read(LABELLED)
    counted = max((counter.days * DAY for counter in features.counters), default=0 * DAY)
    remembered = max((sequence.days * DAY for sequence in features.behaviours), default=0 * DAY)
    counts = store.read(DAILY_COUNTS).where(between(first - max(counted, _days_rationed(config)), last))
    clicks = store.read(DAILY_CLICKS).where(between(first - remembered, last))
    own_days = today(labelled.where(between(first - _lag(config), last)), vocabulary, counts, config)
    made = samples(labelled.where(between(first, last)), Past(counts, clicks, own_days), vocabulary, config)
    return shuffled(made, config.samples.files_per_slice)


def _days_rationed(config: Config) -> dt.timedelta:
    """How far back the daily counts decide on a token's row: whether it gets one, and whether it has it still when a
    click that comes late is remembered."""
    features = config.features
    evicted = [feature.evict_days * DAY + _lag(config) for feature in features.ids if feature.evict_days]
    return max([features.admission_days * DAY, *evicted])


def _keep_snapshot(store: Store, date: dt.date, job: TrainingJob) -> None:
    """TPM's trained user and item rows to the snapshots table, under the month that they end."""
    month = date.strftime("%Y-%m")
    parts = store.spark.read.parquet(model_folder(store, job.model_id).at(VECTORS).addresses.spark)
    entities = store.read(VOCABULARY).where("field in ('user_id', 'item_id') and kind = 'token'")
    frame = parts.join(entities, "index", how="inner").select(
        F.col("field").alias("entity"),
        F.lit(month).alias("month"),
        "index",
        "vector",
        F.lit(job.model_id).alias("model_id"),
    )
    store.replace(SNAPSHOTS, frame, f"month = '{month}'")


def _exported(store: Store, model_id: str) -> Root:
    checkpoint, exported = model_folder(store, model_id), store.root.at("exports", model_id)
    if not current(exported, checkpoint):
        export(checkpoint, exported)
    return exported


def _lag(config: Config) -> dt.timedelta:
    """Days from an impression until its click, if it gets one, is known to features."""
    return _window(config) - (-config.features.availability_minutes // (24 * 60)) * DAY


def _window(config: Config) -> dt.timedelta:
    return -(-config.labels.attribution_hours // 24) * DAY


def _sum(left: Counts, right: Counts) -> Counts:
    return Counts(
        left.rows_read + right.rows_read,
        left.rows_kept + right.rows_kept,
        left.duplicates + right.duplicates,
        left.quarantined + right.quarantined,
    )
