"""A synthetic platform of any size, whose click probabilities are known.

Event number n, user k and item k are each a pure function of (seed, number). So the platform does not depend on the
partitioning, can be made in parts, and needs no memory on the driver. What is drawn:

- user and item: heavy-tailed activity and popularity (the density of the k-th falls as a power of k), and a share of
  the traffic that goes to the newest users and items, of which each day adds more;
- the click: logit = base(domain) + quality(item) + taste . item + this week's interests + this season's interests
  - position bias + time of day, where taste is a vector that turns slowly and the interests of a season return;
- an ad: a promoted item, judged by a taste that correlates with natural taste by `correlation`;
- the log: late clicks, some beyond any attribution window; duplicate rows; malformed rows.

The true probabilities go to the `oracle` table, which no step of the pipeline reads.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import Synthetic
from ecdctr_spark.sources.raw import FRAMES, Raw
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import ORACLE
from ecdctr_spark.tables.store import Store

_TASTES = 4  # dimensions of taste
_POSITIONS = 10
_RECENT_DAYS = 14  # days for which a user or item is among the newest
_SEASONS = 4  # seasons after which the interests of a season return
_INTERESTED = 0.2  # the share of categories in a week's or season's interests
_HOURLY = 0.2  # by how much the logit at eight in the evening exceeds the average
_EVENTS_PER_FILE = 500_000


def read(spark: SparkSession, config: Config) -> Raw:
    """Raw logs by the raw contract, written once under storage.root, with the table ORACLE. Raises ConfigError without
    settings."""
    if config.synthetic is None:
        raise ConfigError("source.kind is synthetic, but there are no settings under synthetic: add --conf synthetic")
    root = Root.parse(config.storage.root)
    folder = root.at("raw", "synthetic", config.logs_id)
    whole = folder.at("whole")
    if not whole.exists():
        events = numbered_events(spark, config.synthetic, 0, config.synthetic.events)
        write(raw(spark, config.synthetic, config.calendar.first_day, events), folder)
        Store(Session.of(spark), root, config.logs_id).replace(ORACLE, oracle(events, config.synthetic), "true")
        whole.write_bytes(b"")  # last: what was interrupted before is written again
    impressions, clicks, users, items = (spark.read.parquet(folder.at(name).addresses.spark) for name in FRAMES)
    return Raw(impressions, clicks, users, items)


def write(frames: Raw, folder: Root) -> None:
    """Raw logs as the Parquet folders impressions, clicks, users and items, which `source.kind: files` reads."""
    for name in FRAMES:
        if (frame := getattr(frames, name)) is not None:
            frame.write.mode("overwrite").parquet(folder.at(name).addresses.spark)


def numbered_events(spark: SparkSession, platform: Synthetic, first: int, last: int) -> DataFrame:
    """The events first .. last - 1 as a column `n`, in partitions of a few hundred thousand."""
    if not 0 <= first <= last <= platform.events:
        raise ValueError(f"events {first}..{last}: the platform has {platform.events} events")
    return spark.range(first, last, 1, max(1, math.ceil((last - first) / _EVENTS_PER_FILE))).withColumnRenamed(
        "id", "n"
    )


def raw(spark: SparkSession, platform: Synthetic, first_day: dt.date, events: DataFrame) -> Raw:
    """The raw frames of the events `n`, and of all users and items of the platform's days."""
    happened = _clicked(with_probability(drawn(events, platform), platform), platform)
    return Raw(
        impressions=_impressions(happened, platform, first_day),
        clicks=_clicks(happened, first_day),
        users=_users(spark, platform, first_day),
        items=_items(spark, platform, first_day),
    )


def oracle(events: DataFrame, platform: Synthetic) -> DataFrame:
    """ORACLE's columns: the true click probability of the events `n`, and whether they were clicked."""
    happened = _clicked(with_probability(drawn(events, platform), platform), platform)
    return happened.select(_event_id(), "domain", "probability", "clicked")


def drawn(events: DataFrame, platform: Synthetic) -> DataFrame:
    """One row per event: n, day, second (of the day), domain, user, item, position."""
    numbered = events.select("n", F.expr(f"n div {platform.impressions_per_day}").alias("day"))
    kind = F.when(_uniform(platform, "domain", "n") < platform.ad_share, "ad").otherwise("natural")
    return numbered.select(
        "n",
        "day",
        _second(_uniform(platform, "second", "n")).alias("second"),
        kind.alias("domain"),
        _met(platform, "user", platform.users, platform.activity).alias("user"),
        _met(platform, "item", platform.items, platform.popularity).alias("item"),
        F.floor(_uniform(platform, "position", "n") * _POSITIONS).alias("position"),
    )


