"""What was known of an impression's user, item and other entities before it: counters and behaviours, joined to it.

Features are computed once per key and day of the impressions, not once per impression. The impressions are shuffled
once per entity, whatever the number of its features.
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

_CLICKER = "user_id"  # behaviours are the clicks of this entity


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
    """`frame`, which is the labelled rows with or without further columns, plus one column per counter and behaviour
    sequence.

    These cover the days before ds and, where `past.today` is set, what became known on ds before event_time.
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
    """The labelled rows (columns.when_known) with a struct `index` of the embedding's rows that behaviours hold.

    Tokens are encoded as of just after the click is known, when the clicked item is known too.
    """
    held = {feature.of for feature in config.features.behaviours}
    ids = [feature for feature in config.features.ids if feature.name in held]
    just_after = F.col("click_known_at") + F.expr("interval 1 microsecond")
    return encoded(rows, vocabulary, counts, ids, just_after, config.calendar.timezone)


def today(history: DataFrame, vocabulary: Vocabulary, counts: DataFrame, config: Config) -> Today | None:
    """What features read of the impressions' own days where features.freshness is event, else None. `history` holds
    labelled rows back to the first impression whose click may have become known on these days."""
    features = config.features
    if features.freshness == "daily":
        return None
    rows = when_known(narrowed(history, features), config.calendar.timezone, features.availability_minutes)
    return Today(rows, clicked(rows, vocabulary, counts, config))


def asked(labelled: DataFrame, entity: str, hot_rows: int) -> DataFrame:
    """The distinct (key, ds) of the entity in the labelled rows, whose past is to be computed, and `salts`: the number
    of tasks that the rows of the key and day are spread over, so that none gets many more than hot_rows."""
    key = source_column(entity)
    salts = F.ceil(F.count(F.lit(1)) / hot_rows).cast("int").alias("salts")
    return labelled.where(key.isNotNull()).groupBy(key.alias("key"), "ds").agg(salts)


def with_known(frame: DataFrame, entity: str, asked: DataFrame, known: DataFrame) -> DataFrame:
    """The rows of the frame joined to what is known of their key on their day: the columns that `known` has beyond
    those of `asked`; null for a row without the entity.

    A row of a hot key is given one of its salts by a hash of its event, and `known` is repeated for each salt.
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
    """The entities whose past the features read, each once."""
    counted = [feature.entity for feature in features.counters]
    return list(dict.fromkeys([*([_CLICKER] if features.behaviours else []), *counted]))


def _known(asked: DataFrame, entity: str, past: Past, features: Features) -> DataFrame:
    counters = [feature for feature in features.counters if feature.entity == entity]
    known = with_counts(asked, past.counts, entity, counters) if counters else asked
    if entity == _CLICKER and features.behaviours:
        return with_clicks(known, past.clicks, features.behaviours)
    return known


def _with_today(frame: DataFrame, labelled: DataFrame, today: Today, features: Features) -> DataFrame:
    """Adds what became known on ds itself before event_time, joined by event_id."""
    joined = frame
    for entity in dict.fromkeys(feature.entity for feature in features.counters):
        own = [feature for feature in features.counters if feature.entity == entity]
        joined = joined.join(counts_so_far(labelled, today.rows, entity, own), "event_id", how="left")  # unique in both
    if features.behaviours:
        joined = joined.join(clicks_so_far(labelled, today.clicked, features.behaviours), "event_id", how="left")
    return joined
