"""Metrics against scikit-learn and against cases worked by hand."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterable
from functools import reduce

import pandas as pd
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import log_loss, roc_auc_score

from ecdctr_spark.evaluation.metrics import metrics, overall
from ecdctr_spark.tables.schemas import METRICS, PREDICTIONS

DAY = dt.date(2024, 3, 1)
LATER = DAY + dt.timedelta(days=1)
Case = tuple[str, int | None, float]  # user, label, prediction

RIGHT, WRONG = [("right", 1, 0.9), ("right", 0, 0.1)], [("wrong", 1, 0.1), *[("wrong", 0, 0.2)] * 3]
BY_HAND: dict[str, list[Case]] = {
    "tied": [("u", 1, 0.5), ("u", 0, 0.5), ("u", 0, 0.2)],
    "weighted": [*RIGHT, *WRONG, ("idle", 0, 0.99), ("idle", 0, 0.01)],
    "unclicked": [("u", 0, 0.5), ("v", 0, 0.5)],
    "certain": [("u", 1, 0.0)],
    "unlabelled": [("u", 1, 0.9), ("u", 0, 0.1), ("u", None, 0.4)],
}


def predictions(spark: SparkSession, cases: Iterable[Case], method: str, day: dt.date = DAY) -> DataFrame:
    rows = [
        (f"{day}-{number}", user, "item", method, f"{method}-of-{day}", "ad", label, 1.0, prediction, day)
        for number, (user, label, prediction) in enumerate(cases)
    ]
    return spark.createDataFrame(rows, PREDICTIONS.columns)


@pytest.fixture(scope="module")
def drawn() -> list[Case]:
    """600 impressions of 40 users; one decimal of prediction, so that ties abound."""
    chance = random.Random(3)
    return [(f"user-{chance.randrange(40)}", int(chance.random() < 0.3), round(chance.random(), 1)) for _ in range(600)]


@pytest.fixture(scope="module")
def by_hand(spark: SparkSession) -> dict[str, Row]:
    """The metrics of each case, as if each were a model's."""
    cases = (predictions(spark, rows, method) for method, rows in BY_HAND.items())
    return {row.method: row for row in metrics(reduce(DataFrame.unionByName, cases)).collect()}


def test_auc_gauc_and_log_loss_agree_with_scikit_learn(spark: SparkSession, drawn: list[Case]) -> None:
    (row,) = metrics(predictions(spark, drawn, "actr")).collect()
    frame = pd.DataFrame(drawn, columns=["user", "label", "prediction"])
    both = [user for _, user in frame.groupby("user") if user["label"].nunique() == 2]
    weighted = sum(roc_auc_score(user["label"], user["prediction"]) * len(user) for user in both)
    covered = sum(len(user) for user in both)
    assert row.auc == pytest.approx(roc_auc_score(frame["label"], frame["prediction"]), abs=1e-12)
    assert row.gauc == pytest.approx(weighted / covered, abs=1e-12)
    assert row.gauc_coverage == pytest.approx(covered / len(frame))
    clipped = frame["prediction"].clip(1e-7, 1 - 1e-7)
    assert row.logloss == pytest.approx(log_loss(frame["label"], clipped), abs=1e-9)
    assert row.pcoc == pytest.approx(frame["prediction"].sum() / frame["label"].sum())
    assert (row.impressions, row.clicks) == (600, frame["label"].sum())


def test_a_tie_of_a_click_and_a_non_click_counts_half(by_hand: dict[str, Row]) -> None:
    assert by_hand["tied"].auc == by_hand["tied"].gauc == 0.75  # one pair tied, one in order


def test_gauc_weights_users_by_impressions_and_leaves_out_those_of_one_class(by_hand: dict[str, Row]) -> None:
    assert by_hand["weighted"].gauc == pytest.approx(2 / 6)
    assert by_hand["weighted"].gauc_coverage == pytest.approx(6 / 8)


def test_without_clicks_there_is_no_ranking_and_no_calibration(by_hand: dict[str, Row]) -> None:
    row = by_hand["unclicked"]
    assert (row.auc, row.gauc, row.pcoc, row.gauc_coverage) == (None, None, None, 0.0)
    assert row.logloss == pytest.approx(math.log(2))
    assert (row.impressions, row.clicks) == (2, 0)


def test_a_prediction_of_exactly_0_that_is_clicked_has_a_finite_loss(by_hand: dict[str, Row]) -> None:
    assert by_hand["certain"].logloss == pytest.approx(-math.log(1e-7))


def test_predictions_without_a_label_are_left_out(by_hand: dict[str, Row]) -> None:
    assert by_hand["unlabelled"].impressions == 2


def test_days_and_models_are_measured_apart_and_pooled_over_all_days(spark: SparkSession) -> None:
    good, bad = [("u", 1, 0.9), ("u", 0, 0.1)], [("u", 1, 0.2), ("u", 0, 0.3)]
    days = predictions(spark, good, "actr").unionByName(predictions(spark, bad, "actr", LATER))
    rows = days.unionByName(predictions(spark, bad, "ads_only"))
    by_day = {(row.date, row.method): row.gauc for row in metrics(rows).collect()}
    assert by_day == {(DAY, "actr"): 1.0, (LATER, "actr"): 0.0, (DAY, "ads_only"): 0.0}
    pooled = {row.method: row for row in overall(rows).collect()}
    assert pooled["actr"].gauc == 0.75  # over both days, 3 of the 4 pairs of the user are in order
    assert pooled["actr"].date is None
    assert pooled["actr"].model_id is None  # each day has another model
    assert pooled["ads_only"].model_id == f"ads_only-of-{DAY}"


def test_metrics_do_not_depend_on_how_the_rows_are_split(spark: SparkSession, drawn: list[Case]) -> None:
    frame = predictions(spark, [(user, label, value / 3) for user, label, value in drawn], "actr")
    assert metrics(frame.coalesce(1)).collect() == metrics(frame.repartition(7)).collect()


def test_the_columns_are_those_of_the_metrics_table(spark: SparkSession) -> None:
    expected = spark.createDataFrame([], METRICS.columns).drop("mature").dtypes  # known from the ledger
    rows = predictions(spark, [("u", 1, 0.9)], "actr")
    assert metrics(rows).dtypes == expected
    assert overall(rows).dtypes == expected


def test_sampled_ads_with_their_weights_give_the_metrics_of_all_ads(spark: SparkSession) -> None:
    """Of two ads that were not clicked one is kept, with weight 2: as if the same ad had been shown twice."""
    clicked, passed = [("u", 1, 0.8), ("u", 1, 0.3), ("v", 1, 0.6)], [("u", 0, 0.2), ("u", 0, 0.5), ("v", 0, 0.7)]
    every = predictions(spark, [*clicked, *passed, *passed], "all")
    kept = predictions(spark, [*clicked, *passed], "all").withColumn("weight", F.expr("if(label = 1, 1.0D, 2.0D)"))
    (expected,), (found,) = metrics(every).collect(), metrics(kept).collect()
    assert found == expected
    assert (found.impressions, found.clicks) == (9, 3)
    (unweighted,) = metrics(kept.withColumn("weight", F.lit(1.0))).collect()
    assert unweighted.pcoc != pytest.approx(expected.pcoc)
