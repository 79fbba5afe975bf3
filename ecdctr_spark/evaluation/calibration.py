"""Reliability: whether impressions with similar predictions are clicked as often as predicted."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.evaluation.metrics import exact_sum


def reliability(predictions: DataFrame, bins: int = 10) -> DataFrame:
    """One row per (method, bin) of PREDICTIONS rows: method string, bin int (1..bins), and as doubles the impressions,
    the mean prediction and the click_rate of the labelled predictions in it. Each prediction counts by its weight.

    Bins hold about the same number of impressions, since predictions for ads crowd near zero. Equal predictions share a
    bin, so a bin may be missing.
    """
    lower = Window.partitionBy("method").orderBy("value").rowsBetween(Window.unboundedPreceding, -1)
    below = F.coalesce(F.sum("impressions").over(lower), F.lit(0.0))
    total = F.sum("impressions").over(Window.partitionBy("method"))
    clicked = F.when(F.col("label") == 1, F.col("weight")).otherwise(F.lit(0.0))
    return (
        predictions.where(F.col("label").isNotNull())
        .groupBy("method", F.col("prediction").alias("value"))
        .agg(exact_sum(F.col("weight")).alias("impressions"), exact_sum(clicked).alias("clicks"))
        .withColumn("bin", (F.floor(below * bins / total) + 1).cast("int"))
        .groupBy("method", "bin")
        .agg(
            (exact_sum(F.col("value") * F.col("impressions")) / exact_sum(F.col("impressions"))).alias("prediction"),
            (exact_sum(F.col("clicks")) / exact_sum(F.col("impressions"))).alias("click_rate"),
            exact_sum(F.col("impressions")).alias("impressions"),
        )
        .select("method", "bin", "impressions", "prediction", "click_rate")
    )
