"""Bad days stop before training, with the measure at fault named."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.features.past import Past
from ecdctr_spark.features.samples import samples
from ecdctr_spark.features.vocabulary import admit
from ecdctr_spark.pipeline.checking import check, refuse, summary, verdict
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import (
    DAILY_CLICKS,
    DAILY_COUNTS,
    HEALTH,
    LABELLED,
    VOCABULARY,
    samples_table,
)
from ecdctr_spark.tables.store import Store
from tests.configured import FIRST_DAY
from tests.labelled import date, labelled, made_up, reserve, surveyed

DAYS = 2


@pytest.fixture(scope="module")
def store(spark: SparkSession, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two built days."""
    store = Store(Session.of(spark), Root.parse(tmp_path_factory.mktemp("built")))
    rows = labelled(spark, made_up(DAYS))
    store.replace(LABELLED, rows, "true")
    store.insert_new(VOCABULARY, reserve(surveyed(store.read(VOCABULARY)), config.features))
    store.insert_new(VOCABULARY, admit(surveyed(store.read(VOCABULARY)), rows, store.read(DAILY_COUNTS), config))
    counts = spark.createDataFrame([], DAILY_COUNTS.columns)
    clicks = spark.createDataFrame([], DAILY_CLICKS.columns)
    made = samples(rows, Past(counts, clicks, None), surveyed(store.read(VOCABULARY)), config)
    store.replace(samples_table(config.features), made, "true")
    return store


def limited(*limits: str) -> Config:
    return load_config([], [FIRST_DAY, "check.least_rows=1", *(f"check.limits.{limit}" for limit in limits)])


def test_healthy_days_pass_and_are_kept_with_their_limits(store: Store) -> None:
    broken = check(store, limited("click_rate.high=1"), date(0), date(1))
    refuse(broken)
    assert not broken
    found = {(row["domain"], row["measure"], row["feature"]): row for row in summary(store)}
    assert found["natural", "impressions", None]["days"] == 2
    assert verdict(list(found.values())) == f"none of {len(found)} measures is outside its limits"
    assert found["ad", "null_rate", "item_category"]["high"] == 0.999
    assert ("ad", "known_users", None) in found


def test_a_broken_limit_is_one_line_that_names_day_measure_value_and_limit(store: Store) -> None:
    broken = check(store, limited("click_rate.high=0.2"), date(0), date(1))
    with pytest.raises(ConfigError) as error:
        refuse(broken)
    assert f"{date(0)} ad: click_rate is 1, expected at most 0.2" in str(error.value)
    assert "and 1 more" in str(error.value)


def test_days_of_few_rows_are_said_not_to_be_judged(store: Store) -> None:
    many = load_config([], [FIRST_DAY, "check.least_rows=100000"])
    check(store, many, date(0), date(1))
    found = summary(store)
    assert {row["judged"] for row in found if row["measure"] == "click_rate"} == {0}
    few = sum(row["judged"] < row["days"] for row in found)
    assert verdict(found).endswith(f"; {few} had days of too few rows to be judged (check.least_rows)")


def test_checking_again_replaces_the_day_s_rows(store: Store) -> None:
    check(store, limited(), date(0), date(1))
    before = store.read(HEALTH).count()
    check(store, limited(), date(1), date(1))
    assert store.read(HEALTH).count() == before