def _met(platform: Synthetic, entity: str, first: int, power: float) -> Column:
    """The number of the user or item of event n: for a share of the events one of the newest, else any that exists."""
    there = F.floor(first * (1 + platform.births * F.col("day")))
    newest = F.greatest(F.lit(1), F.floor(there * min(1.0, platform.births * _RECENT_DAYS)))
    place = _uniform(platform, f"which {entity}", "n")
    new = there - 1 - F.floor(newest * place)
    known = F.floor(there * F.pow(place, F.lit(power)))
    return F.when(_uniform(platform, f"new {entity}", "n") < platform.newest_share, new).otherwise(known).cast("bigint")


def _second(uniform: Column) -> Column:
    """A second of the day: traffic peaks at half past six in the evening and is lowest twelve hours before."""
    phase, depth = -1.0, 0.8
    warped = uniform + depth / (2 * math.pi) * (F.sin(2 * math.pi * uniform + phase) - math.sin(phase))
    return F.floor(warped * 86400).cast("int")


def with_probability(met: DataFrame, platform: Synthetic) -> DataFrame:
    """The drawn events with the true `probability` of a click."""
    ad = F.col("domain") == "ad"
    # A separate column: inlined at each use, the code that Spark generates would outgrow a Java method.
    seen = met.withColumn("category", _category_of(platform, F.col("item")))
    hour = F.col("second") / 3600
    moods = (
        platform.weekly * _interested(platform, "week", F.expr("day div 7"))
        + platform.seasonal * _interested(platform, "season", F.expr(f"day div {platform.season_days} % {_SEASONS}"))
        - platform.position_bias * F.col("position") / (_POSITIONS - 1)
        + _HOURLY * F.sin((hour - 14) * math.pi / 12)
    )
    base = F.when(ad, platform.ad_base).otherwise(platform.natural_base)
    # What both domains share is scaled by the correlation: at zero, natural content says nothing about ads.
    alike = F.when(ad, platform.correlation).otherwise(1.0)
    own = F.when(ad, math.sqrt(1 - platform.correlation**2)).otherwise(0.0)
    quality = alike * _normal(platform, "quality", "item") + own * _normal(platform, "ad quality", "item")
    logit = base + platform.quality * quality + platform.taste * _affinity(platform, ad) + alike * moods
    return seen.withColumn("probability", 1 / (1 + F.exp(-logit)))


def _affinity(platform: Synthetic, ad: Column) -> Column:
    """Taste times item, of unit variance. For ads, user and item each share the root of the correlation."""
    turn = F.col("day") * (math.pi / 2 / platform.drift_days)
    kept = F.when(ad, math.sqrt(platform.correlation)).otherwise(1.0)
    own = F.when(ad, math.sqrt(1 - platform.correlation)).otherwise(0.0)
    total = F.lit(0.0)
    for taste in range(_TASTES):
        early, late = _normal(platform, f"taste {taste}", "user"), _normal(platform, f"later taste {taste}", "user")
        user = kept * (F.cos(turn) * early + F.sin(turn) * late) + own * _normal(platform, f"ad taste {taste}", "user")
        item = kept * _item_trait(platform, taste) + own * _normal(platform, f"ad trait {taste}", "item")
        total = total + user * item
    return total / math.sqrt(_TASTES)


def _item_trait(platform: Synthetic, taste: int) -> Column:
    """One dimension of an item's vector: mostly its category's."""
    return 0.8 * _normal(platform, f"category trait {taste}", "category") + 0.6 * _normal(
        platform, f"trait {taste}", "item"
    )


def _category_of(platform: Synthetic, item: Column) -> Column:
    """The number of an item's category."""
    return F.floor(_uniform_of(platform, "category", item) * platform.categories)


def _interested(platform: Synthetic, period: str, number: Column) -> Column:
    """1 where the category is among the user's interests of a week or season, else 0."""
    return (_uniform_of(platform, period, F.col("user"), number, F.col("category")) < _INTERESTED).cast("double")


def _clicked(happened: DataFrame, platform: Synthetic) -> DataFrame:
    """`clicked`, and `delay` in seconds: a minute or two, or up to two days for the late ones."""
    waiting = -F.log(1 - _uniform(platform, "delay", "n"))
    late = _uniform(platform, "late", "n") < platform.late_clicks
    delay = F.when(late, 3600 + 86400 * 2 * _uniform(platform, "lateness", "n")).otherwise(90 * waiting)
    clicked = _uniform(platform, "click", "n") < F.col("probability")
    return happened.select("*", clicked.alias("clicked"), F.floor(delay).alias("delay"))


