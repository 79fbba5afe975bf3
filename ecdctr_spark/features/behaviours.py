"""A user's last natural clicks before an impression, packed for the samples.

The state is one row per user and day with clicks. A sequence is computed from running values over these rows, at a cost
that depends neither on its days nor on the number of impressions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from ecdctr_spark.contract import PADDING
from ecdctr_spark.settings.features import Behaviours

_BYTES = 4  # of an int32
_DIGITS = 2 * _BYTES  # hexadecimal


def daily_clicks(clicked: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """DAILY_CLICKS: the newest natural clicks of each user that became known on each day.

    `clicked` holds labelled rows (past.clicked). Clicks are in the order of click_time, then event_id. A day keeps at
    most as many as the longest sequence takes, so a user with a thousand clicks per day costs no more.
    """
    newest = Window.partitionBy("user_id", "ds").orderBy(F.desc("click.click_time"), F.desc("click.event_id"))
    placed = _clicks(clicked, features).withColumn("place", F.row_number().over(newest))
    days = (
        placed.where(F.col("place") <= _longest(features))
        .groupBy("user_id", "ds")
        .agg(F.sort_array(F.collect_list("click")).alias("clicks"))
    )
    rows = ((F.lit(name), F.unhex(F.array_join(F.col("clicks")[name], ""))) for name in _held(features))
    packed = F.create_map(*(part for pair in rows for part in pair)).cast("map<string,binary>")
    return days.select("user_id", F.size("clicks").alias("clicks"), packed.alias("rows"), "ds")


def with_clicks(asked: DataFrame, clicks: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """The asked rows (past.asked of user_id) with one binary column per feature: `length` big-endian int32, padded at
    the front, the newest last, from the days ds - days .. ds - 1 of `clicks` (DAILY_CLICKS)."""
    both = _states(clicks, features).unionByName(asked, allowMissingColumns=True)
    by_day = Window.partitionBy("key").orderBy(F.unix_date("ds"))

    def before(days: int) -> WindowSpec:
        return by_day.rangeBetween(Window.unboundedPreceding, -days - 1)

    states = (F.last(_state(name), ignorenulls=True).over(before(0)).alias(_state(name)) for name in _held(features))
    seen = {days: F.coalesce(F.sum("clicks").over(before(days)), F.lit(0)) for days in {0, *_days(features)}}
    lately = ((seen[0] - seen[days]).alias(_lately(days)) for days in _days(features))
    past = both.select(*asked.columns, *states, *lately).where("salts is not null")
    return past.select(*asked.columns, *(_packed(feature).alias(feature.name) for feature in features))


def clicks_so_far(labelled: DataFrame, clicked: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """One row per labelled row: event_id, and `so_far`, a struct with one text per feature of the newest clicks that
    became known on its day before it; null where there is none. `clicked` is as in daily_clicks."""
    newest = Window.partitionBy("user_id", "ds").orderBy("click.click_time", "click.event_id")
    held = F.collect_list("click").over(newest.rowsBetween(1 - _longest(features), 0)).alias("clicks")
    lists = _clicks(clicked, features).select("*", held)
    texts = F.struct("click.click_time", "click.event_id", *(_text(f, F.col("clicks")).alias(f.name) for f in features))
    asked = labelled.select("event_id", "user_id", "ds", F.col("event_time").alias("at"))
    both = lists.select("user_id", "ds", "at", texts.alias("texts")).unionByName(asked, allowMissingColumns=True)
    by_moment = Window.partitionBy("user_id", "ds").orderBy(F.unix_micros("at"))
    before = by_moment.rangeBetween(Window.unboundedPreceding, -1)
    so_far = both.select("event_id", F.max("texts").over(before).alias("so_far"))  # the newest click's
    return so_far.where("event_id is not null")


def behaviours(feature: Behaviours, columns: Collection[str]) -> Column:
    """The feature, from the column of with_clicks and, where present, that of clicks_so_far: the clicks so far are
    appended and push the oldest out."""
    if "so_far" not in columns:
        return F.col(feature.name)
    longer = F.concat(feature.name, F.unhex(F.coalesce(F.col("so_far")[feature.name], F.lit(""))))
    return F.substring(longer, -_BYTES * feature.length, _BYTES * feature.length)


def _clicks(clicked: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """Natural clicks: user_id, the day ds and moment `at` from which they are known, and `click`, which orders them."""
    rows = (F.lpad(F.hex(F.col("index")[name]), _DIGITS, "0").alias(name) for name in _held(features))
    return clicked.where((F.col("domain") == "natural") & (F.col("label") == 1)).select(
        "user_id",
        F.col("click_known_day").alias("ds"),
        F.col("click_known_at").alias("at"),
        F.struct("click_time", "event_id", *rows).alias("click"),
    )


def _states(clicks: DataFrame, features: Sequence[Behaviours]) -> DataFrame:
    """The state of each user at the end of each day with clicks: key, ds, the number of clicks of that day, and for
    each id feature the rows of the newest clicks as a text."""
    longest = _longest(features)
    days = Window.partitionBy("user_id").orderBy("ds").rowsBetween(1 - longest, 0)  # each of these days has a click

    def newest(name: str) -> Column:
        text = F.array_join(F.collect_list(F.hex(F.col("rows")[name])).over(days), "")
        return F.right(text, F.lit(_DIGITS * longest)).alias(_state(name))

    texts = (newest(name) for name in _held(features))
    return clicks.select(F.col("user_id").alias("key"), "ds", "clicks", *texts)


def _packed(feature: Behaviours) -> Column:
    live = F.least(F.coalesce(_lately(feature.days), F.lit(0)), F.lit(feature.length)).cast("int")
    text = F.right(F.coalesce(_state(feature.of), F.lit("")), _DIGITS * live)
    return F.unhex(F.lpad(text, _DIGITS * feature.length, _PAD))


def _text(feature: Behaviours, clicks: Column) -> Column:
    """The newest clicks of an array, in hexadecimal."""
    first = F.greatest(F.size(clicks) - feature.length + 1, F.lit(1))
    return F.array_join(F.slice(clicks[feature.of], first, F.lit(feature.length)), "")


def _longest(features: Sequence[Behaviours]) -> int:
    return max((feature.length for feature in features), default=0)


def _held(features: Sequence[Behaviours]) -> list[str]:
    """The id features whose rows the sequences hold, each once."""
    return list(dict.fromkeys(feature.of for feature in features))


def _days(features: Sequence[Behaviours]) -> list[int]:
    return list(dict.fromkeys(feature.days for feature in features))


def _state(name: str) -> str:
    return f"_rows_{name}"


def _lately(days: int) -> str:
    return f"_clicks_{days}"


_PAD = f"{PADDING:0{_DIGITS}x}"
