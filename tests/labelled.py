"""Labelled impressions of the tests, by hand and made up."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.features import vocabulary
from ecdctr_spark.features.behaviours import daily_clicks
from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.past import Past, Today, with_past
from ecdctr_spark.features.vocabulary import Vocabulary
from ecdctr_spark.settings.features import Behaviours, Count, Features, Id, Rate
from ecdctr_spark.tables import survey
from ecdctr_spark.tables.schemas import DAILY_COUNTS, LABELLED, VOCABULARY
from ecdctr_spark.tables.small import arrow_schema

MIDNIGHT = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


def at(day: int, hour: float = 12.0) -> dt.datetime:
    """A moment of the day-th day, which starts at 0."""
    return MIDNIGHT + dt.timedelta(days=day, hours=hour)


def date(day: int) -> dt.date:
    """The day-th day."""
    return at(day).date()


class Impression(NamedTuple):
    """A row of LABELLED whose days are UTC days."""

    event: str
    time: dt.datetime
    user: str = "u"
    item: str = "i"
    domain: str = "natural"
    clicked: dt.datetime | None = None
    profile: dict[str, str] | None = None
    attributes: dict[str, str] | None = None

    def row(self) -> tuple[Any, ...]:
        who = (self.event, self.time, self.domain, self.user, self.item, None, self.profile, self.attributes)
        return (*who, int(self.clicked is not None), self.clicked, self.time.date())


def labelled(spark: SparkSession, impressions: Iterable[Impression]) -> DataFrame:
    """The impressions as a frame of LABELLED, which asks no Python process for its rows each time it is read."""
    rows = [impression.row() for impression in impressions]
    return spark.createDataFrame(rows, LABELLED.columns).localCheckpoint()


def surveyed(rows: DataFrame) -> Vocabulary:
    """The vocabulary of a few VOCABULARY rows."""
    found = [{**row.asDict(), "since": row["since"] and row["since"].astimezone()} for row in rows.collect()]
    batch = pa.RecordBatch.from_pylist(found, arrow_schema(VOCABULARY.columns))
    return Vocabulary(rows, survey.surveyed([batch], "UTC"))


def reserve(known: Vocabulary, features: Features) -> DataFrame:
    """The rows that features reserve, as a frame of VOCABULARY."""
    rows = vocabulary.reserve(known.survey, features)
    return known.rows.sparkSession.createDataFrame(rows, VOCABULARY.columns)


def indexed(rows: DataFrame, timezone: str = "UTC", availability_minutes: int = 0) -> DataFrame:
    """The rows as past.clicked gives them, where an item of a number has that row of the embedding."""
    index = F.struct(F.expr("try_cast(regexp_replace(item_id, '[^0-9]', '') as int)").alias("item_id")).alias("index")
    return when_known(rows.select("*", index), timezone, availability_minutes)


def looking_back(
    rows: DataFrame,
    looking: Sequence[Count | Rate | Behaviours],
    counts: DataFrame | None = None,
    history: DataFrame | None = None,
    **settings: Any,
) -> DataFrame:
    """The labelled rows with the features, by these daily counts, this history (`indexed`) and settings of features."""
    spark = rows.sparkSession
    ids = (Id(kind="id", name=name, source=name) for name in ("user_id", "item_id"))
    features = Features(out_of_vocabulary=1, fields=(*ids, *looking), **settings)
    seen = spark.createDataFrame([], DAILY_COUNTS.columns) if counts is None else counts
    events = indexed(labelled(spark, [])) if history is None else history
    today = Today(events, events) if features.freshness == "event" else None
    return with_past(rows, rows, Past(seen, daily_clicks(events, features.behaviours), today), features)


def made_up(days: int, per_day: int = 30) -> list[Impression]:
    """Made-up impressions of eight users and twelve items: most are natural, half are clicked within six hours."""
    chance = random.Random(3)
    return [_any(chance, f"{day}-{number}", day) for day in range(days) for number in range(per_day)]


def _any(chance: random.Random, event: str, day: int) -> Impression:
    time = at(day, chance.randrange(24 * 60) / 60)
    item = chance.randrange(12)
    clicked = time + dt.timedelta(minutes=chance.randrange(360)) if chance.random() < 0.5 else None
    return Impression(
        event,
        time,
        user=f"u{chance.randrange(8)}",
        item=f"i{item}",
        domain="ad" if chance.random() < 0.25 else "natural",
        clicked=clicked,
        profile={"age": str(chance.randrange(90))},
        attributes={"category": f"c{item % 3}"} if item else None,
    )
