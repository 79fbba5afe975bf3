"""Labelled impressions of the tests, by hand and made up."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.tables.schemas import LABELLED

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
    """The impressions as a frame of LABELLED."""
    return spark.createDataFrame([impression.row() for impression in impressions], LABELLED.columns)


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
