"""Counters know the days before an impression's own, and nothing else."""

from __future__ import annotations

from pyspark.sql import DataFrame, Row, SparkSession

from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.settings.features import Count, Rate
from ecdctr_spark.tables.schemas import DAILY_COUNTS
from tests.labelled import Impression, at, date, indexed, labelled, looking_back

SHOWN = Count(kind="count", name="shown", entity="item_id", domain="natural", measure="impressions", days=2)
CLICKED = Count(kind="count", name="clicked", entity="item_id", domain="natural", measure="clicks", days=28)
ADS = Count(kind="count", name="ads", entity="user_id", domain="ad", measure="impressions", days=28)
RATE = Rate(kind="rate", name="rate", entity="item.category", domain="natural", days=7, prior=0.25, strength=4)


def counted(spark: SparkSession, *rows: tuple[str, str, str, int, int, int]) -> DataFrame:
    return spark.createDataFrame([(*row[:5], date(row[5])) for row in rows], DAILY_COUNTS.columns)


def test_an_impression_counts_on_its_day_and_its_click_on_the_day_of_the_click(spark: SparkSession) -> None:
    rows = labelled(
        spark,
        [
            Impression("a", at(0, 23), clicked=at(1, 1), attributes={"category": "news"}),
            Impression("b", at(0, 22), domain="ad", clicked=at(0, 23)),  # an item without a category
            Impression("c", at(0, 21)),
        ],
    )
    counts = daily_counts(when_known(rows, "UTC", 0), ["item_id", "item.category"])
    assert counts.columns == ["entity", "key", "domain", "impressions", "clicks", "ds"]
    assert {tuple(row) for row in counts.collect()} == {
        ("item_id", "i", "natural", 2, 0, date(0)),
        ("item_id", "i", "natural", 0, 1, date(1)),
        ("item_id", "i", "ad", 1, 1, date(0)),
        ("item.category", "news", "natural", 1, 0, date(0)),
        ("item.category", "news", "natural", 0, 1, date(1)),
    }


def test_the_day_of_a_click_is_the_calendar_s_own(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression("a", at(0, 15), clicked=at(0, 17))])
    clicks = daily_counts(when_known(rows, "Asia/Shanghai", 0), ["user_id"]).where("clicks > 0").collect()
    assert [row.ds for row in clicks] == [date(1)]  # 01:00 of the next day there


def test_a_window_ends_yesterday_and_is_as_long_as_declared(spark: SparkSession) -> None:
    counts = counted(
        spark,
        ("item_id", "i", "natural", 1000, 500, 0),
        ("item_id", "i", "natural", 10, 5, 1),
        ("item_id", "i", "natural", 3, 2, 2),
        ("item_id", "i", "natural", 77, 70, 3),
        ("item_id", "i", "ad", 5000, 4000, 2),
        ("item_id", "j", "natural", 6000, 6000, 2),
        ("user_id", "i", "natural", 7000, 7000, 2),
    )
    rows = labelled(spark, [Impression("a", at(3)), Impression("b", at(3, 1)), Impression("c", at(40))])
    found = looking_back(rows, [SHOWN, CLICKED], counts)
    assert found.columns == [*rows.columns, "shown", "clicked"]
    assert {(row.event_id, row.shown, row.clicked) for row in found.collect()} == {
        ("a", 13, 507),
        ("b", 13, 507),
        ("c", 0, 0),
    }


def test_a_rate_is_smoothed_and_an_unknown_entity_has_the_prior(spark: SparkSession) -> None:
    counts = counted(spark, ("item.category", "news", "natural", 6, 4, 0), ("user_id", "u", "ad", 9, 1, 0))
    rows = labelled(
        spark,
        [
            Impression("known", at(1), attributes={"category": "news"}),
            Impression("new", at(1), attributes={"category": "sports"}, user="stranger"),
            Impression("none", at(1)),
        ],
    )
    found = looking_back(rows, [RATE, ADS], counts)
    by_event = {row.event_id: (row.rate, row.ads) for row in found.collect()}
    assert by_event == {"known": ((4 + 0.25 * 4) / (6 + 4), 9), "new": (0.25, 0), "none": (0.25, 9)}
    assert [found.schema[name].dataType.simpleString() for name in ("rate", "ads")] == ["float", "bigint"]


def test_counts_of_the_day_itself_and_later_change_nothing(spark: SparkSession) -> None:
    known = ("item_id", "i", "natural", 4, 2, 0)
    later = [("item_id", "i", "natural", 100, 50, day) for day in (1, 2, 5)]
    rows = labelled(spark, [Impression("a", at(1))])

    def features(*counts: tuple[str, str, str, int, int, int]) -> list[Row]:
        return looking_back(rows, [SHOWN, CLICKED], counted(spark, *counts)).select("shown", "clicked").collect()

    assert features(known, *later) == features(known) == [Row(shown=4, clicked=2)]


def test_without_counters_there_is_nothing_to_count_and_nothing_to_add(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression("a", at(1))])
    counts = daily_counts(when_known(rows, "UTC", 0), [])
    assert counts.count() == 0
    assert looking_back(rows, [], counts).columns == rows.columns


def test_the_day_on_which_something_is_known_is_the_day_on_which_it_counts(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression("a", at(0, 23.5), clicked=at(0, 23.75)), Impression("b", at(0, 22))])
    counts = daily_counts(when_known(rows, "UTC", 60), ["item_id"])
    assert {(row.ds, row.impressions, row.clicks) for row in counts.collect()} == {(date(0), 1, 0), (date(1), 1, 1)}


def test_with_today_a_count_runs_until_just_before_the_event(spark: SparkSession) -> None:
    counts = counted(spark, ("item_id", "i", "natural", 10, 5, 0), ("item_id", "i", "natural", 99, 99, 1))
    events = [
        Impression("known", at(1, 8), clicked=at(1, 10)),
        Impression("too-early", at(1, 8), domain="ad"),
        Impression("between", at(1, 9)),
        Impression("after", at(1, 11), user="other"),
        Impression("tomorrow", at(2, 1)),
    ]
    rows = labelled(spark, events)

    def features(delay: int) -> dict[str, tuple[int, int]]:
        history = indexed(rows, availability_minutes=delay)
        found = looking_back(rows, [SHOWN, CLICKED], counts, history, freshness="event")
        return {row.event_id: (row.shown, row.clicked) for row in found.collect()}

    fresh = {"known": (10, 5), "too-early": (10, 5), "between": (11, 5), "after": (12, 6), "tomorrow": (109, 104)}
    assert features(0) == fresh
    assert features(61) == {**fresh, "between": (10, 5), "after": (12, 5)}
