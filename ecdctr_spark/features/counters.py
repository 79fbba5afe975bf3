"""How often an entity was shown and clicked: a row a day, and windows over the days up to yesterday.

The state grows by one day a day, and a window of any length costs one pass over an entity's days.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.config import Count, Domain, Rate
from ecdctr_spark.features.columns import source_column


class _Amount(NamedTuple):
    """What is counted in one domain: impressions or clicks."""

    domain: Domain
    measure: str

    @property
    def column(self) -> Column:
        return F.when(F.col("domain") == self.domain, F.col(self.measure))

    def name(self, when: int | str) -> str:
        return f"_{self.domain}_{self.measure}_{when}"


def daily_counts(known: DataFrame, entities: Sequence[str]) -> DataFrame:
    """Impressions and clicks of each entity, domain and day on which they were known: the columns of DAILY_COUNTS.

    `known` holds labelled rows (columns.when_known). An impression counts on its own day, its click on the click's. A
    row without the entity (no category, say) counts for none.
    """
    return (
        _events(known, entities)
        .groupBy("entity", "key", "domain", "ds")
        .agg(F.sum("impressions").alias("impressions"), F.sum("clicks").alias("clicks"))
        .select("entity", "key", "domain", "impressions", "clicks", "ds")
    )


def with_counters(
    labelled: DataFrame, counts: DataFrame, features: Sequence[Count | Rate], today: DataFrame | None = None
) -> DataFrame:
    """The labelled rows with a column a feature, over the days ds - days .. ds - 1 of `counts` (DAILY_COUNTS) and,
    where `today` is given (labelled rows, columns.when_known), over what was known on ds itself before event_time.

    A count is a bigint; a rate is a float, (clicks + prior * strength) / (impressions + strength). An entity that was
    not seen then, or that the row lacks, counts zero.
    """
    frame = labelled
    for entity in dict.fromkeys(feature.entity for feature in features):
        own = [feature for feature in features if feature.entity == entity]
        same = (source_column(entity) == F.col("_key")) & (F.col("ds") == F.col("_ds"))
        days = _over_days(labelled, counts, entity, own)
        counted = frame.join(days, same, how="left")  # (_key, _ds) is unique in days
        if today is not None:
            counted = counted.join(_so_far(labelled, today, entity, own), "event_id", how="left")  # unique in both
        values = (_value(feature, counted.columns).alias(feature.name) for feature in own)
        frame = counted.select(*frame.columns, *values)
    return frame.select(*labelled.columns, *(feature.name for feature in features))


def _events(known: DataFrame, entities: Sequence[str]) -> DataFrame:
    """Each impression and each click of each entity: entity, key, domain, ds and moment `at` of being known, and what
    it adds to impressions and clicks."""
    shown = _event("known", impressions=1, clicks=0)
    clicked = _event("click_known", impressions=0, clicks=1)
    keys = [F.struct(F.lit(entity).alias("entity"), source_column(entity).alias("key")) for entity in entities]
    events = known.select(
        "domain",
        F.array(*keys).cast("array<struct<entity:string,key:string>>").alias("keys"),  # typed where it is empty
        F.explode(F.when(F.col("label") == 1, F.array(shown, clicked)).otherwise(F.array(shown))).alias("event"),
    )
    return events.select("domain", "event.*", F.inline("keys")).where("key is not null")


def _event(prefix: str, impressions: int, clicks: int) -> Column:
    when = (F.col(f"{prefix}_day").alias("ds"), F.col(f"{prefix}_at").alias("at"))
    return F.struct(*when, F.lit(impressions).alias("impressions"), F.lit(clicks).alias("clicks"))


def _over_days(labelled: DataFrame, counts: DataFrame, entity: str, features: Sequence[Count | Rate]) -> DataFrame:
    """A row for each (entity's key, ds) that the labelled rows ask for: _key, _ds and each amount that the features
    need, over the last so many days before."""
    key = source_column(entity)
    asked = labelled.where(key.isNotNull()).select(key.alias("_key"), F.col("ds").alias("_ds")).distinct()
    days = counts.where(F.col("entity") == entity).select(
        F.col("key").alias("_key"), F.col("ds").alias("_ds"), "domain", "impressions", "clicks"
    )
    both = days.unionByName(asked.withColumn("asked", F.lit(True)), allowMissingColumns=True)
    windows = dict.fromkeys((amount, feature.days) for feature in features for amount in _amounts(feature))
    sums = (_sum(amount, days).alias(amount.name(days)) for amount, days in windows)
    return both.select("_key", "_ds", "asked", *sums).where("asked").drop("asked")


def _sum(amount: _Amount, days: int) -> Column:
    """The amount over the last `days` days before each row's own: all before it less all before those.

    Running sums cost a step a row, where a sliding frame would be summed afresh for each row.
    """
    by_day = Window.partitionBy("_key").orderBy(F.unix_date("_ds"))

    def before(first_left_out: int) -> Column:
        until = by_day.rangeBetween(Window.unboundedPreceding, -first_left_out - 1)
        return F.coalesce(F.sum(amount.column).over(until), F.lit(0))

    return before(0) - before(days)


def _so_far(labelled: DataFrame, today: DataFrame, entity: str, features: Sequence[Count | Rate]) -> DataFrame:
    """A row for each labelled row that has the entity: event_id, and each amount known on its day before it."""
    key = source_column(entity)
    asked = labelled.where(key.isNotNull()).select("event_id", key.alias("key"), "ds", F.col("event_time").alias("at"))
    both = _events(today, [entity]).drop("entity").unionByName(asked, allowMissingColumns=True)
    by_moment = Window.partitionBy("key", "ds").orderBy(F.unix_micros("at"))
    before = by_moment.rangeBetween(Window.unboundedPreceding, -1)
    amounts = dict.fromkeys(amount for feature in features for amount in _amounts(feature))
    sums = (F.sum(amount.column).over(before).alias(amount.name("today")) for amount in amounts)
    return both.select("event_id", *sums).where("event_id is not null")


def _amounts(feature: Count | Rate) -> list[_Amount]:
    measures = ("clicks", "impressions") if isinstance(feature, Rate) else (feature.measure,)
    return [_Amount(feature.domain, measure) for measure in measures]


def _value(feature: Count | Rate, counted: Iterable[str]) -> Column:
    parts = [
        [amount.name(when) for when in (feature.days, "today") if amount.name(when) in counted]
        for amount in _amounts(feature)
    ]
    amounts = [sum((F.coalesce(name, F.lit(0)) for name in names), start=F.lit(0)) for names in parts]
    if isinstance(feature, Rate):
        clicks, impressions = amounts
        return ((clicks + feature.prior * feature.strength) / (impressions + feature.strength)).cast("float")
    return amounts[0].cast("bigint")
