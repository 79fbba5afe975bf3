"""The health of a day follows from its rows, and each limit is enforced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Check, Config, Limit, Limits
from ecdctr_spark.evaluation import health
from ecdctr_spark.features.sampling import keep
from ecdctr_spark.features.vocabulary import Vocabulary
from ecdctr_spark.settings.features import Features, Number
from ecdctr_spark.tables.schemas import QUARANTINE, STEPS, VOCABULARY
from tests.labelled import Impression, at, date, labelled, reserve, surveyed

Found = dict[tuple[str, str, str, str | None], float]


def found(measures: DataFrame) -> Found:
    """Values by day, domain, measure and feature."""
    return {(str(row.ds), row.domain, row.measure, row.feature): row.value for row in measures.collect()}


def test_a_day_without_impressions_is_a_gap_in_its_domain(spark: SparkSession) -> None:
    rows = labelled(
        spark, [Impression("a", at(0), clicked=at(0)), Impression("b", at(0)), Impression("c", at(2), domain="ad")]
    )
    values = found(health.traffic(rows, str(date(0)), str(date(2))))
    shown = {
        (day, domain): values[str(date(day)), domain, "impressions", None]
        for day in range(3)
        for domain in ("natural", "ad")
    }
    assert shown == {(0, "natural"): 2, (0, "ad"): 0, (1, "natural"): 0, (1, "ad"): 0, (2, "natural"): 0, (2, "ad"): 1}
    assert {key[0]: value for key, value in values.items() if key[2] == "click_rate"} == {
        str(date(0)): 0.5,
        str(date(2)): 0,
    }


def test_a_user_is_known_by_natural_impressions_of_the_days_before_alone(spark: SparkSession, config: Config) -> None:
    earlier = [
        Impression("long ago", at(0), user="forgotten", item="i"),
        Impression("seen", at(3), user="known", item="i"),
        Impression("seen in ads", at(3), user="ads only", domain="ad"),
        Impression("today", at(5, 1), user="new"),
    ]
    users = ("known", "forgotten", "ads only", "new")
    ads = [Impression(f"ad {user}", at(5), user=user, item="other", domain="ad") for user in users]
    rows = labelled(spark, [*earlier, *ads])
    three_days = replace(config, check=replace(config.check, known_days=3))
    values = found(health.known(rows.where(f"ds = '{date(5)}'"), rows, three_days))
    assert values[str(date(5)), "ad", "known_users", None] == 0.25
    assert values[str(date(5)), "ad", "known_items", None] == 0.0


def test_before_any_natural_content_no_user_can_be_known(spark: SparkSession, config: Config) -> None:
    rows = labelled(spark, [Impression("a", at(0)), Impression("b", at(0), domain="ad")])
    assert not found(health.known(rows, rows, config))


def test_what_was_kept_is_reported_beside_what_was_to_be_expected(spark: SparkSession, config: Config) -> None:
    sampling = config.sampling  # of natural impressions without a click, half are kept
    clicked = [Impression(f"c{n}", at(0, 22), clicked=at(0, 23)) for n in range(5)]
    later = Impression("later", at(0, 23), clicked=at(1, 1))
    rows = labelled(spark, [*clicked, later, *(Impression(f"n{n}", at(0)) for n in range(200))])
    click_day = F.coalesce(F.unix_date(F.to_date("click_time")), F.lit(0))
    kept = keep(rows, sampling, "UTC").withColumn("click_day", click_day)
    values = found(health.sampled(rows, kept, sampling, "UTC"))
    rates = {key[2:]: value for key, value in values.items()}
    assert rates["keep_rate", "clicked"] == rates["expected_keep_rate", "clicked"] == 1
    assert rates["expected_keep_rate", "unclicked"] == 0.5
    assert rates["keep_rate", "unclicked"] == kept.where("event_id not like 'c%'").count() / 201


def test_a_vocabulary_s_growth_is_reported_day_by_day(spark: SparkSession) -> None:
    tokens = [("item_id", "token", str(n), n, at(day)) for n, day in enumerate((0, 0, 1, 3, 3, 3))]
    vocabulary = spark.createDataFrame([*tokens, ("item_id", "unknown", "0", 9, None)], VOCABULARY.columns)
    values = found(health.grown(vocabulary, str(date(1)), str(date(3)), "UTC"))
    assert {(key[0], key[2]): value for key, value in values.items()} == {
        (str(date(1)), "tokens"): 3, (str(date(1)), "new_tokens"): 1,
        (str(date(2)), "tokens"): 3, (str(date(2)), "new_tokens"): 0,
        (str(date(3)), "tokens"): 6, (str(date(3)), "new_tokens"): 3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(spark: SparkSession, config: Config) -> Vocabulary:
    return surveyed(reserve(surveyed(spark.createDataFrame([], VOCABULARY.columns)), features(config)))


def features(config: Config) -> Features:
    """The user, the item and the item's category."""
    return Features(out_of_vocabulary=2, fields=config.features.ids[:3])


