"""The declaration of the features that an impression is turned into.

A kind of feature is a class here with an entry in KINDS, and a Spark column in features/kinds.py. The samples' schema,
the vocabulary, the contract and the look-back follow from the properties of the class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import force_setattr

from ecdctr_spark.settings.base import (
    NotNegative,
    Positive,
    PositiveNumber,
    SettingError,
    Settings,
    about,
    nearest,
    parsed,
)

Domain = Literal["natural", "ad"]
Role = Literal["index", "number", "sequence"]  # what a model reads: a row of the embedding, a float, or several rows
Reserved = tuple[Literal["null", "unknown", "bucket"], str]  # kind and token of a row of the vocabulary

COLUMNS = ("user_id", "item_id", "domain")  # of an impression, known when it is shown; the label is not
ATTRIBUTES = ("context", "user", "item")  # maps of an impression, or structs of it when narrowed
OWN_COLUMNS = ("event_id", "event_time", "user", "item", "label", "click_day", "weight", "domain", "ds")  # of a sample
_ON_THE_WAY = ("context", "click_time", "index", "key", "salts", "so_far")  # beside features while they are made
_LONGEST = 100  # characters of a name


def _check_name(name: str) -> None:
    if len(name) > _LONGEST:
        raise SettingError(f"name: {name[:20]!r}... has {len(name)} characters: give a name of at most {_LONGEST}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        expected = "use letters, digits and _, and begin with a letter"
        raise SettingError(f"name: {name!r} cannot be a column's name: {expected}")
    if name.lower() in (*OWN_COLUMNS, *_ON_THE_WAY):  # Spark ignores case
        raise SettingError(f"name: {name!r} is the name of another column of the pipeline: rename the feature")


def _check_source(key: str, source: str) -> None:
    holder, _, attribute = source.partition(".")
    if source not in COLUMNS and not (attribute and holder in ATTRIBUTES):
        expected = ", ".join(COLUMNS)
        raise SettingError(
            f"{key}: {source!r} is not in an impression: give one of {expected}, context.X, user.X or item.X"
        )


class Feature(Settings, frozen=True, kw_only=True):
    """The base of every kind of feature. The rest of the pipeline depends on a kind through these properties."""

    role: ClassVar[Role]

    kind: str
    name: Annotated[str, about("its key in the mapping: not set beside it")]
    basic: Annotated[bool, about("the tiny model reads it as well (paper, section 3.2)")] = False

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def unknown_key(cls, key: str, where: str) -> str:
        return f"{where}: unknown key {key}; the nearest known one is {nearest(key, cls.__struct_fields__)}"

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


class FromImpression(Feature, frozen=True, kw_only=True):
    """A feature made of one column or attribute of the impression."""

    source: Annotated[
        str, about("user_id, item_id, domain, context.COLUMN of the impression, user.ATTRIBUTE or item.ATTRIBUTE")
    ]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_source("source", self.source)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


class Id(FromImpression, frozen=True, kw_only=True):
    """A token with a row of the embedding. features/vocabulary.py explains which tokens get one."""

    role = "index"

    kind: Literal["id"]
    min_count: Annotated[Positive, about("impressions within features.admission_days that earn a row")] = 1
    max_tokens: Annotated[Positive | None, about("rows for the field's tokens; null: no limit")] = None
    evict_days: Annotated[Positive | None, about("days not shown, then read as unknown; null: never")] = None

    @property
    def counted(self) -> tuple[str, ...]:
        return (self.source,) if self.min_count > 1 or self.evict_days else ()

    @property
    def days_of_counts(self) -> int:
        return self.evict_days or 0

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        return (("null", "0"), *(("unknown", str(row)) for row in range(out_of_vocabulary)))


class Number(FromImpression, frozen=True, kw_only=True):
    """A numeric attribute, log1p-transformed; null becomes 0."""

    role = "number"

    kind: Literal["number"]


class _Counter(Feature, frozen=True, kw_only=True):
    """A count of an entity in one domain, over the last `days` days up to yesterday."""

    entity: Annotated[str, about("whose events are counted: a column or attribute, as source of an id")]
    domain: Annotated[Domain, about("of the events that are counted")]
    days: Annotated[Positive, about("before the impression's own that are counted")]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_source("entity", self.entity)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def counted(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def days_of_counts(self) -> int:
        return self.days


class Count(_Counter, frozen=True, kw_only=True):
    """The impressions or clicks of an entity, in log2 buckets with one row each."""

    role = "index"

    kind: Literal["count"]
    measure: Annotated[Literal["impressions", "clicks"], about("what is counted")]
    buckets: Annotated[int, Meta(gt=1), about("by powers of two; the last has all larger counts")] = 16

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        return tuple(("bucket", str(bucket)) for bucket in range(self.buckets))


class Rate(_Counter, frozen=True, kw_only=True):
    """The smoothed click rate of an entity: (clicks + prior * strength) / (impressions + strength)."""

    role = "number"

    kind: Literal["rate"]
    prior: Annotated[float, Meta(gt=0, lt=1), about("the rate of an entity that was never shown")] = 0.1
    strength: Annotated[PositiveNumber, about("impressions that weigh as much as the prior")] = 20.0


class Behaviours(Feature, frozen=True, kw_only=True):
    """The user's last `length` natural clicks up to yesterday, as rows of the id feature `of`, newest last."""

    role = "sequence"

    kind: Literal["behaviours"]
    of: Annotated[str, about("an id feature, whose rows of the embedding are used")]
    length: Annotated[Positive, about("clicks at most, the newest; fewer are padded")]
    days: Annotated[Positive, about("older clicks are left out")] = 90

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


