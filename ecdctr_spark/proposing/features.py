"""The features that `ecdctr init` proposes for the columns of logs, and the columns that it leaves out, each with the
reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ecdctr_spark.proposing.evidence import common, examples
from ecdctr_spark.proposing.words import AFTERWARDS, CATEGORIES, normal, tier_of
from ecdctr_spark.sources.excerpts import Values
from ecdctr_spark.sources.times import all_iso, all_milliseconds, mostly_times

_MOST_TOKENS = 1_000  # distinct values in the excerpt that still are a category
_FEW = 5  # that are all named
_LONGEST = 90  # characters of a feature's name


class Feature(NamedTuple):
    """What an overlay says of a feature, and the reason: what differs from conf/base.yaml, None to drop it, or LEFT_OUT
    for a column that becomes no feature."""

    name: str
    declared: Mapping[str, Any] | None
    why: str
    sure: bool = True


LEFT_OUT: Mapping[str, Any] = {}


def proposed_features(columns: Mapping[str, Mapping[str, Values]]) -> list[Feature]:
    """Features of the attributes of items and users and of the context, beside those of conf/base.yaml. `columns` are
    those beyond the raw contract, by log and by the names that they have after ingest."""
    sources: dict[tuple[str, str], Values] = {}
    for log, holder in (("items", "item"), ("users", "user"), ("impressions", "context"), ("ads", "context")):
        for name, values in columns.get(log, {}).items():
            sources.setdefault((holder, name), values)
    named: dict[str, Feature] = {}
    for (holder, name), values in sources.items():
        feature = _feature(holder, name, values)
        taken = feature.name in named or feature.name in ("user_id", "item_id")
        named[f"{feature.name}_{len(named)}" if taken else feature.name] = feature
    found = [feature._replace(name=name) for name, feature in named.items()]
    return [*_category(found), *(feature for feature in found if feature.name != "item_category")]


def _category(found: Sequence[Feature]) -> list[Feature]:
    """The features of conf/base.yaml that are of the item's category: of the attribute that is it, or dropped."""
    ids = [feature for feature in found if feature.declared and feature.declared["kind"] == "id"]
    sources = {str(feature.declared["source"]): feature for feature in ids if feature.declared}
    for source, feature in sources.items():
        holder, _, name = source.partition(".")
        if holder == "item" and normal(name) in CATEGORIES:
            return [
                Feature("item_category", {"source": source}, feature.why),
                Feature("category_natural_rate_7", {"entity": source}, "its click rate"),
            ]
    why = f"no attribute of the items is called {', '.join(CATEGORIES[:3])}, ..."
    return [Feature("item_category", None, why, False), Feature("category_natural_rate_7", None, "likewise", False)]


def _feature(holder: str, name: str, values: Values) -> Feature:
    """A feature of a column, or why it is none."""
    source, own = f"{holder}.{name}", f"{holder}_{re.sub('[^A-Za-z0-9]+', '_', name).strip('_')}"[:_LONGEST]
    there = [value for value in values.values if value is not None]
    distinct, rows = len(set(there)), len(there)
    seen = f"{distinct:,} different values: {common(values) if distinct <= _FEW else examples(values)}"
    if values.kind == "nested":
        return Feature(own, LEFT_OUT, f"{source} is a list")
    if distinct < 2:
        return Feature(own, LEFT_OUT, f"{source} has {'one value only' if distinct else 'no value'} in the excerpt")
    if AFTERWARDS.intersection(normal(name).split("_")):
        return Feature(own, LEFT_OUT, f"{source} looks like something known only after an impression ({seen})", False)
    if (
        all_iso(values)
        or all_milliseconds(values)
        or (tier_of("event_time", name) is not None and mostly_times(values))
    ):
        return Feature(own, LEFT_OUT, f"{source} is a time")
    if distinct <= _MOST_TOKENS and distinct <= rows / 2:
        return Feature(own, {"kind": "id", "source": source}, seen, holder != "context")
    identifies = normal(name).split("_")[-1] in ("id", "uuid", "hash", "code", "zip")
    if not identifies and all(re.fullmatch(r"\d+(\.\d+)?", value) for value in there):
        return Feature(own, {"kind": "number", "source": source}, f"numbers, {seen}", holder != "context")
    return Feature(own, LEFT_OUT, f"{source} has {distinct:,} different values in {rows:,} rows: an id, or free text")
