"""The declaration of the features that an impression is turned into.

A kind of feature is a class here with an entry in KINDS, and a Spark column in features/kinds.py. The samples' schema,
the vocabulary, the contract and the look-back follow from the properties of the class.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from ecdctr_spark.settings.base import Settings

Domain = Literal["natural", "ad"]
Role = Literal["index", "number", "sequence"]  # what a model reads: a row of the embedding, a float, or several rows
Reserved = tuple[Literal["null", "unknown", "bucket"], str]  # kind and token of a row of the vocabulary

COLUMNS = ("user_id", "item_id", "domain")  # of an impression, known when it is shown; the label is not
ATTRIBUTES = ("context", "user", "item")  # maps of an impression, or structs of it when narrowed
OWN_COLUMNS = ("event_id", "event_time", "user", "item", "label", "click_day", "weight", "domain", "ds")  # of a sample
_ON_THE_WAY = ("context", "click_time", "index", "key", "salts", "so_far")  # beside features while they are made
_LONGEST = 100  # characters of a name


def _name(name: str) -> str:
    if len(name) > _LONGEST:
        raise ValueError(f"{name[:20]!r}... has {len(name)} characters: give a name of at most {_LONGEST}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot be a column's name: use letters, digits and _, and begin with a letter")
    if name.lower() in (*OWN_COLUMNS, *_ON_THE_WAY):  # Spark ignores case
        raise ValueError(f"{name!r} is the name of another column of the pipeline: rename the feature")
    return name


def _source(source: str) -> str:
    holder, _, attribute = source.partition(".")
    if source not in COLUMNS and not (attribute and holder in ATTRIBUTES):
        expected = ", ".join(COLUMNS)
        raise ValueError(f"{source!r} is not in an impression: give one of {expected}, context.X, user.X or item.X")
    return source


Name = Annotated[str, AfterValidator(_name)]
ImpressionSource = Annotated[str, AfterValidator(_source)]
_FROM = "user_id, item_id, domain, context.COLUMN of the impression, user.ATTRIBUTE or item.ATTRIBUTE"


class Feature(Settings):
    """The base of every kind of feature. The rest of the pipeline depends on a kind through these properties."""

    role: ClassVar[Role]

    kind: str
    name: Name = Field(description="its key in the mapping: not set beside it")
    basic: bool = Field(default=False, description="the tiny model reads it as well (paper, section 3.2)")

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns and attributes of an impression that it reads, such as `item.category`."""
        return ()

    @property
    def counted(self) -> tuple[str, ...]:
        """The sources whose impressions and clicks it needs counted by day."""
        return ()

    @property
    def days_of_counts(self) -> int:
        """The number of days before an impression's own that it reads of the daily counts."""
        return 0

    @property
    def days_of_clicks(self) -> int:
        """The number of days before an impression's own that it reads of the daily clicks."""
        return 0

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        """The rows that the vocabulary reserves for it, in order; those of one kind are consecutive."""
        return ()


class Id(Feature):
    """A token with a row of the embedding. features/vocabulary.py explains which tokens get one."""

    role = "index"

    kind: Literal["id"]
    source: ImpressionSource = Field(description=_FROM)
    min_count: int = Field(default=1, gt=0, description="impressions within features.admission_days that earn a row")
    max_tokens: int | None = Field(default=None, gt=0, description="rows for the field's tokens; null: no limit")
    evict_days: int | None = Field(default=None, gt=0, description="days not shown, then read as unknown; null: never")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def counted(self) -> tuple[str, ...]:
        return (self.source,) if self.min_count > 1 or self.evict_days else ()

    @property
    def days_of_counts(self) -> int:
        return self.evict_days or 0

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        return (("null", "0"), *(("unknown", str(row)) for row in range(out_of_vocabulary)))


class Number(Feature):
    """A numeric attribute, log1p-transformed; null becomes 0."""

    role = "number"

    kind: Literal["number"]
    source: ImpressionSource = Field(description=_FROM)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