def encoded(spark: SparkSession, config: Config, vocabulary: Vocabulary, days: Sequence[Sequence[int]]) -> Found:
    """The measures of samples whose categories are the rows given, by day."""
    rows = [("natural", date(day), 1.0, 0, 0, index) for day, indices in enumerate(days) for index in indices]
    columns = "domain string, ds date, weight float, user_id int, item_id int, item_category int"
    return found(health.encoded(spark.createDataFrame(rows, columns), vocabulary, features(config)))


def test_nulls_and_unknown_tokens_are_reported_by_feature(
    spark: SparkSession, config: Config, vocabulary: Vocabulary
) -> None:
    first = vocabulary.survey.starts["item_category"]
    values = encoded(spark, config, vocabulary, [[first - 1, first, first + 1, 999]])
    assert values[str(date(0)), "natural", "null_rate", "item_category"] == 0.25
    assert values[str(date(0)), "natural", "unknown_rate", "item_category"] == 0.5
    assert values[str(date(0)), "natural", "null_rate", "user_id"] == 0.0


def test_nulls_of_a_number_are_reported_for_the_rows_that_it_cannot_be_read_from(spark: SparkSession) -> None:
    prices = ({"price": "1.5"}, {"price": "1,5"}, {"price": "NaN"}, {})
    rows = labelled(spark, [Impression(str(n), at(0), attributes=price) for n, price in enumerate(prices)])
    price = Number(kind="number", name="price", source="item.price")
    values = found(health.null_numbers(rows, [price]))
    assert values == {(str(date(0)), "natural", "null_rate", "price"): 0.75}


def test_drift_is_nothing_between_alike_days_and_much_between_others(
    spark: SparkSession, config: Config, vocabulary: Vocabulary
) -> None:
    usual, other = list(range(100, 140)) * 20, list(range(100, 105)) * 160
    values = encoded(spark, config, vocabulary, [*[usual] * 8, other])
    drift = {key[0]: value for key, value in values.items() if key[2:] == ("drift", "item_category")}
    assert drift.keys() == {str(date(7)), str(date(8))}  # the days of the first week have no week before them
    assert drift[str(date(7))] == pytest.approx(0, abs=0.01)
    assert drift[str(date(8))] > 1
    assert not any(key[2] == "drift" and key[3] in ("user_id", "item_id") for key in values)


def test_drift_is_the_stability_index_less_the_one_to_expect(
    spark: SparkSession, config: Config, vocabulary: Vocabulary
) -> None:
    usual, other = list(range(100, 140)) * 2, list(range(100, 108)) * 20
    values = encoded(spark, config, vocabulary, [*[usual] * 7, other])
    hashed = spark.range(140).select(F.pmod(F.xxhash64(F.col("id").cast("int")), F.lit(20)).alias("bucket"))
    buckets = [row.bucket for row in hashed.collect()]
    n, m = len(other), 7 * len(usual)
    index = 0.0
    for bucket in range(20):
        p = (sum(buckets[row] == bucket for row in other) + 0.5) / (n + 10)
        q = (7 * sum(buckets[row] == bucket for row in usual) + 0.5) / (m + 10)
        index += (p - q) * math.log(p / q)
    expected = index - 19 * (1 / n + 1 / m)
    assert expected > 0.1
    assert values[str(date(7)), "natural", "drift", "item_category"] == pytest.approx(expected)


def test_the_share_in_quarantine_is_by_day_and_duplicates_by_ingest(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression(str(n), at(0)) for n in range(3)])
    bad = [
        ("impressions", "logs", "user_id is missing", "{}", date(0)),
        ("clicks", "logs", "row is malformed", "{}", date(0)),
    ]
    ingest = ("ingest", "logs", None, date(0), date(0), 50, 40, 5, 5, 0, 0, 1.0, at(1), None, None)
    values = found(
        health.logged(
            rows, spark.createDataFrame(bad, QUARANTINE.columns), spark.createDataFrame([ingest], STEPS.columns)
        )
    )
    assert values == {(str(date(0)), "all", "quarantined", None): 0.25, (str(date(0)), "all", "duplicates", None): 0.1}


LIMITS = Limits(click_rate=Limit(low=0.1, high=0.5), impressions=Limit(low=1), null_rate=Limit(high=0.9))


@pytest.mark.parametrize(
    ("measure", "value", "rows", "ok"),
    [
        ("click_rate", 0.1, 100, True),
        ("click_rate", 0.5, 100, True),
        ("click_rate", 0.09, 100, False),
        ("click_rate", 0.51, 100, False),
        ("click_rate", 0.51, 99, None),  # too few rows to judge by
        ("null_rate", 0.95, 99, None),
        ("null_rate", 1.0, 20, False),  # no chance: the source is misspelled or missing
        ("null_rate", 1.0, 19, None),
        ("impressions", 0.0, 0, False),  # an empty day is what it measures
        ("drift", math.inf, 100, True),  # no limit is set
    ],
)
def test_a_value_outside_its_limit_is_not_ok(
    spark: SparkSession, measure: str, value: float, rows: int, ok: bool | None
) -> None:
    columns = "ds date, domain string, measure string, feature string, value double, rows bigint"
    one = spark.createDataFrame([(date(0), "ad", measure, None, value, rows)], columns)
    check = Check(known_days=28, least_rows=100, limits=LIMITS)
    assert health.judged(one, check).first()["ok"] is ok  # type: ignore[index]
