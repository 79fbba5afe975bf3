"""What was known before an impression is joined to it, however many impressions share it."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.past import asked, with_known
from ecdctr_spark.settings.features import Behaviours, Count, Rate
from tests.labelled import Impression, at, date, indexed, labelled, looking_back, made_up

FEATURES = (
    Count(kind="count", name="shown", entity="user_id", domain="natural", measure="impressions", days=2),
    Rate(kind="rate", name="rate", entity="item.category", domain="natural", days=7),
    Count(kind="count", name="clicks", entity="item_id", domain="ad", measure="clicks", days=1),
    Behaviours(kind="behaviours", name="recent", of="item_id", length=3),
)


def test_salted_equals_unsalted(spark: SparkSession) -> None:
    rows = labelled(spark, made_up(3))
    counts = daily_counts(when_known(rows, "UTC", 0), ["user_id", "item_id", "item.category"])

    def features(hot_rows: int) -> set[tuple[object, ...]]:
        found = looking_back(rows, FEATURES, counts, indexed(rows), hot_rows=hot_rows)
        rows_found = found.select("event_id", *(feature.name for feature in FEATURES)).collect()
        return {(*row[:-1], bytes(row.recent)) for row in rows_found}

    salted = features(2)
    assert salted == features(1_000_000) and len(salted) == rows.count()
    assert any(row[1] for row in salted) and any(any(row[4]) for row in salted)


def test_a_key_that_many_ask_for_is_spread_over_several_tasks_and_no_other_is(spark: SparkSession) -> None:
    hot = [Impression(f"hot{n}", at(1), item="hot") for n in range(40)]
    rows = labelled(spark, [*hot, Impression("cold", at(1)), Impression("another day", at(2), item="hot")])
    who = asked(rows, "item_id", 10)
    assert {(row.key, row.ds, row.salts) for row in who.collect()} == {
        ("hot", date(1), 4),
        ("hot", date(2), 1),
        ("i", date(1), 1),
    }
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        known = with_known(rows, "item_id", who, who.withColumn("found", F.concat("key", F.lit("!"))))
        found = known.select("event_id", "found", F.spark_partition_id().alias("task")).collect()
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert len(found) == 42 and all(row.found in ("hot!", "i!") for row in found)
    assert len({row.task for row in found if row.event_id.startswith("hot")}) > 1
