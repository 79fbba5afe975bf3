"""A behaviours column holds what the user clicked on before today."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.models.batch import unpack
from ecdctr_spark.settings.features import Behaviours
from tests.labelled import Impression, at, indexed, labelled, looking_back

RECENT = Behaviours(kind="behaviours", name="recent", of="item_id", length=3, days=10)


def clicks(*moments: tuple[int, float], user: str = "u") -> list[Impression]:
    """Clicked impressions of items 1, 2, ... at the (day, hour) given, an hour before each click."""
    return [
        Impression(f"h{place}", at(day, hour - 1), user, item=str(place), clicked=at(day, hour))
        for place, (day, hour) in enumerate(moments, start=1)
    ]


def recent(
    spark: SparkSession, now: Iterable[Impression], history: Iterable[Impression], timezone: str = "UTC"
) -> dict[str, list[int]]:
    past = indexed(labelled(spark, history), timezone)
    return unpacked(looking_back(labelled(spark, now), [RECENT], history=past))


def unpacked(found: DataFrame) -> dict[str, list[int]]:
    return {row.event_id: unpack([bytes(row.recent)], RECENT.length)[0].tolist() for row in found.collect()}


def test_the_newest_clicks_come_last_and_padding_first(spark: SparkSession) -> None:
    now = [Impression("few", at(3)), Impression("many", at(9)), Impression("none", at(9), user="stranger")]
    history = clicks((1, 9), (2, 9), (4, 15), (4, 12), (5, 9))
    assert recent(spark, now, history) == {"few": [0, 1, 2], "many": [4, 3, 5], "none": [0, 0, 0]}


def test_clicks_of_one_moment_are_ordered_by_event(spark: SparkSession) -> None:
    history = clicks(*[(1, 9)] * 5)
    assert recent(spark, [Impression("a", at(2))], history) == {"a": [3, 4, 5]}
    assert recent(spark, [Impression("a", at(2))], reversed(history)) == {"a": [3, 4, 5]}


def test_a_click_of_today_or_later_or_of_too_long_ago_is_not_seen(spark: SparkSession) -> None:
    history = clicks((1, 9), (2, 9), (11, 9), (12, 9), (12, 1.5), (13, 9))
    assert recent(spark, [Impression("a", at(12, 10))], history) == {"a": [0, 2, 3]}


def test_a_click_after_midnight_belongs_to_its_own_day(spark: SparkSession) -> None:
    history = clicks((2, 0.5))  # shown on day 1
    now = [Impression("same", at(2)), Impression("next", at(3))]
    assert recent(spark, now, history) == {"same": [0, 0, 0], "next": [0, 0, 1]}


def test_the_day_of_a_click_is_the_calendar_s_own(spark: SparkSession) -> None:
    history = clicks((1, 17))  # 01:00 of day 2 in Shanghai
    assert recent(spark, [Impression("a", at(2, 1))], history, "UTC") == {"a": [0, 0, 1]}
    assert recent(spark, [Impression("a", at(2, 1))], history, "Asia/Shanghai") == {"a": [0, 0, 0]}


def test_ads_and_impressions_without_a_click_are_no_behaviours(spark: SparkSession) -> None:
    first, second, third = clicks((1, 9), (1, 10), (1, 11))
    history = [first._replace(domain="ad"), second._replace(clicked=None), third]
    assert recent(spark, [Impression("a", at(2))], history) == {"a": [0, 0, 3]}


def test_large_rows_survive_the_packing(spark: SparkSession) -> None:
    row = 2**31 - 1
    history = [Impression("h", at(1), item=str(row), clicked=at(1))]
    assert recent(spark, [Impression("a", at(2))], history) == {"a": [0, 0, row]}


def test_with_today_clicks_known_just_before_push_the_oldest_out(spark: SparkSession) -> None:
    history = labelled(spark, clicks((1, 9), (2, 9), (3, 8), (3, 10), (3, 10), (3, 11), (3, 12)))
    past = indexed(history, availability_minutes=30)
    hours = {"dawn": 7, "known": 8.5, "just": 8.51, "both": 10.6, "all": 20}
    now = labelled(spark, [Impression(event, at(3, hour)) for event, hour in hours.items()])
    found = unpacked(looking_back(now, [RECENT], history=past, freshness="event"))
    assert found == {"dawn": [0, 1, 2], "known": [0, 1, 2], "just": [1, 2, 3], "both": [3, 4, 5], "all": [5, 6, 7]}


def test_with_today_a_user_without_clicks_has_none(spark: SparkSession) -> None:
    past = indexed(labelled(spark, clicks((3, 9), user="other")))
    now = labelled(spark, [Impression("a", at(3, 20))])
    found = unpacked(looking_back(now, [RECENT], history=past, freshness="event"))
    assert found == {"a": [0, 0, 0]}
