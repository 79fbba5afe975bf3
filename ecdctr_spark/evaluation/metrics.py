"""How well click probabilities rank and how well they are calibrated, computed exactly in Spark.

Each prediction counts by its weight, which stands for the ads that sampling left out: the result estimates the metrics
of all ads. Predictions are grouped by value before they are ordered, and sums are decimals, so the same predictions
give the same metrics bit for bit, however Spark splits the work.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_CLIP = 1e-7  # the log loss of a wrong prediction of exactly 0 or 1 would be infinite
_COLUMNS = (
    "date", "method", "model_id", "domain",
    "auc", "gauc", "gauc_coverage", "logloss", "pcoc", "impressions", "clicks",
)  # fmt: skip


def metrics(predictions: DataFrame) -> DataFrame:
    """METRICS rows, one per (ds as date, method, domain) of PREDICTIONS rows.

    AUC: a tie of a click and a non-click counts half; null where one class is missing. GAUC (DIN, arXiv 1706.06978):
    the mean of per-user AUC weighted by impressions, over the users with both classes; `gauc_coverage` is their share
    of the impressions. Log loss is in nats. PCOC: predicted over observed clicks, null without clicks. Impressions and
    clicks are sums of weights, rounded. `model_id` is null where several models predicted. Predictions without a label
    are left out.
    """
    measured = _measured(predictions, ("ds", "method", "domain"))
    return measured.withColumnRenamed("ds", "date").select(*_COLUMNS)


def overall(predictions: DataFrame) -> DataFrame:
    """As `metrics`, one row per (method, domain) with all days pooled and a null date. A user's days count as one."""
    measured = _measured(predictions, ("method", "domain"))
    return measured.withColumn("date", F.lit(None).cast("date")).select(*_COLUMNS)


def ranking(predictions: DataFrame, keys: Sequence[str]) -> DataFrame:
    """One row per group of labelled predictions: its keys, and as doubles impressions and clicks (sums of weights) and
    auc (null where one class is missing)."""
    lower = Window.partitionBy(*keys).orderBy("prediction").rowsBetween(Window.unboundedPreceding, -1)
    clicked = F.when(F.col("label") == 1, F.col("weight")).otherwise(F.lit(0.0))
    ordered = (
        predictions.groupBy(*keys, "prediction")
        .agg(_decimal_sum(F.col("weight")).alias("impressions"), _decimal_sum(clicked).alias("clicks"))
        .withColumn("passed", F.col("impressions") - F.col("clicks"))
        .withColumn("passed_below", F.coalesce(F.sum("passed").over(lower), F.lit(0)))
    )
    # Twice the pairs of a click and a non-click that are in order: a tie counts once.
    pairs_in_order = F.col("clicks").cast("double") * (2 * F.col("passed_below") + F.col("passed")).cast("double")
    pairs = F.sum("clicks").cast("double") * F.sum("passed").cast("double")
    return ordered.groupBy(*keys).agg(
        F.sum("impressions").cast("double").alias("impressions"),
        F.sum("clicks").cast("double").alias("clicks"),
        _ratio(F.sum(pairs_in_order.cast("decimal(38,6)")), 2 * pairs).alias("auc"),
    )


def exact_sum(column: Column) -> Column:
    """The sum of a double column to 15 decimals, independent of the order of rows."""
    return _decimal_sum(column).cast("double")


def _decimal_sum(column: Column) -> Column:
    return F.sum(column.cast("decimal(28,15)"))


def _measured(predictions: DataFrame, keys: Sequence[str]) -> DataFrame:
    labelled = predictions.where(F.col("label").isNotNull())
    ranked = ranking(labelled, keys)
    # Each frame below has exactly one row per group of keys.
    measured = ranked.join(_by_user(labelled, keys), on=list(keys), how="inner").join(
        _calibration(labelled, keys), on=list(keys), how="inner"
    )
    rounded = {name: F.round(name).cast("bigint") for name in ("impressions", "clicks")}
    return measured.withColumns(rounded)


def _by_user(labelled: DataFrame, keys: Sequence[str]) -> DataFrame:
    covered = F.when(F.col("auc").isNotNull(), F.col("impressions")).otherwise(0.0)
    return (
        ranking(labelled, (*keys, "user_id"))
        .groupBy(*keys)
        .agg(
            _ratio(exact_sum(F.col("auc") * F.col("impressions")), exact_sum(covered)).alias("gauc"),
            _ratio(exact_sum(covered), exact_sum(F.col("impressions"))).alias("gauc_coverage"),
        )
    )


def _calibration(labelled: DataFrame, keys: Sequence[str]) -> DataFrame:
    clipped = F.least(F.greatest(F.col("prediction"), F.lit(_CLIP)), F.lit(1 - _CLIP))
    loss = -F.when(F.col("label") == 1, F.ln(clipped)).otherwise(F.ln(1 - clipped))
    weight = F.col("weight")
    return labelled.groupBy(*keys).agg(
        F.when(F.min("model_id") == F.max("model_id"), F.max("model_id")).alias("model_id"),
        _ratio(exact_sum(loss * weight), exact_sum(weight)).alias("logloss"),
        _ratio(exact_sum(F.col("prediction") * weight), exact_sum(F.col("label") * weight)).alias("pcoc"),
    )


def _ratio(above: Column, below: Column) -> Column:
    """above / below as a double, null where below is 0."""
    return above.cast("double") / F.nullif(below.cast("double"), F.lit(0.0))
