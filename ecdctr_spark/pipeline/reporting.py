"""Gathers from the tables what the HTML report tells."""

from __future__ import annotations

from pathlib import Path

import yaml
from pyspark.sql import functions as F

from ecdctr_spark.config import Config, ConfigError
from ecdctr_spark.evaluation.calibration import reliability
from ecdctr_spark.evaluation.report import Report, headline, render
from ecdctr_spark.evaluation.significance import gauc_difference
from ecdctr_spark.tables.schemas import METRICS, MODELS, PREDICTIONS, QUARANTINE, STEPS
from ecdctr_spark.tables.store import Store

MODEL, BASELINE = "actr", "ads_only"
_BINS = 10
_SEED = 11  # of the bootstrap: the same predictions give the same interval


def write_report(store: Store, config: Config) -> tuple[Path, str]:
    """Writes <storage.root>/report.html; returns where it lies and its headline. Only results leave Spark: rows of
    metrics, models and steps, a row a calibration bin, a row a quarantine reason, a row a user for the interval.
    """
    predictions = store.read(PREDICTIONS)
    if predictions.isEmpty():
        raise ConfigError(f"nothing has been predicted under {store.root}: run `ecdctr run` first")
    quarantined = store.read(QUARANTINE).groupBy("source", "reason").agg(F.count(F.lit(1)).alias("rows"))
    report = Report(
        model=MODEL,
        baseline=BASELINE,
        interval=gauc_difference(predictions, MODEL, BASELINE, config.evaluation.bootstrap, _SEED),
        metrics=store.read(METRICS).toPandas(),
        reliability=reliability(predictions, _BINS).toPandas(),
        models=store.read(MODELS).orderBy("date", "level").toPandas(),
        steps=store.read(STEPS).orderBy("finished").toPandas(),
        quarantine=quarantined.toPandas(),
        configuration=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    path = store.root / "report.html"
    render(report, path)
    return path, headline(report)
