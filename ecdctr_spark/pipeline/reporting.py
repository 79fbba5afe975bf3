"""Gathers from the tables what the HTML report tells."""

from __future__ import annotations

from typing import Any

import yaml
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.evaluation.calibration import reliability
from ecdctr_spark.evaluation.report import Report, headline, render
from ecdctr_spark.evaluation.significance import gauc_difference
from ecdctr_spark.pipeline.checking import summary
from ecdctr_spark.pipeline.steps import read_metrics
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS, PREDICTIONS, QUARANTINE, STEPS
from ecdctr_spark.tables.store import Store

MODEL, BASELINE = "actr", "ads_only"
_BINS = 10
_SEED = 11  # of the bootstrap: the same predictions give the same interval


def write_report(store: Store, config: Config) -> tuple[Root, str]:
    """Writes <storage.root>/report.html; returns where it lies and its headline. Only results leave Spark: rows of
    metrics, models and steps, a row a calibration bin, a quarantine reason or a measure of health, a row a user for
    the interval.
    """
    predictions = store.read(PREDICTIONS)
    if predictions.isEmpty():
        raise ConfigError(f"nothing has been predicted under {store.root}: run `ecdctr run` first")
    quarantined = store.read(QUARANTINE).groupBy("source", "reason").agg(F.count(F.lit(1)).alias("rows"))
    report = Report(
        model=MODEL,
        baseline=BASELINE,
        interval=gauc_difference(predictions, MODEL, BASELINE, config.evaluation.bootstrap, _SEED),
        metrics=read_metrics(store),
        reliability=_rows(reliability(predictions, _BINS)),
        models=_rows(store.read(MODELS).orderBy("date", "level")),
        steps=_rows(store.read(STEPS).orderBy("finished")),
        quarantine=_rows(quarantined.orderBy("source", "reason")),
        health=summary(store),
        configuration=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    path = store.root.at("report.html")
    render(report, path)
    return path, headline(report)


def _rows(frame: DataFrame) -> list[dict[str, Any]]:
    return [row.asDict() for row in frame.collect()]