def _impressions(happened: DataFrame, platform: Synthetic, first_day: dt.date) -> DataFrame:
    """Raw impressions. A malformed one lacks its user, or its domain or time is unusable; a duplicate comes twice."""
    luck = _uniform(platform, "malformed", "n") / max(platform.malformed, 1e-12)
    twice = _uniform(platform, "duplicate", "n") < platform.duplicates
    rows = happened.withColumn(
        "copy", F.explode(F.when(twice, F.array(F.lit(0), F.lit(1))).otherwise(F.array(F.lit(0))))
    )
    return rows.select(
        _event_id(),
        F.when(luck < 1 / 3, F.lit(None)).otherwise(_moment(first_day, F.lit(0))).alias("event_time"),
        F.when((luck >= 1 / 3) & (luck < 2 / 3), "banner").otherwise(F.col("domain")).alias("domain"),
        F.when((luck >= 2 / 3) & (luck < 1), F.lit(None)).otherwise(_named("u", F.col("user"))).alias("user_id"),
        _named("i", F.col("item")).alias("item_id"),
        F.col("position").cast("string").alias("position"),
        F.element_at(F.array(*map(F.lit, ("phone", "phone", "tablet", "desktop"))), _of_four(platform)).alias("device"),
    )


def _clicks(happened: DataFrame, first_day: dt.date) -> DataFrame:
    clicked = happened.where("clicked")
    return clicked.select(_event_id(), _moment(first_day, F.col("delay")).alias("click_time"))


def _users(spark: SparkSession, platform: Synthetic, first_day: dt.date) -> DataFrame:
    """One row per user, valid from the user's first day; a tenth of them change their region halfway."""
    users = spark.range(_ever(platform, platform.users)).withColumnRenamed("id", "user")
    moves = _uniform(platform, "moves", "user") < 0.1
    changes = F.when(moves, F.array(F.lit(0), F.lit(1))).otherwise(F.array(F.lit(0)))
    born = _born(platform, platform.users, F.col("user"))
    rows = users.withColumn("change", F.explode(changes))
    moved = F.greatest(born, F.lit(platform.days // 2)) * F.col("change") + born * (1 - F.col("change"))
    return rows.select(
        _named("u", F.col("user")).alias("user_id"),
        _start_of(first_day, moved).alias("valid_from"),
        # The attribute depends on the user's taste, as a profile does.
        F.when(_normal(platform, "taste 0", "user") + _normal(platform, "age", "user") > 0, "old")
        .otherwise("young")
        .alias("age"),
        _named("r", F.floor(_uniform_of(platform, "region", F.col("user"), F.col("change")) * 20)).alias("region"),
    )


def _items(spark: SparkSession, platform: Synthetic, first_day: dt.date) -> DataFrame:
    items = spark.range(_ever(platform, platform.items)).withColumnRenamed("id", "item")
    return items.select(
        _named("i", F.col("item")).alias("item_id"),
        _start_of(first_day, _born(platform, platform.items, F.col("item"))).alias("valid_from"),
        _named("c", _category_of(platform, F.col("item"))).alias("category"),
        _named("a", F.floor(_uniform(platform, "advertiser", "item") * platform.advertisers)).alias("advertiser"),
    )


def _ever(platform: Synthetic, first: int) -> int:
    """The number of users or items at the end of the last day."""
    return math.floor(first * (1 + platform.births * platform.days))


def _born(platform: Synthetic, first: int, number: Column) -> Column:
    """The first day on which a user or item may occur: 0 for those that exist from the start."""
    if platform.births == 0:
        return F.lit(0)
    return F.greatest(F.lit(0), F.floor((number + 1 - first) / (first * platform.births))).cast("int")


def _event_id() -> Column:
    return _named("e", F.col("n")).alias("event_id")


def _named(prefix: str, number: Column) -> Column:
    return F.concat(F.lit(prefix), number.cast("string"))


def _moment(first_day: dt.date, later: Column) -> Column:
    epoch = (first_day - dt.date(1970, 1, 1)).days * 86400
    return F.timestamp_seconds(F.lit(epoch) + F.col("day") * 86400 + F.col("second") + later)


def _start_of(first_day: dt.date, day: Column) -> Column:
    return F.date_add(F.lit(first_day), day.cast("int")).cast("timestamp")


def _of_four(platform: Synthetic) -> Column:
    return F.floor(_uniform(platform, "device", "n") * 4).cast("int") + 1


def _uniform(platform: Synthetic, purpose: str, number: str) -> Column:
    """A number in [0, 1) that depends only on the seed, the purpose and the value of the column."""
    return _uniform_of(platform, purpose, F.col(number))


def _uniform_of(platform: Synthetic, purpose: str, *numbers: Column) -> Column:
    salt = int.from_bytes(hashlib.sha256(f"{platform.seed} {purpose}".encode()).digest()[:8], "big", signed=True)
    typed = [number.cast("bigint") for number in numbers]  # a hash of an int is not that of a bigint
    return F.shiftrightunsigned(F.xxhash64(F.lit(salt), *typed), 11) / float(1 << 53)


def _normal(platform: Synthetic, purpose: str, number: str) -> Column:
    """Approximately standard normal: a logistic variate of unit variance, from one hash."""
    uniform = F.greatest(_uniform(platform, purpose, number), F.lit(2.0**-53))
    return -F.log(1 / uniform - 1) * (math.sqrt(3) / math.pi)
