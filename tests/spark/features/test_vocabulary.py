"""A token owns its row of the embedding for good."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import load_config
from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.vocabulary import admit, encoded
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Count, Features, Id
from ecdctr_spark.tables.schemas import VOCABULARY
from tests.configured import FIRST_DAY
from tests.labelled import Impression, at, date, labelled, reserve, surveyed

USER = Id(kind="id", name="user_id", source="user_id")
ITEM = Id(kind="id", name="item_id", source="item_id")
CATEGORY = Id(kind="id", name="category", source="item.category")
COUNT = Count(kind="count", name="shown", entity="user_id", domain="ad", measure="impressions", days=7, buckets=4)
FEATURES = Features(out_of_vocabulary=2, fields=(USER, ITEM, COUNT))
RESERVED = 1 + 3 + 3 + 4  # padding, USER, ITEM, COUNT


def empty(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([], VOCABULARY.columns)


def counts(rows: DataFrame) -> DataFrame:
    return daily_counts(when_known(rows, "UTC", 0), ["user_id", "item_id"])


def admitted(known: DataFrame, rows: DataFrame, features: Features = FEATURES) -> DataFrame:
    config = replace(load_config([], [FIRST_DAY]), features=features)
    return admit(surveyed(known), rows, counts(rows), config)


def rows_of(rows: DataFrame, known: DataFrame, features: Features) -> list[Row]:
    """event_id and the row of each id feature, as known when the impression was shown."""
    found = encoded(rows, surveyed(known), counts(rows), features.ids, F.col("event_time"), "UTC")
    return found.select("event_id", "index.*").collect()


def content(vocabulary: DataFrame) -> dict[int, tuple[str, str, str]]:
    rows = vocabulary.select("index", "field", "kind", "token").collect()
    assert len({row.index for row in rows}) == len(rows)
    return {row["index"]: (row.field, row.kind, row.token) for row in sorted(rows, key=lambda row: row["index"])}


@pytest.fixture(scope="module")
def first_day(spark: SparkSession) -> list[Impression]:
    return [
        Impression("late", at(0, 20), "bob", "cup"),
        Impression("early", at(0, 8), "zoe", "pot"),
        Impression("again", at(0, 21), "zoe", "cup"),
    ]


@pytest.fixture(scope="module")
def known(spark: SparkSession, first_day: list[Impression]) -> DataFrame:
    """The vocabulary after the first day."""
    reserved = reserve(surveyed(empty(spark)), FEATURES)
    return reserved.unionByName(admitted(reserved, labelled(spark, first_day))).localCheckpoint()


def test_padding_comes_first_then_a_block_for_each_field_in_the_order_of_the_fields(spark: SparkSession) -> None:
    reserved = reserve(surveyed(empty(spark)), FEATURES)
    assert list(content(reserved).items()) == [
        (0, ("", "padding", "0")),
        (1, ("user_id", "null", "0")),
        (2, ("user_id", "unknown", "0")),
        (3, ("user_id", "unknown", "1")),
        (4, ("item_id", "null", "0")),
        (5, ("item_id", "unknown", "0")),
        (6, ("item_id", "unknown", "1")),
        *((7 + bucket, ("shown", "bucket", str(bucket))) for bucket in range(4)),
    ]
    assert surveyed(reserved).survey.starts == {"user_id": 2, "item_id": 5, "shown": 7}


def test_tokens_follow_in_the_order_of_first_sight(known: DataFrame) -> None:
    assert list(content(known).items())[RESERVED:] == [
        (11, ("item_id", "token", "pot")),
        (12, ("user_id", "token", "zoe")),
        (13, ("item_id", "token", "cup")),
        (14, ("user_id", "token", "bob")),
    ]
    since = {row.token: row.since for row in known.where("kind = 'token'").collect()}
    assert since["cup"].hour == 20
    assert known.where("kind <> 'token' and since is not null").count() == 0


def test_what_is_known_is_neither_reserved_nor_admitted_again(
    spark: SparkSession, known: DataFrame, first_day: list[Impression]
) -> None:
    assert reserve(surveyed(known), FEATURES).count() == 0
    assert admitted(known, labelled(spark, first_day)).count() == 0


def test_a_token_that_comes_late_is_appended_and_moves_no_other(
    spark: SparkSession, known: DataFrame, first_day: list[Impression]
) -> None:
    late = Impression("x", at(0, 1), "ann", "cup")  # earlier than all that was known
    following = Impression("y", at(1), "cat", "cup")
    rows = labelled(spark, [*first_day, following, late])
    after = known.unionByName(admitted(known, rows))
    assert content(after) == {
        **content(known),
        15: ("user_id", "token", "ann"),
        16: ("user_id", "token", "cat"),
    }


def test_a_field_declared_later_appends_its_block(spark: SparkSession, known: DataFrame) -> None:
    features = Features(out_of_vocabulary=2, fields=(CATEGORY, *FEATURES.fields))
    new = reserve(surveyed(known), features)
    assert list(content(new)) == [15, 16, 17]
    assert surveyed(known.unionByName(new)).survey.starts == {**surveyed(known).survey.starts, "category": 16}


def test_a_block_of_another_size_than_declared_is_reported_as_damage(known: DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"user_id has 2 unknown rows, but its data set declares 5: .* damaged"):
        reserve(surveyed(known), Features(out_of_vocabulary=5, fields=FEATURES.fields))
    wider = replace(COUNT, buckets=9)
    with pytest.raises(ConfigError, match="shown has 4 bucket rows, but its data set declares 9"):
        reserve(surveyed(known), Features(out_of_vocabulary=2, fields=(USER, ITEM, wider)))
    without_null = surveyed(known.where("kind <> 'null'"))
    with pytest.raises(ConfigError, match="user_id has 0 null rows, but its data set declares 1"):
        reserve(without_null, FEATURES)


def test_indices_of_many_hours_have_no_gap_and_follow_time(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression(str(n), at(0, n * 0.3), f"u{n}", "pot") for n in range(200)])
    reserved = reserve(surveyed(empty(spark)), FEATURES)
    new = admitted(reserved, rows.repartition(5)).orderBy("index").collect()
    assert [row["index"] for row in new] == list(range(RESERVED, RESERVED + 201))
    assert [(row.since, row.field) for row in new] == sorted((row.since, row.field) for row in new)


def test_a_token_has_its_own_row_after_its_first_sight_only(spark: SparkSession, known: DataFrame) -> None:
    rows = labelled(
        spark,
        [
            Impression("before", at(0, 19), "zoe", "cup"),
            Impression("at", at(0, 20), "zoe", "cup"),
            Impression("after", at(0, 20.01), "zoe", "cup"),
            Impression("never", at(9), "stranger", "pot"),
        ],
    )
    found = rows_of(rows, known, FEATURES)
    user = {row.event_id: row.user_id for row in found}
    item = {row.event_id: row.item_id for row in found}
    assert (user["before"], user["at"], user["after"], item["never"]) == (12, 12, 12, 11)
    assert user["never"] in (2, 3)
    assert item["before"] == item["at"] in (5, 6)
    assert item["after"] == 13


def test_unknown_tokens_spread_over_the_unknown_rows_and_none_at_all_is_the_null_row(
    spark: SparkSession, known: DataFrame
) -> None:
    features = Features(out_of_vocabulary=2, fields=(*FEATURES.fields, CATEGORY))
    vocabulary = known.unionByName(reserve(surveyed(known), features))
    rows = labelled(
        spark,
        [
            *(Impression(str(n), at(3), f"new{n}", attributes={"category": f"c{n}"}) for n in range(40)),
            Impression("none", at(3)),
            Impression("lacks", at(3), attributes={"colour": "red"}),
        ],
    )
    found = rows_of(rows, vocabulary, features)
    assert len(found) == 42
    null = {row.event_id: row.category for row in found if row.event_id in ("none", "lacks")}
    assert null == {"none": 15, "lacks": 15}
    assert {row.category for row in found if row.event_id not in null} == {16, 17}
    assert {row.user_id for row in found} == {2, 3}


def rationed(**rules: int) -> Features:
    """The features with rules for the item's rows."""
    return replace(FEATURES, fields=(USER, replace(ITEM, **rules), COUNT))


