"""Whatever happens at or after a moment changes no feature of a sample by then, in either freshness."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, KeepRates, Sampling
from ecdctr_spark.features.behaviours import daily_clicks
from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.labels import label
from ecdctr_spark.features.past import Past, clicked, today
from ecdctr_spark.features.profiles import with_profiles
from ecdctr_spark.features.samples import samples
from ecdctr_spark.features.vocabulary import admit
from ecdctr_spark.settings.features import (
    Behaviours,
    Count,
    Features,
    Id,
    Number,
    Rate,
)
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, ITEMS, USERS, VOCABULARY
from tests.labelled import MIDNIGHT, reserve, surveyed

FEATURES = (
    Id(kind="id", name="user_id", source="user_id"),
    Id(kind="id", name="item_id", source="item_id"),
    Id(kind="id", name="age", source="user.age", evict_days=1),
    Id(kind="id", name="frequent", source="item_id", min_count=3, max_tokens=2),
    Number(kind="number", name="price", source="item.price"),
    Count(kind="count", name="shown", entity="user_id", domain="natural", measure="impressions", days=2),
    Count(kind="count", name="clicks", entity="item_id", domain="ad", measure="clicks", days=1),
    Rate(kind="rate", name="rate", entity="user.age", domain="natural", days=28),
    Behaviours(kind="behaviours", name="recent", of="item_id", length=3, days=2),
)
COLUMNS = [feature.name for feature in FEATURES]
HALF_DAYS = 6  # moments are few, so that many things happen at the same one, midnight among them


class Shown(NamedTuple):
    """An impression of a user and an item, half days after MIDNIGHT; clicked that many half days later, or never."""

    moment: int
    user: int
    item: int
    domain: str
    click: int | None


class Profile(NamedTuple):
    """A row of users and one of items from a moment on."""

    moment: int
    key: int
    value: int


MOMENTS = st.integers(0, HALF_DAYS - 1)
KEYS = st.integers(0, 2) | st.integers(3, 40)  # some come often, most once: new ones turn up at any moment
SHOWN = st.builds(
    Shown, MOMENTS, KEYS, KEYS, st.sampled_from(["natural", "natural", "ad"]), st.none() | st.integers(0, 1)
)
PROFILES = st.lists(st.builds(Profile, MOMENTS, KEYS, st.integers(0, 9)), max_size=6, unique_by=lambda row: row[:2])


@pytest.mark.parametrize("freshness", ["daily", "event"])
@settings(
    max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(
    past=st.lists(SHOWN, min_size=30, max_size=60),
    future=st.lists(SHOWN, max_size=20),
    otherwise=st.lists(SHOWN, min_size=10, max_size=20),
    profiles=PROFILES,
    profiles_otherwise=PROFILES,
    moment=st.integers(2, HALF_DAYS - 1),
    delay=st.sampled_from([0, 45]),
)
def test_another_future_leaves_every_feature_by_then_bit_equal(
    spark: SparkSession, config: Config, freshness: str, **drawn: Any
) -> None:
    settled = Features(freshness=freshness, availability_minutes=drawn["delay"], out_of_vocabulary=3, fields=FEATURES)
    half = KeepRates(positive=1.0, negative=0.5)
    tried = replace(config, features=settled, sampling=Sampling(seed=3, natural=half, ad=half))
    moment = drawn["moment"]
    past = [row for row in drawn["past"] if row.moment <= moment]
    events = [("p", row) for row in past]
    once = built(spark, tried, events + after("f", drawn["future"], moment), drawn["profiles"])
    known = [row for row in drawn["profiles"] if row.moment < moment]
    others = [row for row in drawn["profiles_otherwise"] if row.moment >= moment]
    changed = [(name, row if clicked_by(row, moment) else row._replace(click=None)) for name, row in events]
    again = built(spark, tried, changed + after("g", drawn["otherwise"], moment), known + others)
    by_then = {event for event in once if event.startswith("p")} & again.keys()
    assert {event: again[event] for event in by_then} == {event: once[event] for event in by_then}
    # Whether an event is kept depends on the event only, and on no click of a later day.
    settled_by_then = (event for event, row in zip(names(events), past, strict=True) if fate_is_settled(row, moment))
    fates = set(settled_by_then)
    assert fates & once.keys() == fates & again.keys()


def after(name: str, rows: list[Shown], moment: int) -> list[tuple[str, Shown]]:
    """The rows moved to the moment or later."""
    return [(name, row._replace(moment=moment + row.moment % (HALF_DAYS - moment))) for row in rows]


def clicked_by(row: Shown, moment: int) -> bool:
    return row.click is None or row.moment + row.click < moment


def fate_is_settled(row: Shown, moment: int) -> bool:
    """Whether what happens at the moment or later cannot change if the event was clicked on its day."""
    return clicked_by(row, moment) or row.click is None or at(row.moment).date() < at(row.moment + row.click).date()


def names(events: list[tuple[str, Shown]]) -> list[str]:
    return [f"{name}{place}" for place, (name, _) in enumerate(events)]


def built(
    spark: SparkSession, config: Config, events: list[tuple[str, Shown]], profiles: list[Profile]
) -> dict[str, tuple[Any, ...]]:
    """The features of all samples by event: canonical rows to samples, all days at once."""
    features, timezone = config.features, config.calendar.timezone
    shown = [row for _, row in events]
    impressions = [
        (name, at(row.moment), row.domain, f"u{row.user}", f"i{row.item}", {}, None, at(row.moment).date())
        for name, row in zip(names(events), shown, strict=True)
    ]
    clicks = [
        (name, at(row.moment + row.click), at(row.moment + row.click).date())
        for name, row in zip(names(events), shown, strict=True)
        if row.click is not None
    ]
    users = [(f"u{row.key}", at(row.moment), {"age": str(row.value)}) for row in profiles]
    items = [(f"i{row.key}", at(row.moment), {"price": str(row.value)}) for row in profiles]

    def frame(rows: list[Any], columns: str) -> DataFrame:
        return spark.createDataFrame(rows, columns)

    labelled = with_profiles(
        label(frame(impressions, IMPRESSIONS.columns), frame(clicks, CLICKS.columns), 24),
        frame(users, USERS.columns),
        frame(items, ITEMS.columns),
        features.availability_minutes,
    ).localCheckpoint()
    known = when_known(labelled, timezone, features.availability_minutes)
    counts = daily_counts(known, features.counted).localCheckpoint()
    reserved = reserve(surveyed(frame([], VOCABULARY.columns)), features)
    admitted = admit(surveyed(reserved), labelled, counts, config)
    vocabulary = surveyed(reserved.unionByName(admitted).localCheckpoint())
    rows = daily_clicks(clicked(known, vocabulary, counts, config), features.behaviours).localCheckpoint()
    past = Past(counts, rows, today(labelled, vocabulary, counts, config))
    made = samples(labelled, past, vocabulary, config).select("event_id", *COLUMNS)
    return {row.event_id: tuple(row)[1:] for row in made.collect()}


def at(half_days: int) -> dt.datetime:
    return MIDNIGHT + dt.timedelta(hours=12 * half_days)
