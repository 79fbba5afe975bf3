"""A hash of the event decides whether it becomes a sample; weights make up for what was dropped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import KeepRates, Sampling
from ecdctr_spark.features.sampling import keep
from ecdctr_spark.models.batch import Batch, to_batch
from ecdctr_spark.models.exchange import ALONE
from tests.labelled import at, date
from tests.made_up import ITEMS, TINY_CONTRACT, USERS, built, fitted, part, tiny_spec

SAMPLING = Sampling(seed=7, natural=KeepRates(positive=1.0, negative=0.25), ad=KeepRates(positive=0.5, negative=0.8))
ROWS = 20_000


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    domain = F.when(F.col("id") % 2 == 0, "ad").otherwise("natural").alias("domain")
    return spark.range(ROWS).select(
        F.col("id").cast("string").alias("event_id"),
        domain,
        (F.col("id") % 4 < 2).cast("int").alias("label"),
        F.when(F.col("id") % 4 < 2, F.lit(at(0, 23))).alias("click_time"),
        F.lit(date(0)).alias("ds"),
    )


def test_each_domain_and_label_is_kept_at_its_rate_and_has_the_weight_of_what_it_stands_for(events: DataFrame) -> None:
    kept = keep(events, SAMPLING, "UTC")
    assert kept.schema["weight"].dataType.simpleString() == "float"
    groups = kept.groupBy("domain", "label").agg(
        F.count("*").alias("rows"), F.min("weight").alias("least"), F.max("weight").alias("most")
    )
    found = {(row.domain, row.label): row for row in groups.collect()}
    rates = {("natural", 1): 1.0, ("natural", 0): 0.25, ("ad", 1): 0.5, ("ad", 0): 0.8}
    assert found.keys() == rates.keys()
    for group, rate in rates.items():
        assert found[group].rows == pytest.approx(ROWS / 4 * rate, rel=0.05)
        assert found[group].least == found[group].most == pytest.approx(1 / rate)


def test_whether_an_event_is_kept_depends_on_the_seed_and_not_on_other_events(events: DataFrame) -> None:
    def names(kept: DataFrame) -> set[str]:
        return {row.event_id for row in kept.where("event_id < '15'").select("event_id").collect()}

    alone = keep(events.where("event_id < '15'").repartition(3), SAMPLING, "UTC")
    assert names(keep(events, SAMPLING, "UTC")) == names(alone)
    assert names(keep(events, replace(SAMPLING, seed=8), "UTC")) != names(alone)


def test_a_click_on_a_later_day_changes_neither_selection_nor_weight(events: DataFrame) -> None:
    def fates(frame: DataFrame) -> dict[str, float]:
        few = keep(frame.where("id_ < 400"), SAMPLING, "UTC")
        return {row.event_id: row.weight for row in few.collect()}

    numbered = events.withColumn("id_", F.col("event_id").cast("int"))
    later = F.when(F.col("label") == 1, F.lit(at(1, 0)))
    unclicked = numbered.withColumns({"label": F.lit(0), "click_time": F.lit(None).cast("timestamp")})
    assert fates(numbered.withColumn("click_time", later)) == fates(unclicked) != fates(numbered)


def test_a_model_of_the_sampled_events_is_calibrated_on_all_of_them(spark: SparkSession) -> None:
    chance = F.pmod(F.xxhash64(F.lit("click"), "id"), F.lit(1000)) / 1000
    user, item = F.col("id") % len(USERS), F.col("id") % len(ITEMS)
    clicked = chance < 0.05 + 0.2 * user / len(USERS)
    shown = spark.range(ROWS).select(
        F.col("id").cast("string").alias("event_id"),
        F.lit("natural").alias("domain"),
        clicked.cast("int").alias("label"),
        F.when(clicked, F.lit(at(0, 23))).alias("click_time"),
        F.lit(date(0)).alias("ds"),
        (user + USERS.start).alias("user"),
        (item + ITEMS.start).alias("item"),
    )
    sampled, everything = batch_of(keep(shown, SAMPLING, "UTC")), batch_of(shown)
    assert len(sampled) < 0.5 * ROWS
    assert predicted_to_clicked(sampled, everything) == pytest.approx(1.0, abs=0.1)
    unweighted = dataclasses.replace(sampled, weights=torch.ones(len(sampled)))
    assert predicted_to_clicked(unweighted, everything) > 1.5


def batch_of(events: DataFrame) -> Batch:
    rows = events.orderBy(F.xxhash64("event_id")).drop("click_time", "ds").toPandas()
    columns = {"user_id": rows["user"], "item_id": rows["item"], "label": rows["label"]}
    return to_batch({**columns, "weight": rows.get("weight", np.ones(len(rows)))}, TINY_CONTRACT)


def predicted_to_clicked(learnt: Batch, judged: Batch) -> float:
    """PCOC on the events judged of a model that learnt of others."""
    model = built(tiny_spec(hidden=[]), ALONE)  # what batch norm remembers of a few batches would blur it
    batches = [part(learnt, slice(start, start + 128)) for start in range(0, len(learnt), 128)]
    for _ in range(3):
        fitted(model, batches)
    with torch.no_grad():
        return float(torch.sigmoid(model.eval()(judged)).sum() / judged.labels.sum())
