"""Reliability bins."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from ecdctr_spark.evaluation.calibration import reliability


def predictions(spark: SparkSession, *values: tuple[float, int], method: str = "actr") -> DataFrame:
    rows = [(method, label, 1.0, prediction) for prediction, label in values]
    return spark.createDataFrame(rows, "method string, label int, weight double, prediction double")


def bins(frame: DataFrame, count: int) -> list[Row]:
    return reliability(frame, count).orderBy("method", "bin").collect()


def test_bins_hold_as_many_impressions_each_and_their_own_rates(spark: SparkSession) -> None:
    low, high = bins(predictions(spark, (0.01, 0), (0.03, 1), (0.5, 1), (0.7, 1)), 2)
    assert (low.bin, low.impressions, low.click_rate) == (1, 2, 0.5)
    assert low.prediction == pytest.approx(0.02)
    assert (high.bin, high.impressions, high.click_rate) == (2, 2, 1.0)
    assert high.prediction == pytest.approx(0.6)


def test_equal_predictions_share_a_bin(spark: SparkSession) -> None:
    (one,) = bins(predictions(spark, *[(0.2, label) for label in (0, 1, 0, 0, 0, 1)]), 3)
    assert (one.bin, one.impressions, one.click_rate) == (1, 6, pytest.approx(1 / 3))


def test_methods_are_binned_apart(spark: SparkSession) -> None:
    frame = predictions(spark, (0.1, 0), (0.2, 1)).unionByName(predictions(spark, (0.8, 1), (0.9, 0), method="other"))
    assert [(row.method, row.bin) for row in bins(frame, 2)] == [
        ("actr", 1),
        ("actr", 2),
        ("other", 1),
        ("other", 2),
    ]


def test_a_prediction_counts_by_its_weight(spark: SparkSession) -> None:
    rows = [("m", 1, 1.0, 0.2), ("m", 0, 1.0, 0.7), ("m", 0, 3.0, 0.7)]
    (one,) = bins(spark.createDataFrame(rows, "method string, label int, weight double, prediction double"), 1)
    assert (one.impressions, one.click_rate, one.prediction) == (5, 0.2, pytest.approx(0.6))


def test_there_are_ten_bins_unless_another_number_is_asked_for(spark: SparkSession) -> None:
    found = reliability(predictions(spark, *((place / 40, 0) for place in range(20)))).collect()
    assert sorted((row.bin, row.impressions) for row in found) == [(bin_, 2.0) for bin_ in range(1, 11)]