class _Counter(Feature):
    """A count of an entity in one domain, over the last `days` days up to yesterday."""

    entity: ImpressionSource = Field(description="whose events are counted: a column or attribute, as source of an id")
    domain: Domain = Field(description="of the events that are counted")
    days: int = Field(gt=0, description="before the impression's own that are counted")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def counted(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def days_of_counts(self) -> int:
        return self.days


class Count(_Counter):
    """The impressions or clicks of an entity, in log2 buckets with one row each."""

    role = "index"

    kind: Literal["count"]
    measure: Literal["impressions", "clicks"] = Field(description="what is counted")
    buckets: int = Field(default=16, gt=1, description="by powers of two; the last has all larger counts")

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        return tuple(("bucket", str(bucket)) for bucket in range(self.buckets))


class Rate(_Counter):
    """The smoothed click rate of an entity: (clicks + prior * strength) / (impressions + strength)."""

    role = "number"

    kind: Literal["rate"]
    prior: float = Field(default=0.1, gt=0, lt=1, description="the rate of an entity that was never shown")
    strength: float = Field(default=20.0, gt=0, description="impressions that weigh as much as the prior")


class Behaviours(Feature):
    """The user's last `length` natural clicks up to yesterday, as rows of the id feature `of`, newest last."""

    role = "sequence"

    kind: Literal["behaviours"]
    of: str = Field(description="an id feature, whose rows of the embedding are used")
    length: int = Field(gt=0, description="clicks at most, the newest; fewer are padded")
    days: int = Field(default=90, gt=0, description="older clicks are left out")

    @property
    def days_of_clicks(self) -> int:
        return self.days


# In the order of a sample's columns. The order of the vocabulary's blocks and of the networks' inputs depends on it.
KINDS: dict[str, type[Feature]] = {
    "id": Id,
    "number": Number,
    "count": Count,
    "rate": Rate,
    "behaviours": Behaviours,
}


def _of_its_kind(declared: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """The feature as an instance of its kind's class. Unknown keys are reported here, where the kind's keys are
    known."""
    if not isinstance(declared, Mapping):
        return check(declared)
    kind = KINDS.get(str(declared.get("kind")))
    if kind is None:
        raise ValueError(f"kind is {declared.get('kind')!r}, expected one of {', '.join(KINDS)}")
    for key in declared.keys() - kind.model_fields.keys():
        raise ValueError(f"unknown key {key}; the nearest known one is {_nearest(key, kind.model_fields)}")
    return kind.model_validate(declared)


_Declared = Annotated[SerializeAsAny[Feature], WrapValidator(_of_its_kind)]
_BY_NAME: TypeAdapter[dict[str, Feature | None]] = TypeAdapter(dict[str, _Declared | None])


class Features(Settings):
    """The features of a data set. `fields` is configured as a mapping by name, and is a tuple here, in the order of
    KINDS and within a kind in that of the mapping. It is dumped as a list: the order is part of the identity."""

    freshness: Literal["daily", "event"] = Field(
        default="daily", description="daily: features know the days before; event: also the day itself up to the event"
    )
    availability_minutes: int = Field(default=0, ge=0, description="from an event to when features know of it")
    admission_days: int = Field(default=28, gt=0, description="days within which min_count must be reached")
    hot_rows: int = Field(
        default=1_000_000, gt=0, description="impressions of one key on one day per task; more are salted"
    )
    out_of_vocabulary: int = Field(gt=0, description="rows of an id field for unknown tokens")
    inherit: bool = Field(
        default=True, exclude=True, description="in an overlay, false: drop the fields of the files before it"
    )
    fields: tuple[_Declared, ...]

    @field_validator("fields", mode="before")
    @classmethod
    def _from_mapping(cls, fields: Any) -> Any:
        """The fields of a mapping with their names, without those that an overlay set to null."""
        if not isinstance(fields, Mapping):
            return fields
        named = {
            name: {**field, "name": name} if isinstance(field, Mapping) else field for name, field in fields.items()
        }
        return [feature for feature in _BY_NAME.validate_python(named).values() if feature is not None]

    @field_validator("fields", mode="after")
    @classmethod
    def _ordered(cls, fields: tuple[Feature, ...]) -> tuple[Feature, ...]:
        order = list(KINDS)
        return tuple(sorted(fields, key=lambda feature: order.index(feature.kind)))

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        ids = {feature.name for feature in self.ids}
        for one, other in combinations(self.fields, 2):
            if one.name.lower() == other.name.lower():
                raise ValueError(
                    f"fields {one.name} and {other.name} are one column to Spark, which ignores case: rename one"
                )
        if not {"user_id", "item_id"} <= ids:
            raise ValueError("fields must hold the id features user_id and item_id: transfer needs both")
        for feature in self.behaviours:
            if feature.of not in ids:
                raise ValueError(f"behaviours {feature.name} are of {feature.of!r}, which is no id feature: declare it")
        return self

    @property
    def ids(self) -> tuple[Id, ...]:
        """The id features, in their order."""
        return tuple(feature for feature in self.fields if isinstance(feature, Id))

    @property
    def counters(self) -> tuple[Count | Rate, ...]:
        """The counts and rates, in their order."""
        return tuple(feature for feature in self.fields if isinstance(feature, Count | Rate))

    @property
    def behaviours(self) -> tuple[Behaviours, ...]:
        """The behaviour sequences, in their order."""
        return tuple(feature for feature in self.fields if isinstance(feature, Behaviours))

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns and attributes that the features read, each once."""
        return tuple(dict.fromkeys(source for feature in self.fields for source in feature.sources))

    @property
    def counted(self) -> tuple[str, ...]:
        """The sources that are counted by day: entities of counters, and ids whose rows depend on counts."""
        return tuple(dict.fromkeys(source for feature in self.fields for source in feature.counted))

    @property
    def days_of_clicks(self) -> int:
        """The number of days before an impression's own that the features read of the daily clicks."""
        return max(feature.days_of_clicks for feature in self.fields)

    def days_of_counts(self, lag: int) -> int:
        """The number of days before an impression's own that features and vocabulary read of the daily counts.

        `lag` is the number of days until a click is known: a click is stored by the row that its token has by then.
        """
        return lag + max(self.admission_days, *(feature.days_of_counts for feature in self.fields))


def check_layer(before: Any, fields: Any) -> None:
    """Checks the features.fields of one layer (None: it has none) against those of the layers before it.

    Raises ValueError where it is no mapping, or changes or drops (null) a field that no earlier layer declares.
    """
    if fields is None:
        return
    if not isinstance(fields, Mapping):
        raise ValueError("features.fields: expected a mapping from names to fields, such as {tab: {kind: id, ...}}")
    for name, field in fields.items():
        new = isinstance(field, Mapping) and "kind" in field
        if not new and name not in (before or {}):
            nearest = f"; the nearest known one is {_nearest(name, before)}" if before else ""
            raise ValueError(f"features.fields.{name}: no such field to change or drop (a new one has a kind){nearest}")


def _nearest(name: Any, known: Mapping[str, Any]) -> str:
    return difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.0)[0]
