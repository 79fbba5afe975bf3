"""What was known of an impression's user, item and other entities before it: counters and behaviours, joined to it.

What the features say is computed for each key and day that is asked for, not for each impression, and the impressions
are shuffled once for each entity, whatever the number of its features.
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.features.behaviours import behaviours, clicks_so_far, with_clicks
from ecdctr_spark.features.columns import narrowed, source_column, when_known
from ecdctr_spark.features.counters import counter, counts_so_far, with_counts
from ecdctr_spark.features.vocabulary import Vocabulary, encoded
from ecdctr_spark.settings.features import Features

_CLICKER = "user_id"  # the entity whose clicks behaviours are


class Today(NamedTuple):
    """What happened on the impressions' own days."""

    rows: DataFrame  # labelled rows (columns.when_known)
    clicked: DataFrame  # the same with `index` (past.clicked)


class Past(NamedTuple):
    """What the features look back on; `today` where features.freshness is event."""

    counts: DataFrame  # DAILY_COUNTS
    clicks: DataFrame  # DAILY_CLICKS
    today: Today | None


def with_past(frame: DataFrame, labelled: DataFrame, past: Past, features: Features) -> DataFrame:
    """`frame`, which is the labelled rows with or without further columns, and a column for each counter and behaviour
    sequence.

    They know the days before ds and, where the past has a today, what was known on ds before event_time.
    """
    joined = frame
    for entity in _entities(features):
        who = asked(labelled, entity, features.hot_rows)
        joined = with_known(joined, entity, who, _known(who, entity, past, features))
    if past.today:
        joined = _with_today(joined, labelled, past.today, features)
    counters = (counter(feature, joined.columns).alias(feature.name) for feature in features.counters)
    sequences = (behaviours(feature, joined.columns).alias(feature.name) for feature in features.behaviours)
    return joined.select(*frame.columns, *counters, *sequences)


def clicked(rows: DataFrame, vocabulary: Vocabulary, counts: DataFrame, config: Config) -> DataFrame:
    """The labelled rows (columns.when_known) with the rows of the embedding that behaviours hold, in `index`.

    A click is read after it is known, and what it was on is known by then.
    """
    held = {feature.of for feature in config.features.behaviours}
    ids = [feature for feature in config.features.ids if feature.name in held]
    just_after = F.col("click_known_at") + F.expr("interval 1 microsecond")
    return encoded(rows, vocabulary, counts, ids, just_after, config.calendar.timezone)


def today(history: DataFrame, vocabulary: Vocabulary, counts: DataFrame, config: Config) -> Today | None:
    """What features look at of the impressions' own days, where features.freshness is event: of labelled rows that
    reach back to the first impression that may have been clicked then."""
    features = config.features
    if features.freshness == "daily":
        return None
    rows = when_known(narrowed(history, features), config.calendar.timezone, features.availability_minutes)
    return Today(rows, clicked(rows, vocabulary, counts, config))


def asked(labelled: DataFrame, entity: str, hot_rows: int) -> DataFrame:
    """The keys of the entity and the days whose past the labelled rows ask for: key, ds, and `salts`, the number of
    tasks that rows of the key and day are spread over, so that none gets many more than hot_rows of them."""
    key = source_column(entity)
    salts = F.ceil(F.count(F.lit(1)) / hot_rows).cast("int").alias("salts")
    return labelled.where(key.isNotNull()).groupBy(key.alias("key"), "ds").agg(salts)


def with_known(frame: DataFrame, entity: str, asked: DataFrame, known: DataFrame) -> DataFrame:
    """The rows of the frame with what is known of their key on their day: the columns that `known`, the asked rows with
    more columns, has more; null for a row without the entity.

    A row of a hot key draws one of its salts by a hash of its event, and what is known is repeated for each.
    """
    key = source_column(entity)
    hot = asked.where("salts > 1").select(F.col("key").alias("_key"), F.col("ds").alias("_ds"), "salts")
    is_hot = (key == F.col("_key")) & (F.col("ds") == F.col("_ds"))
    drawn = F.pmod(F.xxhash64("event_id"), F.coalesce("salts", F.lit(1))).cast("int")
    salted = frame.join(F.broadcast(hot), is_hot, how="left").select(*frame.columns, drawn.alias("_drawn"))
    found = [column for column in known.columns if column not in asked.columns]
    salt = F.explode(F.sequence(F.lit(0), F.col("salts") - 1)).alias("_salt")
    spread = known.select(F.col("key").alias("_key"), F.col("ds").alias("_ds"), salt, *found)
    same = (key == F.col("_key")) & (F.col("ds") == F.col("_ds")) & (F.col("_drawn") == F.col("_salt"))
    return salted.join(spread, same, how="left").select(*frame.columns, *found)  # (_key, _ds, _salt) is unique


def _entities(features: Features) -> list[str]:
    """Whatever is looked back on, each once."""
    counted = [feature.entity for feature in features.counters]
    return list(dict.fromkeys([*([_CLICKER] if features.behaviours else []), *counted]))


def _known(asked: DataFrame, entity: str, past: Past, features: Features) -> DataFrame:
    counters = [feature for feature in features.counters if feature.entity == entity]
    known = with_counts(asked, past.counts, entity, counters) if counters else asked
    if entity == _CLICKER and features.behaviours:
        return with_clicks(known, past.clicks, features.behaviours)
    return known


def _with_today(frame: DataFrame, labelled: DataFrame, today: Today, features: Features) -> DataFrame:
    """What was known on ds itself before event_time, by event: one more shuffle of the impressions for all of it."""
    joined = frame
    for entity in dict.fromkeys(feature.entity for feature in features.counters):
        own = [feature for feature in features.counters if feature.entity == entity]
        joined = joined.join(counts_so_far(labelled, today.rows, entity, own), "event_id", how="left")  # unique in both
    if features.behaviours:
        joined = joined.join(clicks_so_far(labelled, today.clicked, features.behaviours), "event_id", how="left")
    return joined
