"""The bootstrap interval of a GAUC difference."""

from __future__ import annotations

import datetime as dt
import math
import random

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.evaluation.metrics import overall
from ecdctr_spark.evaluation.significance import gauc_difference
from ecdctr_spark.tables.schemas import PREDICTIONS

DAY = dt.date(2024, 3, 1)


def predictions(spark: SparkSession, skill: dict[str, float], users: int = 60) -> DataFrame:
    """Each method's predictions of the same impressions: the label, blurred more the less its skill."""
    chance = random.Random(11)
    events = [(f"e{number}", f"u{number % users}", int(chance.random() < 0.4)) for number in range(users * 8)]
    rows = [
        (event, user, "item", method, method, "ad", label, 1.0, ability * label + chance.random(), DAY)
        for method, ability in skill.items()
        for event, user, label in events
    ]
    return spark.createDataFrame(rows, PREDICTIONS.columns)


def test_the_difference_is_that_of_the_two_gaucs_and_the_same_seed_gives_the_same_interval(
    spark: SparkSession,
) -> None:
    frame = predictions(spark, {"actr": 0.5, "ads_only": 0.1})
    gauc = {row.method: row.gauc for row in overall(frame).collect()}
    found = gauc_difference(frame, "actr", "ads_only", resamples=200, seed=1)
    assert found.difference == pytest.approx(gauc["actr"] - gauc["ads_only"])
    assert 0 < found.low < found.difference < found.high
    assert found == gauc_difference(frame.repartition(5), "actr", "ads_only", resamples=200, seed=1)
    assert found != gauc_difference(frame, "actr", "ads_only", resamples=200, seed=2)


def test_two_models_of_equal_skill_show_no_difference(spark: SparkSession) -> None:
    found = gauc_difference(predictions(spark, {"actr": 0.3, "ads_only": 0.3}), "actr", "ads_only", 200, 1)
    assert found.low < 0 < found.high


def test_only_impressions_that_both_predicted_count(spark: SparkSession) -> None:
    frame = predictions(spark, {"actr": 0.5, "ads_only": 0.1})
    without = frame.where("not (method = 'ads_only' and user_id = 'u1')")
    found = gauc_difference(without, "actr", "ads_only", 50, 1)
    assert found == gauc_difference(frame.where("user_id <> 'u1'"), "actr", "ads_only", 50, 1)


def test_without_a_user_of_both_classes_there_is_no_interval(spark: SparkSession) -> None:
    found = gauc_difference(predictions(spark, {"actr": 0.5}), "actr", "ads_only", 50, 1)
    assert found.users == 0
    assert math.isnan(found.difference)
