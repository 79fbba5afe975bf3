"""How often an entity was shown and clicked: counts by day, and windows over the days up to yesterday.

The state grows by one day per day, and a window of any length costs one pass over an entity's days.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import source_column
from ecdctr_spark.settings.features import Count, Domain, Rate


class _Amount(NamedTuple):
    """Impressions or clicks in one domain, over the last `days` days before a day."""

    domain: Domain
    measure: str
    days: int

    @property
    def column(self) -> Column:
        return F.when(F.col("domain") == self.domain, F.col(self.measure))

    @property
    def name(self) -> str:
        return f"_{self.domain}_{self.measure}_{self.days}"


def daily_counts(known: DataFrame, entities: Sequence[str]) -> DataFrame:
    """DAILY_COUNTS: impressions and clicks of each entity and domain by the day on which they became known.

    `known` holds labelled rows (columns.when_known). An impression counts on its own day, its click on the day of the
    click. A row without the entity (no category, say) is not counted for it.
    """
    return (
        _events(known, entities)
        .groupBy("entity", "key", "domain", "ds")
        .agg(F.sum("impressions").alias("impressions"), F.sum("clicks").alias("clicks"))
        .select("entity", "key", "domain", "impressions", "clicks", "ds")
    )


def with_counts(asked: DataFrame, counts: DataFrame, entity: str, features: Sequence[Count | Rate]) -> DataFrame:
    """The asked rows (past.asked of the entity) with each amount that the features need: the sum over the days
    ds - days .. ds - 1 of `counts` (DAILY_COUNTS), 0 where the key was not seen then."""
    days = counts.where(F.col("entity") == entity).select("key", "ds", "domain", "impressions", "clicks")
    both = days.unionByName(asked, allowMissingColumns=True)
    wanted = {_past_column(feature, amount): amount for feature in features for amount in _amounts(feature)}
    sums = (_sum(amount).alias(amount.name) for amount in dict.fromkeys(wanted.values()))
    summed = both.select(*asked.columns, *sums).where("salts is not null")
    return summed.select(*asked.columns, *(F.col(amount.name).alias(name) for name, amount in wanted.items()))


def counts_so_far(labelled: DataFrame, today: DataFrame, entity: str, features: Sequence[Count | Rate]) -> DataFrame:
    """One row per labelled row that has the entity: event_id, and each amount that became known on its day before it,
    from the rows of `today` (columns.when_known)."""
    key = source_column(entity)
    asked = labelled.where(key.isNotNull()).select("event_id", key.alias("key"), "ds", F.col("event_time").alias("at"))
    both = _events(today, [entity]).drop("entity").unionByName(asked, allowMissingColumns=True)
    by_moment = Window.partitionBy("key", "ds").orderBy(F.unix_micros("at"))
    before = by_moment.rangeBetween(Window.unboundedPreceding, -1)
    wanted = {_today_column(feature, amount): amount for feature in features for amount in _amounts(feature)}
    sums = (F.sum(amount.column).over(before).alias(name) for name, amount in wanted.items())
    return both.select("event_id", *sums).where("event_id is not null")


def counter(feature: Count | Rate, columns: Collection[str]) -> Column:
    """The feature, from the columns of with_counts and, where present, counts_so_far; null counts as 0.

    A count is a bigint; a rate is a float, (clicks + prior * strength) / (impressions + strength).
    """
    amounts = []
    for amount in _amounts(feature):
        names = (_past_column(feature, amount), _today_column(feature, amount))
        amounts.append(sum((F.coalesce(name, F.lit(0)) for name in names if name in columns), start=F.lit(0)))
    if isinstance(feature, Rate):
        clicks, impressions = amounts
        return ((clicks + feature.prior * feature.strength) / (impressions + feature.strength)).cast("float")
    return amounts[0].cast("bigint")


def _events(known: DataFrame, entities: Sequence[str]) -> DataFrame:
    """One row per impression or click and entity: entity, key, domain, the day ds and moment `at` at which it became
    known, and what it adds to impressions and clicks."""
    shown = _event("known", impressions=1, clicks=0)
    clicked = _event("click_known", impressions=0, clicks=1)
    keys = [F.struct(F.lit(entity).alias("entity"), source_column(entity).alias("key")) for entity in entities]
    events = known.select(
        "domain",
        F.array(*keys).cast("array<struct<entity:string,key:string>>").alias("keys"),  # gives an empty array its type
        F.explode(F.when(F.col("label") == 1, F.array(shown, clicked)).otherwise(F.array(shown))).alias("event"),
    )
    return events.select("domain", "event.*", F.inline("keys")).where("key is not null")


def _event(prefix: str, impressions: int, clicks: int) -> Column:
    when = (F.col(f"{prefix}_day").alias("ds"), F.col(f"{prefix}_at").alias("at"))
    return F.struct(*when, F.lit(impressions).alias("impressions"), F.lit(clicks).alias("clicks"))


def _sum(amount: _Amount) -> Column:
    """The amount over its `days` days before each row's own: all before the row less all before the window.

    A running sum costs one addition per row; a sliding frame is summed again for each row.
    """
    by_day = Window.partitionBy("key").orderBy(F.unix_date("ds"))

    def before(first_left_out: int) -> Column:
        until = by_day.rangeBetween(Window.unboundedPreceding, -first_left_out - 1)
        return F.coalesce(F.sum(amount.column).over(until), F.lit(0))

    return before(0) - before(amount.days)


def _amounts(feature: Count | Rate) -> list[_Amount]:
    measures = ("clicks", "impressions") if isinstance(feature, Rate) else (feature.measure,)
    return [_Amount(feature.domain, measure, feature.days) for measure in measures]


def _past_column(feature: Count | Rate, amount: _Amount) -> str:
    return f"_{feature.name}_{amount.measure}_before"


def _today_column(feature: Count | Rate, amount: _Amount) -> str:
    return f"_{feature.name}_{amount.measure}_today"
