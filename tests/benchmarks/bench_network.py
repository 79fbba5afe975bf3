"""make bench-network: the worth of each part of the complete network, by its GAUC on synthetic platforms without it.

Every variant trains once on the same month of natural logs, by the same settings, and ranks the three days after it.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.evaluation.metrics import overall
from ecdctr_spark.evaluation.significance import gauc_difference
from ecdctr_spark.launching.launch import Inline
from ecdctr_spark.methods.method import DAY
from ecdctr_spark.pipeline import registry, steps
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.pipeline.jobs import training_job
from ecdctr_spark.serving.export import export
from ecdctr_spark.serving.score import score
from ecdctr_spark.session import Session, spark_session
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import samples_table
from ecdctr_spark.tables.store import Store
from tests.benchmarks.results import Result, plain, publish

WORK = Path(".bench/network")
WORLDS = ("drifting", "seasonal")
HISTORY, LEARNT, RANKED = 14, 30, 3  # days for features to look back on, CPM's month, the days that are judged
IMPRESSIONS_PER_DAY = 50_000
THREADS, RESAMPLES = 2, 1000
DEFAULT = "default"
# The complete network alone, on a day of its own, without what other levels know.
ALONE = """methods.alone={like: ecdctr, serves: cpm, levels: {tpm: null, actr: null,
    cpm: {clock: {every: day}, memory: null}}}"""
NETWORK = "methods.alone.levels.cpm.network"
VARIANTS = {
    DEFAULT: [],
    "behaviours' mean, not attention": ["pooling=mean"],
    "no cross network": ["cross_layers=0"],
    "no MLP": ["hidden=[]"],
    "MLP 256-128-64": ["hidden=[256,128,64]"],
}


def main() -> None:
    """Every variant on every synthetic platform."""
    shutil.rmtree(WORK, ignore_errors=True)
    spark = spark_session("local[2]", "4g")
    publish("network", [row for world in WORLDS for row in compared(spark, world)], ["torch"])
    shutil.rmtree(WORK)


def compared(spark: SparkSession, world: str) -> list[Result]:
    """The default's GAUC and rate; of every other variant the GAUC less the default's, its 95 % interval by a bootstrap
    over users, and its rate as a multiple of the default's."""
    store = built(spark, world)
    trained(store, world, DEFAULT)  # the first training of a process pays for the imports
    rates = {variant: trained(store, world, variant) for variant in VARIANTS}
    predictions = ranked(store, world).localCheckpoint()
    gauc = {row["method"]: row["gauc"] for row in overall(predictions).collect()}
    rows = [
        plain(f"{world}, {DEFAULT}", gauc[DEFAULT], "GAUC"),
        plain(f"{world}, {DEFAULT}", rates[DEFAULT], "samples/s"),
    ]
    for variant in list(VARIANTS)[1:]:
        found, name = gauc_difference(predictions, variant, DEFAULT, RESAMPLES, seed=1), f"{world}, {variant}"
        unit = f"GAUC, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
        rows += [
            plain(name, found.difference, unit),
            plain(name, rates[variant] / rates[DEFAULT], "of the default's rate"),
        ]
    return rows


def configured(world: str, variant: str) -> Config:
    days = HISTORY + LEARNT + RANKED
    size = [
        f"synthetic.days={days}",
        f"synthetic.impressions_per_day={IMPRESSIONS_PER_DAY}",
        f"storage.root={WORK / world}",
    ]
    changes = [f"{NETWORK}.{setting}" for setting in VARIANTS[variant]]
    return load_config(["synthetic", world], [*size, ALONE, *changes], ["alone"])


def learnt_until(config: Config) -> dt.date:
    return config.calendar.first_day + (HISTORY + LEARNT - 1) * DAY


def built(spark: SparkSession, world: str) -> Store:
    """Tables with the samples of all days."""
    config = configured(world, DEFAULT)
    SOURCES[config.source.kind](spark, config)
    store = Store(Session.of(spark), Root.parse(config.storage.root))
    first, last = config.calendar.first_day, learnt_until(config) + RANKED * DAY
    ingest(store, config, first, last)
    steps.build(store, config, first, last)
    return store


def trained(store: Store, world: str, variant: str) -> float:
    """Exports the variant, trained on a month of natural logs; samples per second."""
    config = configured(world, variant)
    until = learnt_until(config)
    planner = registry.planner(config)
    job, _ = training_job(store, config, planner.training(planner.methods[0], "cpm", until))
    job = replace(job, model_id=variant, output=str(store.root.at("models", variant)))
    result = Inline(THREADS).train(job, lambda rows, loss: None)
    export(Root.parse(job.output), store.root.at("exports", variant))
    return result.rows / result.seconds


def ranked(store: Store, world: str) -> DataFrame:
    """Predictions by all variants of the natural logs that none was trained on."""
    config = configured(world, DEFAULT)
    first = learnt_until(config) + DAY
    unseen = f"domain = 'natural' and {steps.between(first, first + (RANKED - 1) * DAY)}"
    exports = {variant: store.root.at("exports", variant) for variant in VARIANTS}
    return score(store.read(samples_table(config.features)).where(unseen), exports)


if __name__ == "__main__":
    main()