def items(vocabulary: DataFrame) -> dict[str, dt.datetime]:
    rows = vocabulary.where("field = 'item_id' and kind = 'token'").collect()
    return {row.token: row.since.astimezone(dt.timezone.utc) for row in rows}


def test_a_token_that_must_be_frequent_gets_its_row_at_the_end_of_the_day_on_which_it_is(spark: SparkSession) -> None:
    days = {"rare": [0], "spread": [0, 5, 29], "frequent": [0, 1, 1, 2], "late": [1, 2, 2]}
    rows = [
        Impression(f"{item}{place}", at(day, place), item=item)
        for item, shown in days.items()
        for place, day in enumerate(shown)
    ]
    frame, features = labelled(spark, rows), replace(rationed(min_count=3), admission_days=28)
    reserved = reserve(surveyed(empty(spark)), features)
    once = admitted(reserved, frame, features)
    assert items(once) == {"frequent": at(2, 0), "late": at(3, 0)}
    known = reserved
    for day in range(3):
        until = f"ds <= '{date(day)}'"
        config = replace(load_config([], [FIRST_DAY]), features=features)
        new = admit(surveyed(known), frame.where(f"ds = '{date(day)}'"), counts(frame.where(until)), config)
        known = known.unionByName(new).localCheckpoint()
    assert items(known) == items(once)  # day by day, as at once


