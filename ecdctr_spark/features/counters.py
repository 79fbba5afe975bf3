"""How often an entity was shown and clicked: a row a day, and windows over the days up to yesterday.

The state grows by one day a day, and a window of any length costs one pass over an entity's days.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.config import Count, Domain, Rate
from ecdctr_spark.features.columns import day_of, source_column


def daily_counts(labelled: DataFrame, entities: Sequence[str], timezone: str) -> DataFrame:
    """Impressions and clicks of each entity, domain and day: the columns of DAILY_COUNTS.

    An impression counts on its own day, its click on the day of the click in `timezone`. A row without the entity
    (no category, say) counts for none.
    """
    shown = _event(F.col("ds"), impressions=1, clicks=0)
    clicked = _event(day_of("click_time", timezone), impressions=0, clicks=1)
    keys = [F.struct(F.lit(entity).alias("entity"), source_column(entity).alias("key")) for entity in entities]
    events = labelled.select(
        "domain",
        F.array(*keys).cast("array<struct<entity:string,key:string>>").alias("keys"),  # typed where it is empty
        F.explode(F.when(F.col("label") == 1, F.array(shown, clicked)).otherwise(F.array(shown))).alias("event"),
    )
    counted = events.select("domain", "event.*", F.explode("keys").alias("of")).where("of.key is not null")
    return (
        counted.groupBy("of.entity", "of.key", "domain", "ds")
        .agg(F.sum("impressions").alias("impressions"), F.sum("clicks").alias("clicks"))
        .select("entity", "key", "domain", "impressions", "clicks", "ds")
    )


def with_counters(labelled: DataFrame, counts: DataFrame, features: Sequence[Count | Rate]) -> DataFrame:
    """The labelled rows with a column a feature, over the days ds - days .. ds - 1 of `counts` (DAILY_COUNTS).

    A count is a bigint; a rate is a float, (clicks + prior * strength) / (impressions + strength). An entity that was
    not seen then, or that the row lacks, counts zero.
    """
    entities = dict.fromkeys(feature.entity for feature in features)
    frame = labelled
    for entity in entities:
        own = [feature for feature in features if feature.entity == entity]
        days = _counted(labelled, counts, entity, own)
        same = (source_column(entity) == F.col("_key")) & (F.col("ds") == F.col("_ds"))
        frame = frame.join(days, same, how="left").drop("_key", "_ds")  # (_key, _ds) is unique in days
    unseen = [F.coalesce(feature.name, _value(feature, F.lit(0), F.lit(0))).alias(feature.name) for feature in features]
    return frame.select(*labelled.columns, *unseen)


def _event(day: Column, impressions: int, clicks: int) -> Column:
    return F.struct(day.alias("ds"), F.lit(impressions).alias("impressions"), F.lit(clicks).alias("clicks"))


def _counted(labelled: DataFrame, counts: DataFrame, entity: str, features: Sequence[Count | Rate]) -> DataFrame:
    """A row for each (entity's key, ds) that the labelled rows ask for: _key, _ds and a column a feature."""
    key = source_column(entity)
    asked = labelled.where(key.isNotNull()).select(key.alias("_key"), F.col("ds").alias("_ds")).distinct()
    days = counts.where(F.col("entity") == entity).select(
        F.col("key").alias("_key"), F.col("ds").alias("_ds"), "domain", "impressions", "clicks"
    )
    both = days.unionByName(asked.withColumn("asked", F.lit(True)), allowMissingColumns=True)
    windowed = both.select("_key", "_ds", "asked", *(_over_days(feature).alias(feature.name) for feature in features))
    return windowed.where("asked").drop("asked")


def _over_days(feature: Count | Rate) -> Column:
    impressions = _sum("impressions", feature.domain, feature.days)
    clicks = _sum("clicks", feature.domain, feature.days)
    return _value(feature, impressions, clicks)


def _sum(measure: str, domain: Domain, days: int) -> Column:
    """The measure's sum over the last `days` days before each row's own: all before it less all before those.

    Running sums cost a step a row, where a sliding frame would be summed afresh for each row.
    """
    amount = F.when(F.col("domain") == domain, F.col(measure))
    by_day = Window.partitionBy("_key").orderBy(F.unix_date("_ds"))

    def before(first_left_out: int) -> Column:
        until = by_day.rangeBetween(Window.unboundedPreceding, -first_left_out - 1)
        return F.coalesce(F.sum(amount).over(until), F.lit(0))

    return before(0) - before(days)


def _value(feature: Count | Rate, impressions: Column, clicks: Column) -> Column:
    if isinstance(feature, Rate):
        return ((clicks + feature.prior * feature.strength) / (impressions + feature.strength)).cast("float")
    return (clicks if feature.measure == "clicks" else impressions).cast("bigint")
