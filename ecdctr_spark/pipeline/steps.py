"""The one place where pure functions meet storage: each step reads, calls, writes. Read this first.

A step may be killed and run again: it replaces its own slice of a table, or publishes its own folder, atomically.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Sequence

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.evaluation.metrics import metrics
from ecdctr_spark.features.behaviours import daily_clicks
from ecdctr_spark.features.columns import narrowed, when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.labels import label
from ecdctr_spark.features.past import Past, clicked, today
from ecdctr_spark.features.profiles import with_profiles
from ecdctr_spark.features.samples import content, samples, shuffled
from ecdctr_spark.features.vocabulary import Vocabulary, admit, reserve, with_reserved
from ecdctr_spark.methods.currency import Slice, with_maturity
from ecdctr_spark.methods.method import DAY
from ecdctr_spark.methods.planning import Prediction, Training
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.ingesting import Counts, window
from ecdctr_spark.pipeline.jobs import training_job
from ecdctr_spark.pipeline.registry import checkpoint, registered_checkpoint
from ecdctr_spark.serving.export import current, export
from ecdctr_spark.serving.predictor import SIGNATURE
from ecdctr_spark.serving.score import score
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
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
    SNAPSHOTS,
    USERS,
    VOCABULARY,
    Table,
    samples_table,
)
from ecdctr_spark.tables.small import Row, among, read_rows, replace_rows
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tables.survey import NOTHING, survey
from ecdctr_spark.training.checkpoint import VECTORS, Checkpoint
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from ecdctr_spark.training.manifests import digest

Train = Callable[[TrainingJob], TrainingResult]

_WRITTEN = re.compile(r"\.?(part-|_SUCCESS)|_temporary/|_started_|_committed_")  # what Spark writes into a folder


def build(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Canonical tables to samples of the days first..last. Days before `first` are built again from the first one that
    a row which was read again (labels.maturity_days) may be a click of (labels.attribution_hours), all of them, since
    features count the days before their own.
    """
    start = max(config.calendar.first_day, first - maturing(config))
    here = between(start, last)
    labelled = _label(store, config, start, last)
    vocabulary = _remember(store, config, start, last)
    table = samples_table(config.features)
    store.replace(table, _samples(store, config, start, last, vocabulary), here)
    return Counts(labelled, _keep_content(store, content(store.read(table).where(here)), start, last))


def train(store: Store, config: Config, training: Training, run: Train) -> tuple[Row, TrainingResult]:
    """Resolves a training to a job, has the ranks `run` it, keeps its snapshot and registers the model. Returns the
    registry's row and the result. Raises ConfigError as registered_checkpoint does, of its parent and its teacher."""
    for model in filter(None, (training.parent, training.teacher)):
        registered_checkpoint(store.root, model.model_id)
    parents = [model.model_id for model in training.parents]
    made_from = registry.inputs(store.root, config, training.reads, parents)
    job, versions = training_job(store, config, training, made_from)
    result = run(job)
    if "snapshot" in training.level.keeps:
        _keep_snapshot(store, job)
    origin = registry.Origin(versions, made_from, digest(checkpoint(store.root, training.model_id)))
    return registry.register(store.root, config, training, origin, result), result


def predict(store: Store, config: Config, prediction: Prediction) -> int:
    """Predictions of the day's ads by the exports of the models that serve then, and their metrics. Returns the number
    of rows predicted."""
    day, methods = prediction.day, [method for method, _ in prediction.models]
    exports = {method: exported(store.root, model.model_id) for method, model in prediction.models}
    ads = store.read(samples_table(config.features)).where(f"domain = 'ad' and ds = '{day}'")
    here = f"ds = date'{day}' and {among('method', methods)}"
    rows = _replace(store, PREDICTIONS, score(ads, exports), here)
    rated = metrics(store.read(PREDICTIONS).where(here)).collect()
    replace_rows(
        store.root, METRICS, [row.asDict() for row in rated], f"date = date'{day}' and {among('method', methods)}"
    )
    return rows