def test_a_full_field_admits_no_more(spark: SparkSession, known: DataFrame) -> None:
    rows = labelled(
        spark, [Impression(item, at(1, hour), item=item) for hour, item in enumerate(("one", "two", "three"))]
    )
    new = admitted(known, rows, rationed(max_tokens=4))  # two are known
    assert items(new).keys() == {"one", "two"}
    assert admitted(known.unionByName(new), rows, rationed(max_tokens=4)).where("field = 'item_id'").count() == 0


def test_a_token_of_two_fields_has_a_row_in_each(spark: SparkSession) -> None:
    rows = labelled(spark, [Impression("first", at(0), "both", "both"), Impression("then", at(1), "both", "both")])
    reserved = reserve(surveyed(empty(spark)), FEATURES)
    known = reserved.unionByName(admitted(reserved, rows)).localCheckpoint()
    tokens = {field: index for index, (field, kind, _) in content(known).items() if kind == "token"}
    *_, last = sorted(rows_of(rows, known, FEATURES), key=lambda row: str(row.event_id))
    assert {field: last[field] for field in ("user_id", "item_id")} == tokens
    assert encoded(rows, surveyed(known), counts(rows), FEATURES.ids, F.col("event_time"), "UTC").count() == 2


def test_a_full_field_keeps_no_token_of_another_out(spark: SparkSession, known: DataFrame) -> None:
    features = replace(FEATURES, fields=(replace(USER, max_tokens=3), ITEM, COUNT))  # two are known
    rows = labelled(spark, [Impression(name, at(1, hour), name, name) for hour, name in enumerate(("one", "two"))])
    new = admitted(known, rows, features).select("field", "token").collect()
    assert sorted(map(tuple, new)) == [("item_id", "one"), ("item_id", "two"), ("user_id", "one")]


def test_a_token_not_seen_for_days_is_unknown_until_the_day_after_it_returns(
    spark: SparkSession, known: DataFrame
) -> None:
    shown = [Impression(str(day), at(day, 22), "zoe", "cup") for day in (0, 1, 4, 5)]
    rows = labelled(spark, shown)
    found = encoded(rows, surveyed(known), counts(rows), rationed(evict_days=2).ids, F.col("event_time"), "UTC")
    item = {row.event_id: row.item_id for row in found.select("event_id", "index.*").collect()}
    assert item["0"] == item["1"] == item["5"] == 13
    assert item["4"] in (5, 6)