def _declared(fields: Any) -> list[Feature]:
    """The fields of a mapping by name, without those that an overlay dropped (null); or of a list, as in a dump."""
    if isinstance(fields, Mapping):
        return [_of_its_kind(name, field) for name, field in fields.items() if field is not None]
    return [field if isinstance(field, Feature) else _of_its_kind(field["name"], field) for field in fields or ()]


def _of_its_kind(name: str, declared: Any) -> Feature:
    where = f"fields.{name}"
    if not isinstance(declared, Mapping):
        raise SettingError(f"{where}: {declared!r} is no mapping: give its keys, such as {{key: value}}")
    kind = KINDS.get(str(declared.get("kind")))
    if kind is None:
        raise SettingError(f"{where}: kind is {declared.get('kind')!r}, expected one of {', '.join(KINDS)}")
    return parsed(kind, {**declared, "name": name}, where)


if TYPE_CHECKING:
    _Fields = tuple[Feature, ...]
else:
    _Fields = Any  # to msgspec, since KINDS is open: Features makes each field an instance of its kind's class


class Features(Settings, frozen=True, kw_only=True):
    """The features of a data set. `fields` is configured as a mapping by name, and is a tuple here, in the order of
    KINDS and within a kind in that of the mapping. It is dumped as a list: the order is part of the identity."""

    freshness: Annotated[
        Literal["daily", "event"],
        about("daily: features know the days before; event: also the day itself up to the event"),
    ] = "daily"
    availability_minutes: Annotated[NotNegative, about("from an event to when features know of it")] = 0
    admission_days: Annotated[Positive, about("days within which min_count must be reached")] = 28
    hot_rows: Annotated[Positive, about("impressions of one key on one day per task; more are salted")] = 1_000_000
    out_of_vocabulary: Annotated[Positive, about("rows of an id field for unknown tokens")]
    inherit: Annotated[bool | UnsetType, about("in an overlay, false: drop the fields of the files before it")] = UNSET
    fields: _Fields

    def __post_init__(self) -> None:
        order = list(KINDS)
        fields = sorted(_declared(self.fields), key=lambda feature: order.index(feature.kind))
        force_setattr(self, "fields", tuple(fields))
        force_setattr(self, "inherit", UNSET)  # what a model was made from does not depend on how it was written
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
            hint = f"; the nearest known one is {nearest(name, before)}" if before else ""
            raise ValueError(f"features.fields.{name}: no such field to change or drop (a new one has a kind){hint}")
