"""The features that an impression is turned into, as the configuration declares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ecdctr_spark.settings.base import Settings

Domain = Literal["natural", "ad"]
Part = Literal["tpm", "ctr"]  # which networks use a feature: the tiny model, or the complete one (CPM and A-CTR)


class Id(Settings):
    """A token that gets a row of the embedding: `source` is a column of the impression, `context.X`, `user.X` or
    `item.X`. Which tokens get one is told in features/vocabulary.py."""

    kind: Literal["id"]
    name: str
    source: str
    min_count: int = Field(default=1, gt=0, description="impressions within features.admission_days that earn a row")
    max_tokens: int | None = Field(default=None, gt=0, description="rows that the field's tokens may have; null: any")
    evict_days: int | None = Field(default=None, gt=0, description="days unseen, then read as unknown; null: never")
    parts: tuple[Part, ...] = ("ctr",)


class Number(Settings):
    """A numeric attribute, log1p-transformed; null becomes 0."""

    kind: Literal["number"]
    name: str
    source: str
    parts: tuple[Part, ...] = ("ctr",)


class Count(Settings):
    """Impressions or clicks of an entity over the last `days` days up to yesterday, in log2 buckets with a row each."""

    kind: Literal["count"]
    name: str
    entity: str
    domain: Domain
    measure: Literal["impressions", "clicks"]
    days: int = Field(gt=0)
    buckets: int = Field(default=16, gt=1)
    parts: tuple[Part, ...] = ("ctr",)


class Rate(Settings):
    """The smoothed click rate of an entity over the last `days` days up to yesterday."""

    kind: Literal["rate"]
    name: str
    entity: str
    domain: Domain
    days: int = Field(gt=0)
    prior: float = Field(default=0.1, gt=0, lt=1)
    strength: float = Field(default=20.0, gt=0)
    parts: tuple[Part, ...] = ("ctr",)


class Behaviours(Settings):
    """The user's last `length` natural clicks up to yesterday, as rows of the id feature `of`, newest last."""

    kind: Literal["behaviours"]
    name: str
    of: str
    length: int = Field(gt=0)
    days: int = Field(default=90, gt=0)
    parts: tuple[Part, ...] = ("ctr",)


Feature = Annotated[Id | Number | Count | Rate | Behaviours, Field(discriminator="kind")]


class Features(Settings):
    freshness: Literal["daily", "event"] = Field(
        default="daily", description="daily: features know the days before; event: also what came before on the day"
    )
    availability_minutes: int = Field(default=0, ge=0, description="from an event to when features know of it")
    admission_days: int = Field(default=28, gt=0, description="days within which min_count is to be reached")
    hot_rows: int = Field(
        default=1_000_000, gt=0, description="impressions of one key on one day that a task is given; more are salted"
    )
    out_of_vocabulary: int = Field(gt=0, description="rows an id field keeps for tokens that it does not know")
    fields: tuple[Feature, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        names = [feature.name for feature in self.fields]
        ids = {feature.name for feature in self.fields if feature.kind == "id"}
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature {name} is declared twice")
        for feature in self.fields:
            if isinstance(feature, Behaviours) and feature.of not in ids:
                raise ValueError(f"behaviours {feature.name} are of {feature.of!r}, which is no id feature")
        if not {"user_id", "item_id"} <= ids:
            raise ValueError("features.fields must hold the id features user_id and item_id: they are transferred")
        return self

    @property
    def ids(self) -> tuple[Id, ...]:
        """The id features, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Id))

    @property
    def sources(self) -> tuple[str, ...]:
        """What the features read of an impression, each once."""
        own = [feature.source for feature in self.fields if isinstance(feature, Id | Number)]
        return tuple(dict.fromkeys([*own, *(counter.entity for counter in self.counters)]))

    @property
    def counted(self) -> tuple[str, ...]:
        """What is counted by day: the entities of the counters, and the ids whose row hangs on how often they come."""
        rationed = (feature.source for feature in self.ids if feature.min_count > 1 or feature.evict_days)
        return tuple(dict.fromkeys([*(counter.entity for counter in self.counters), *rationed]))

    @property
    def counters(self) -> tuple[Count | Rate, ...]:
        """The counts and rates, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Count | Rate))

    @property
    def behaviours(self) -> tuple[Behaviours, ...]:
        """The behaviour sequences, in the order declared."""
        return tuple(feature for feature in self.fields if isinstance(feature, Behaviours))