def update_maturity(root: Root, config: Config, methods: Sequence[str], built: Collection[dt.date]) -> None:
    """Brings up to date whether the metrics of these methods are mature, where `built` days are."""
    rows = [row for row in read_rows(root, METRICS) if row["method"] in methods]
    rated = with_maturity(rows, built, maturing(config))
    if rated != rows:
        replace_rows(root, METRICS, rated, among("method", methods))


def maturing(config: Config) -> dt.timedelta:
    """How long after a day its rows and their clicks still come, in whole days: a click comes up to
    labels.attribution_hours after its impression, and its row up to labels.maturity_days after it."""
    return window(config) + config.labels.maturity_days * DAY


def score_samples(store: Store, model_id: str, source: Root, output: Root) -> int:
    """Predictions of the samples at `source` (Delta or Parquet) by a registered model, as Parquet. Returns the number
    of rows. Raises ConfigError where the source or the model does not exist, or where `output` holds something other
    than predictions."""
    if not source.exists():
        raise ConfigError(f"--input {source}: no such folder; expected samples as a Delta table or Parquet files")
    if source == output:
        raise ConfigError(f"--output {output}: is --input; name another folder")
    if others := [name for name in output.files() if not _WRITTEN.match(name)]:
        raise ConfigError(f"--output {output}: holds something other than predictions ({others[0]}); name a new folder")
    form = "delta" if source.at("_delta_log").exists() else "parquet"
    samples = store.spark.read.format(form).load(source.addresses.spark)
    scored = score(samples, {model_id: exported(store.root, model_id)})
    scored.write.mode("overwrite").parquet(output.addresses.spark)
    return store.spark.read.parquet(output.addresses.spark).count()


def vocabulary_of(store: Store, config: Config) -> Vocabulary:
    """The newest version of the vocabulary."""
    if not store.exists(VOCABULARY):
        return Vocabulary(store.read(VOCABULARY), NOTHING)
    version = pinned.version(store.place(VOCABULARY))
    found = survey(store.place(VOCABULARY), version, config.calendar.timezone)
    return Vocabulary(store.read(VOCABULARY, version), found)


def is_exported(root: Root, model_id: str) -> bool:
    """Whether there is an export of the model as it is now."""
    return current(root.at("exports", model_id), checkpoint(root, model_id))


def exported(root: Root, model_id: str) -> Root:
    """The export of a registered model, written again where it is missing or of another checkpoint. Raises ConfigError
    as registered_checkpoint does."""
    made_from, folder = registered_checkpoint(root, model_id), root.at("exports", model_id)
    if not is_exported(root, model_id):
        if not folder.at(SIGNATURE).exists():
            folder.remove()  # what a killed command has left
        export(made_from, folder)
    return folder


def between(first: dt.date, last: dt.date) -> str:
    """The predicate of the slice of days first..last."""
    return f"ds >= date'{first}' and ds <= date'{last}'"


def _replace(store: Store, table: Table, frame: DataFrame, where: str) -> int:
    """Store.replace; returns the number of rows written."""
    passing = Observation()
    store.replace(table, frame.observe(passing, F.count(F.lit(1)).alias("rows")), where)
    return int(passing.get.get("rows", 0))  # Spark observes nothing of a frame that it knows to be empty


def _label(store: Store, config: Config, first: dt.date, last: dt.date) -> int:
    impressions = store.read(IMPRESSIONS).where(between(first, last))
    clicks = store.read(CLICKS).where(between(first, last + window(config))) if store.exists(CLICKS) else None
    labelled = label(impressions, clicks, config.labels.attribution_hours)
    frame = with_profiles(labelled, store.read(USERS), store.read(ITEMS), config.features.availability_minutes)
    return _replace(store, LABELLED, frame, between(first, last))


