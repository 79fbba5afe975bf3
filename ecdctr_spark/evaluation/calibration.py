"""Reliability: whether impressions predicted alike are clicked as often as predicted."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.evaluation.metrics import exact_sum


def reliability(predictions: DataFrame, bins: int = 10) -> DataFrame:
    """model, bin (1..bins), impressions, prediction (mean) and click_rate of labelled predictions.

    Bins hold about as many impressions each, since predictions of ads crowd near zero; equal predictions share
    a bin, so a bin may be missing.
    """
    lower = Window.partitionBy("model").orderBy("value").rowsBetween(Window.unboundedPreceding, -1)
    below = F.coalesce(F.sum("impressions").over(lower), F.lit(0))
    total = F.sum("impressions").over(Window.partitionBy("model"))
    return (
        predictions.where(F.col("label").isNotNull())
        .groupBy("model", F.col("prediction").alias("value"))
        .agg(F.count("label").alias("impressions"), F.sum("label").alias("clicks"))
        .withColumn("bin", (F.floor(below * bins / total) + 1).cast("int"))
        .groupBy("model", "bin")
        .agg(
            (exact_sum(F.col("value") * F.col("impressions")) / F.sum("impressions")).alias("prediction"),
            (F.sum("clicks") / F.sum("impressions")).alias("click_rate"),
            F.sum("impressions").alias("impressions"),
        )
        .select("model", "bin", "impressions", "prediction", "click_rate")
    )