def _remember(store: Store, config: Config, first: dt.date, last: dt.date) -> Vocabulary:
    """Writes what features look back on: daily counts, new tokens and daily clicks. Returns the new vocabulary."""
    features, here = config.features, between(first, last)
    labelled = narrowed(store.read(LABELLED).where(between(first - _lag(config), last)), features)
    known = when_known(labelled, config.calendar.timezone, features.availability_minutes)
    store.replace(DAILY_COUNTS, daily_counts(known, features.counted).where(here), here)
    counts = _counts(store, config, first, last)
    _append_tokens(store, config, labelled.where(here), counts)
    vocabulary = vocabulary_of(store, config)
    rows = clicked(known, vocabulary, counts, config)
    store.replace(DAILY_CLICKS, daily_clicks(rows, features.behaviours).where(here), here)
    return vocabulary


def _append_tokens(store: Store, config: Config, labelled: DataFrame, counts: DataFrame) -> None:
    """Appends the rows of fields that are new and of tokens that the labelled rows show first."""
    before = vocabulary_of(store, config)
    reserved = reserve(before.survey, config.features)
    rows = store.spark.createDataFrame(reserved, VOCABULARY.columns)
    admitted = admit(with_reserved(before, reserved), labelled, counts, config)
    store.insert_new(VOCABULARY, rows.unionByName(admitted))


def _keep_content(store: Store, made: DataFrame, first: dt.date, last: dt.date) -> int:
    """Records what the days first..last hold now; returns their number of rows. Unchanged days keep the time of their
    last change. A day that has lost all its samples stays, with 0 rows."""
    home = store.home("data_set")
    before = {_slice(row): row for row in read_rows(home, CONTENT) if first <= row["ds"] <= last}
    lost = {key: {"domain": key[0], "ds": key[1], "rows": 0, "checksum": 0} for key in before}
    now = lost | {_slice(row): row for row in (found.asDict() for found in made.collect())}
    changed = dt.datetime.now(dt.timezone.utc)
    same = {key for key in before if before[key]["checksum"] == now[key]["checksum"]}
    rows = [{**row, "changed": before[key]["changed"] if key in same else changed} for key, row in now.items()]
    replace_rows(home, CONTENT, rows, between(first, last))
    return sum(row["rows"] for row in rows)


def _slice(row: Row) -> Slice:
    return row["domain"], row["ds"]


def _samples(store: Store, config: Config, first: dt.date, last: dt.date, vocabulary: Vocabulary) -> DataFrame:
    features, labelled = config.features, store.read(LABELLED)
    counts = _counts(store, config, first, last)
    clicks = store.read(DAILY_CLICKS).where(between(first - features.days_of_clicks * DAY, last))
    own_days = today(labelled.where(between(first - _lag(config), last)), vocabulary, counts, config)
    made = samples(labelled.where(between(first, last)), Past(counts, clicks, own_days), vocabulary, config)
    return shuffled(made, config.samples.files_per_slice)


def _counts(store: Store, config: Config, first: dt.date, last: dt.date) -> DataFrame:
    """The daily counts that the days first..last look back on."""
    looked_back = config.features.days_of_counts(_lag(config).days) * DAY
    return store.read(DAILY_COUNTS).where(between(first - looked_back, last))


def _keep_snapshot(store: Store, job: TrainingJob) -> None:
    """Writes a model's trained user and item vectors to the table SNAPSHOTS. Raises ConfigError where its checkpoint is
    damaged."""
    trained = Checkpoint.open(Root.parse(job.output)).root
    parts = store.spark.read.parquet(trained.at(VECTORS).addresses.spark)
    entities = store.read(VOCABULARY).where("field in ('user_id', 'item_id') and kind = 'token'")
    frame = parts.join(entities, "index", how="inner").select(  # an index is once in the vocabulary
        F.lit(job.model_id).alias("model_id"), F.col("field").alias("entity"), "index", "vector"
    )
    store.replace(SNAPSHOTS, frame, among("model_id", [job.model_id]))


def _lag(config: Config) -> dt.timedelta:
    """The longest time from an impression until features know its click, in whole days."""
    return window(config) - (-config.features.availability_minutes // (24 * 60)) * DAY
