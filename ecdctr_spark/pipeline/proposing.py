"""`ecdctr init`: from excerpts of raw logs to a proposed configuration. Pure.

Each proposal is a guess with its evidence. A guess that names and values agree on is sure; one that they leave open is
marked, to be checked; and where they name nothing, or several things that fit as well, nothing is proposed: a wrong
column would train a wrong model in silence.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import LOGS
from ecdctr_spark.sources.excerpts import Excerpt, Values
from ecdctr_spark.sources.values import EPOCH, FIRST_YEAR, LAST_YEAR

# What logs call the columns of the raw contract, the likeliest first; a later tier only where no earlier one is there.
SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "event_id": (
        ("event_id",),
        ("impression_id", "imp_id", "impid", "display_id", "exposure_id", "event_uuid", "show_id", "insertion_id"),
        ("request_id", "req_id", "requestid", "reqid", "log_id", "trace_id", "pvid", "view_id", "bid_id", "auction_id"),
        ("uuid", "guid", "id", "row_id", "record_id"),
    ),
    "event_time": (
        ("event_time",),
        (
            "ts", "timestamp", "time", "datetime", "date_time", "event_ts", "event_timestamp", "impression_time",
            "impression_ts", "imp_time", "imp_ts", "shown_at", "show_time", "served_at", "serve_time", "display_time",
            "exposure_time", "time_ms", "timestamp_ms", "epoch", "unix_time", "unixtime", "eventtime", "at",
        ),
        ("created_at", "server_time", "server_ts", "log_time", "logged_at", "request_time", "create_time", "t"),
        ("received_at", "ingested_at", "processed_at", "client_time", "date", "day", "dt", "ds"),
    ),
    "click_time": (
        ("click_time",),
        ("click_ts", "clicked_at", "click_timestamp", "click_at", "clk_time", "clk_ts", "time_of_click"),
        ("ts", "timestamp", "time", "datetime", "event_time", "event_ts", "event_timestamp", "at", "timestamp_ms"),
        ("created_at", "server_time", "log_time", "logged_at", "received_at", "date", "day", "dt", "ds"),
    ),
    "domain": (
        ("domain",),
        ("surface", "traffic_type", "is_ad", "is_ads", "is_sponsored", "sponsored", "ad_flag", "is_promoted"),
        (
            "channel", "placement_type", "content_type", "item_type", "card_type", "slot_type", "log_type",
            "inventory_type", "feed_type", "source_type", "traffic", "placement", "origin", "type",
        ),
    ),
    "user_id": (
        ("user_id",),
        ("uid", "userid", "user", "user_uuid"),
        (
            "member_id", "member", "customer_id", "customer", "visitor_id", "viewer_id", "account_id", "profile_id",
            "subscriber_id", "person_id", "reader_id", "buyer_id", "shopper_id", "player_id",
        ),
        ("client_id", "cookie_id", "device_id", "session_user", "hashed_user", "user_hash"),
    ),
    "item_id": (
        ("item_id",),
        ("iid", "itemid", "item", "item_uuid"),
        (
            "creative_id", "creative", "ad_id", "adid", "ad", "content_id", "content", "product_id", "product", "sku",
            "article_id", "article", "news_id", "video_id", "video", "movie_id", "movie", "post_id", "doc_id", "asin",
            "goods_id", "offer_id", "listing_id", "photo_id", "note_id", "song_id", "book_id", "feed_id",
        ),
        ("campaign_id", "target_id", "object_id", "entity_id"),
    ),
    "clicked": (
        ("clicked",),
        ("is_click", "is_clicked", "click", "clk", "click_flag", "has_click", "isclick", "clicked_flag"),
        ("label", "target", "y"),
    ),
    "valid_from": (("valid_from",), ("valid_since", "effective_from", "effective_date")),
}  # fmt: skip
_WANTED = {
    "impressions": ("event_id", "event_time", "user_id", "item_id", "domain", "clicked"),
    "ads": ("event_id", "event_time", "user_id", "item_id", "clicked"),
    "clicks": ("event_id", "click_time"),
    "users": ("user_id", "valid_from"),
    "items": ("item_id", "valid_from"),
}
_OPTIONAL = ("clicked", "valid_from")
_SHOWN = ("impressions", "ads")
_WORDS = {
    "clicks": {"click", "clicks", "clk", "clicked"},
    "ads": {"ad", "ads", "sponsored", "promoted", "paid", "advert", "adverts", "advertising"},
    "users": {"user", "users", "member", "members", "customer", "customers", "profile", "profiles", "visitors"},
    "items": {
        "item", "items", "creative", "creatives", "product", "products", "content", "contents", "article", "articles",
        "video", "videos", "movies", "catalog", "catalogue", "news", "goods", "campaigns", "listings", "posts",
    },
    "impressions": {
        "impression", "impressions", "imp", "imps", "shown", "shows", "exposure", "exposures", "views", "events",
        "displays", "feed", "natural", "organic", "logs",
    },
}  # fmt: skip
_AD = {"ad", "ads", "sponsored", "promoted", "promotion", "paid", "advert", "advertisement", "commercial", "promo"}
_NATURAL = {
    "natural", "organic", "feed", "search", "recommendation", "recommendations", "recommended", "rec", "home",
    "content", "editorial", "free", "unpaid", "discovery", "explore", "timeline", "non_ad", "nonad", "not_sponsored",
}  # fmt: skip
_FLAGS = {"0": "natural", "false": "natural", "no": "natural", "n": "natural"}
_FLAGS |= {"1": "ad", "true": "ad", "yes": "ad", "y": "ad"}
_CLICKED = {"0", "1", "true", "false", "0.0", "1.0"}
# Words in the names of columns that are known only after an impression was shown: features of them would leak.
_AFTER = {
    "click", "clicks", "clicked", "dwell", "duration", "watch", "watched", "watchtime", "play", "played", "conversion",
    "converted", "convert", "purchase", "purchased", "revenue", "paid", "order", "orders", "liked", "like", "share",
    "shared", "comment", "commented", "label", "target", "reward", "outcome", "completed", "viewability", "cost",
    "charge", "follow", "followed", "favorite", "bounce", "exit", "scroll", "ctr",
}  # fmt: skip
_CATEGORIES = ("category", "category_id", "cat", "cat_id", "cate_id", "cate", "genre", "topic", "vertical", "section")
_MOST_TOKENS = 1_000  # distinct values in the excerpt that still are a category
_TIME = 0.9  # share of values that must be readable for a column to be one of times
_EXAMPLES = 3

_DATE = r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
_CLOCK = r"[T ]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ISO = re.compile(rf"{_DATE}(?:{_CLOCK})?\s?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$", re.IGNORECASE)
_EPOCHS = {unit: re.compile(rf"{ticks}(?:\.\d+)?$") for unit, ticks in EPOCH.items()}
_PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_HOURS = re.compile(r"(?:199\d|20\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])$")
_UTC = dt.timezone.utc


class Guess(NamedTuple):
    """A proposed value with its evidence; None: it must be given by hand."""

    value: Any
    sure: bool
    why: str


class Feature(NamedTuple):
    """A proposed feature: its declaration, or None where the column is left out; and the reason."""

    name: str
    declared: Mapping[str, Any] | None
    why: str
    sure: bool = True


class Time(NamedTuple):
    """A time as it was read: its form, and the moment, in UTC where it names no zone (`local`)."""

    form: str
    at: dt.datetime
    local: bool


@dataclass(frozen=True)
class Proposal:
    """What `ecdctr init` writes. Columns are by log and by their name in the raw contract."""

    form: Guess
    csv: Mapping[str, Guess]
    logs: Mapping[str, Guess]
    columns: Mapping[str, Mapping[str, Guess]]
    domains: Mapping[str, Guess]
    source: Mapping[str, Guess]
    calendar: Mapping[str, Guess]
    features: Sequence[Feature]
    last_day: dt.date | None
    notes: Sequence[str] = field(default=())

    @property
    def open(self) -> list[str]:
        """The keys that must be given by hand."""
        parts: dict[str, Mapping[str, Guess]] = {"source.csv": self.csv, "source": {**self.logs, **self.source}}
        parts |= {f"source.columns.{log}": columns for log, columns in self.columns.items()}
        parts |= {"source.domains": self.domains, "calendar": self.calendar}
        return [f"{key}.{name}" for key, part in parts.items() for name, guess in part.items() if guess.value is None]


def read_time(text: str, kind: str = "text") -> Time | None:
    """A time as ingest reads it with source.time_unit auto (sources/values.py: as_time), None where it reads none."""
    for unit, ticks in _EPOCHS.items():
        if ticks.match(text) and not (unit == "seconds" and _HOURS.match(text)):
            moment = dt.datetime.fromtimestamp(float(text) / _PER_SECOND[unit], _UTC)
            return Time(f"epoch {unit}", moment, False)
    found = _ISO.match(text)
    if found is None or (found["dash"] == "" and text.isdigit() and len(text) != len("yyyymmdd")):
        return None
    part = {
        name: int(value or 0) for name, value in found.groupdict().items() if name not in ("dash", "zone", "fraction")
    }
    try:
        moment = dt.datetime(**part, tzinfo=_UTC) - _offset(found["zone"])
    except (ValueError, OverflowError):
        return None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        return None
    form = "timestamp" if kind == "timestamp" else "yyyymmdd" if text.isdigit() else "ISO 8601"
    return Time(form, moment, found["zone"] is None and kind != "timestamp")


def propose(excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt]) -> Proposal:
    """A configuration for logs of these excerpts. `given` are those that the user has said what they are.

    Raises ConfigError where no impressions are among them, or they cannot be read with one source.format.
    """
    logs, notes = _logs(excerpts, given)
    found = {log: _by_place(log, guess, excerpts, given) for log, guess in logs.items() if guess.value is not None}
    form, dialect = _form(found)
    if "impressions" not in found:
        return Proposal(form, dialect, logs, {}, {}, {}, {}, (), None, notes)
    columns: dict[str, dict[str, Guess]] = {}
    for log in LOGS:  # impressions first: the names of the others are compared with theirs
        if log in found:
            columns[log] = _columns(log, found, columns)
    domains = _domains(found, columns)
    times = _times(found, columns)
    features = _features(found, columns)
    last = max((time.at.date() for time in times["shown"]), default=None)
    return Proposal(
        form, dialect, logs, columns, domains, _source(times), _calendar(found, times), features, last, notes
    )


# Which folder is which log.


def _logs(excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt]) -> tuple[dict[str, Guess], list[str]]:
    """The place of each log, and what was recognised as none."""
    found: dict[str, list[tuple[str, bool, str]]] = {}
    notes = []
    for excerpt in excerpts:
        log, sure, why = _log_of(excerpt)
        if log is None:
            notes.append(f"{excerpt.place} is left out: {why}")
        else:
            found.setdefault(log, []).append((excerpt.place, sure, why))
    shown = found.get("impressions", [])
    ads = [one for one in shown if _words(one[0]) & _WORDS["ads"]]
    if len(shown) == 2 and len(ads) == 1:
        found["impressions"] = [one for one in shown if one not in ads]
        found["ads"] = [
            (ads[0][0], False, f"impressions too, in a folder named {_last(ads[0][0])}: taken to be ads alone")
        ]
    logs = {log: Guess(excerpt.place, True, "given") for log, excerpt in given.items()}
    for log in [log for log in LOGS if log in found and log not in logs]:
        (place, sure, why), *more = found[log]
        if more:
            several = ", ".join(place for place, *_ in found[log])
            logs[log] = Guess(None, False, f"several folders look like {log}: {several}")
        else:
            logs[log] = Guess(place, sure, why)
    if "impressions" not in logs:
        raise ConfigError(
            "init: no impressions among the folders: expected one with a time, a user's id and an item's id per row;"
            " name it with --impressions"
        )
    return {log: logs[log] for log in LOGS if log in logs}, notes


def _log_of(excerpt: Excerpt) -> tuple[str | None, bool, str]:
    """What a folder holds, whether its name agrees, and why."""
    words = _words(excerpt.place)
    has = {name: any(_tier(name, column) is not None for column in excerpt.columns) for name in SYNONYMS}
    clicks = any((_tier("click_time", column) or 9) < 2 or column == "click_time" for column in excerpt.columns)
    named = _last(excerpt.place)
    if words & _WORDS["clicks"] or (clicks and not (has["user_id"] and has["item_id"])):
        return (
            "clicks",
            bool(words & _WORDS["clicks"]),
            f"named {named}" if words & _WORDS["clicks"] else "a click's time",
        )
    if has["user_id"] and has["item_id"] and _has_time(excerpt):
        return (
            "impressions",
            bool(words & (_WORDS["impressions"] | _WORDS["ads"])),
            "a time, a user and an item per row",
        )
    for log, key in (("items", "item_id"), ("users", "user_id")):
        if has[key] and words & _WORDS[log]:
            return log, True, f"named {named}, with an id of {log}"
    for log, key, other in (("items", "item_id", "user_id"), ("users", "user_id", "item_id")):
        if has[key] and not has[other]:
            return log, False, f"it has an id of {log} and no {other}"
    return (
        None,
        False,
        f"its columns {', '.join(excerpt.columns)} are not recognised as impressions, clicks, users or items",
    )


def _has_time(excerpt: Excerpt) -> bool:
    return any(_tier("event_time", name) is not None or _readable(values) for name, values in excerpt.columns.items())


def _by_place(log: str, guess: Guess, excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt]) -> Excerpt:
    return given[log] if log in given else next(one for one in excerpts if one.place == guess.value)


def _form(found: Mapping[str, Excerpt]) -> tuple[Guess, dict[str, Guess]]:
    forms = {excerpt.form for excerpt in found.values()}
    if len(forms) > 1:
        each = ", ".join(f"{log} {excerpt.form}" for log, excerpt in found.items())
        raise ConfigError(
            f"init: source.format is one for all logs, and these differ: {each}; rewrite them in one format"
        )
    files = sum(excerpt.files for excerpt in found.values())
    form = Guess(next(iter(forms)), True, f"by the content of {files} file{'s' if files > 1 else ''}")
    return form, _dialect(found) if form.value == "csv" else {}


def _dialect(found: Mapping[str, Excerpt]) -> dict[str, Guess]:
    delimiters = {excerpt.delimiter: log for log, excerpt in found.items() if excerpt.delimiter}
    if len(delimiters) > 1:
        each = ", ".join(f"{log} by {delimiter!r}" for delimiter, log in delimiters.items())
        raise ConfigError(
            f"init: source.csv.delimiter is one for all logs, and these differ: {each}; rewrite one of them"
        )
    dialect = {}
    if delimiters and (delimiter := next(iter(delimiters))) != ",":
        dialect["delimiter"] = Guess(delimiter, True, "it splits every line into as many fields as the header")
    if any(excerpt.escapes for excerpt in found.values()):
        dialect["escape"] = Guess(
            "\\", False, 'there are \\" in the files; if these stand for themselves, remove this line'
        )
    encoded = [excerpt.encodings for excerpt in found.values() if excerpt.encodings]
    common = [name for name in encoded[0] if all(name in other for other in encoded)] if encoded else ["utf-8"]
    if not common:
        raise ConfigError(
            "init: source.csv.encoding is one for all logs, and these differ; rewrite one of them in utf-8"
        )
    if common != ["utf-8"]:
        read = "; ".join(f"as {name}: {encoded[0][name]}" for name in common)
        certain = common[0] if len(common) == 1 else None
        dialect["encoding"] = Guess(certain, False, f"a line that is not UTF-8 reads {read}")
    return dialect


# Which column is which.


def _columns(log: str, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]) -> dict[str, Guess]:
    """The columns of a log that the raw contract asks for, by their names there."""
    excerpt, chosen = found[log], dict[str, Guess]()
    for name in _WANTED[log]:
        if name == "domain" and "ads" in found:
            continue
        free = [column for column in excerpt.columns if column not in {guess.value for guess in chosen.values()}]
        if name == "event_id" and log == "clicks":
            guess = _clicked_event(excerpt, found, before)
        elif name == "domain":
            guess = _domain(excerpt, free)
        else:
            guess = _column(name, excerpt, free, _keys(name, found, log))
        if name == "clicked" and "clicks" in found and guess.value is not None and guess.value != "clicked":
            continue  # the clicks log has their times, which count
        if guess.value is None and name in _OPTIONAL and (name != "clicked" or "clicks" in found):
            continue
        chosen[name] = guess
    taken = {guess.value for guess in chosen.values()}
    rest = [column for column in excerpt.columns if column not in taken]
    for column in rest:
        if column.lower() in chosen:
            chosen[f"logged_{column.lower()}"] = Guess(column, True, f"{column.lower()} is another column")
        elif "." in column and excerpt.columns[column].kind == "text" and _normal(column) not in chosen:
            chosen[_normal(column)] = Guess(column, True, f"a nested value: {_examples(excerpt.columns[column])}")
    return chosen


def _column(name: str, excerpt: Excerpt, free: Sequence[str], keys: Mapping[str, set[str]]) -> Guess:
    """The column of the lowest tier whose values fit. `keys` has the values of tables' ids, by their column."""
    fit = _FIT.get(name, _identifies)
    tiers = {column: tier for column in free if (tier := _tier(name, column)) is not None}
    fitting = {column: tier for column, tier in tiers.items() if fit(excerpt.columns[column])}
    unfit = [f"{column} ({_examples(excerpt.columns[column])})" for column in tiers if column not in fitting]
    if not fitting and name in ("event_time", "click_time"):
        fitting = {column: 9 for column in free if _readable(excerpt.columns[column])}
    if not fitting:
        why = (
            f"the values of {', '.join(unfit)} {_UNFIT.get(name, 'are none')}"
            if unfit
            else "no column is named like it"
        )
        return Guess(None, False, f"{why}; the columns are {', '.join(free)}")
    best = [column for column, tier in fitting.items() if tier == min(fitting.values())]
    known = [column for column in best if keys and _known(excerpt.columns[column], keys)]
    others = [column for column in fitting if column not in best[:1]]
    if len(best) > 1 and len(known) != 1:
        several = "; ".join(f"{column} ({_examples(excerpt.columns[column])})" for column in best)
        return Guess(None, False, f"several columns fit as well: {several}")
    chosen = known[0] if len(best) > 1 else best[0]
    evidence = _evidence(name, excerpt, chosen)
    if chosen != best[0] or len(best) > 1:
        return Guess(
            chosen,
            False,
            f"rather than {', '.join(set(best) - {chosen})}, for its values are ids in the table; {evidence}",
        )
    if fitting[chosen] == 0:
        return Guess(chosen, True, evidence)
    if others:
        return Guess(chosen, False, f"{evidence}; {', '.join(others)} would fit too")
    doubtful = fitting[chosen] > 2 or (name == "clicked" and fitting[chosen] > 1)
    return Guess(chosen, not doubtful and "repeat" not in evidence, evidence)


def _clicked_event(clicks: Excerpt, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]) -> Guess:
    """The column of clicks that names the impression: the one whose values are ids of impressions."""
    ids: set[str] = set()
    own = [before[log]["event_id"].value for log in _SHOWN if log in before]
    for log in _SHOWN:
        if log in before and before[log]["event_id"].value is not None:
            ids.update(filter(None, found[log].columns[before[log]["event_id"].value].values))
    candidates = [column for column in clicks.columns if column in own or _tier("event_id", column) is not None]
    shares = {column: _share(clicks.columns[column], ids) for column in candidates}
    if not candidates:
        return Guess(
            None, False, f"no column is named like an impression's id; the columns are {', '.join(clicks.columns)}"
        )
    best = max(candidates, key=lambda column: (shares[column], column in own))
    whole = all(found[log].whole for log in _SHOWN if log in found)
    evidence = f"{shares[best]:.0%} of its values are ids of impressions{'' if whole else ' of the excerpt'}"
    if shares[best] == 0 and (whole or len(candidates) > 1):
        why = f"none of the values of {', '.join(candidates)} is an id of an impression"
        return Guess(None, False, f"{why}: {_examples(clicks.columns[best])}")
    return Guess(best, shares[best] > 0.5 or (best in own and not whole), evidence)


def _domain(excerpt: Excerpt, free: Sequence[str]) -> Guess:
    """The column that tells ads from natural content, by its values."""
    by_tier: dict[int, list[str]] = {}
    for column in free:
        tier, values = _tier("domain", column), set(excerpt.columns[column].values) - {None}
        kinds = {_meant(column, value) for value in values if value}
        if tier is not None and len(values) <= 20 and "ad" in kinds:
            by_tier.setdefault(tier, []).append(column)
    if not by_tier:
        few = [column for column in free if 1 < len(set(excerpt.columns[column].values)) <= 20]
        seen = (
            "; ".join(f"{column}: {_common(excerpt.columns[column])}" for column in few) or "no column has few values"
        )
        return Guess(
            None,
            False,
            f"no column has values such as natural, ad, feed, sponsored ({seen}); if ads are logged apart, name their"
            " folder with --ads",
        )
    best = by_tier[min(by_tier)]
    if len(best) > 1:
        return Guess(
            None,
            False,
            "several columns fit as well: "
            + "; ".join(f"{column} ({_common(excerpt.columns[column])})" for column in best),
        )
    return Guess(best[0], min(by_tier) < 2, _common(excerpt.columns[best[0]]))


def _domains(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> dict[str, Guess]:
    """The values of the domain's column that stand for natural content and for ads, beside natural and ad."""
    guess = columns["impressions"].get("domain")
    if guess is None or guess.value is None:
        return {}
    values = Counter(filter(None, found["impressions"].columns[guess.value].values))
    meant: dict[str, list[str]] = {"natural": [], "ad": []}
    unknown: list[str] = []
    for value in sorted(values):
        word = _meant(guess.value, value)
        (meant[word] if word else unknown).append(value)
    if not unknown and all(value in ("natural", "ad") for value in values):
        return {}
    total = sum(values.values())
    domains = {}
    for word, own in meant.items():
        share = ", ".join(f"{value} {values[value] / total:.1%}" for value in own)
        plain = [value for value in own if value != word]
        if own:
            strict = all(value in _FLAGS or _normal(value) in _AD | {"natural", "organic", "feed"} for value in own)
            domains[word] = Guess(plain, strict and not unknown, f"of the rows: {share}")
        else:
            domains[word] = Guess(None, False, f"no value looks like it: {', '.join(values)}")
    if unknown:
        lost = ", ".join(f"{value} ({values[value] / total:.1%})" for value in unknown)
        domains = {
            word: Guess(one.value, False, f"{one.why}. In neither list, so quarantined unless you add it: {lost}")
            for word, one in domains.items()
        }
    return domains


def _meant(column: str, value: str) -> str | None:
    """The domain that a value stands for."""
    words = set(_normal(value).split("_")) | {_normal(value)}
    if value.lower() in _FLAGS:
        return _FLAGS[value.lower()] if set(_normal(column).split("_")) & (_AD | {"sponsored"}) else None
    if words & _AD and not words & {"non", "not", "no"}:
        return "ad"
    return "natural" if words & _NATURAL or words & {"non", "not", "no"} else None


def _keys(name: str, found: Mapping[str, Excerpt], log: str) -> dict[str, set[str]]:
    """The values of the columns of a table that may be its ids."""
    table = {"user_id": "users", "item_id": "items"}.get(name)
    if table is None or table not in found or table == log:
        return {}
    columns = {column: one for column, one in found[table].columns.items() if _tier(name, column) is not None}
    return {column: set(filter(None, one.values)) for column, one in columns.items()}


def _known(values: Values, keys: Mapping[str, set[str]]) -> bool:
    return any(_share(values, ids) > 0.5 for ids in keys.values())


def _share(values: Values, ids: set[str]) -> float:
    there = [value for value in values.values if value is not None]
    return sum(value in ids for value in there) / len(there) if there else 0.0


def _evidence(name: str, excerpt: Excerpt, column: str) -> str:
    values = excerpt.columns[column]
    if name in ("event_time", "click_time", "valid_from"):
        read = [(value, time) for value in values.values if value and (time := read_time(value, values.kind))]
        forms = Counter(time.form + (" without a zone" if time.local else "") for _, time in read)
        said = ", ".join(f"{text} = {_written(time)}" for text, time in _spread(read))
        bad = sum(value is not None for value in values.values) - len(read)
        return f"{' and '.join(forms)}: {said}" + (f"; {bad:,} cannot be read" if bad else "")
    if name == "event_id":
        there = [value for value in values.values if value]
        repeated = len(there) - len(set(there))
        said = f"{repeated:,} of {len(there):,} values repeat" if repeated else f"{len(there):,} values, all different"
        return f"{said}: {_examples(values)}"
    if name == "clicked":
        there = [value for value in values.values if value]
        return (
            f"{sum(value in ('1', '1.0', 'true') for value in there) / max(1, len(there)):.2%} of the rows are clicked"
        )
    return f"{len(set(filter(None, values.values))):,} different values: {_examples(values)}"


def _identifies(values: Values) -> bool:
    return values.kind == "text" and any(values.values)


def _is_event_id(values: Values) -> bool:
    there = [value for value in values.values if value]
    return values.kind == "text" and bool(there) and len(set(there)) >= 0.8 * len(there)


def _is_time(values: Values) -> bool:
    there = [value for value in values.values if value]
    read = sum(read_time(value, values.kind) is not None for value in there[:_MOST_TOKENS])
    return bool(there) and read >= _TIME * len(there[:_MOST_TOKENS])


def _readable(values: Values) -> bool:
    """Whether values are times whatever their column is called: ten digits alone are as likely an id."""
    if values.kind in ("timestamp", "local time"):
        return True
    there = [value for value in values.values if value][:_MOST_TOKENS]
    return bool(there) and all((time := read_time(value)) and time.form == "ISO 8601" for value in there)


def _is_flag(values: Values) -> bool:
    return bool(there := {value.lower() for value in values.values if value}) and there <= _CLICKED


_FIT: dict[str, Callable[[Values], bool]] = {
    "event_id": _is_event_id, "event_time": _is_time, "click_time": _is_time, "valid_from": _is_time,
    "clicked": _is_flag,
}  # fmt: skip
_UNFIT = {
    "event_id": "repeat too often to name an impression",
    "event_time": "cannot be read as times",
    "click_time": "cannot be read as times",
    "clicked": "are not 0 and 1",
}


# Times, days and zones.


def _times(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> dict[str, list[Time]]:
    """All times that were read, and those of impressions."""
    read: dict[str, list[Time]] = {"all": [], "shown": []}
    for log in columns:
        for name in ("event_time", "click_time", "valid_from"):
            guess = columns[log].get(name)
            if guess is None or guess.value is None:
                continue
            values = found[log].columns[guess.value]
            times = [time for value in values.values if value and (time := read_time(value, values.kind))]
            read["all"] += times
            read["shown"] += times if log in _SHOWN else []
    return read


def _source(times: Mapping[str, list[Time]]) -> dict[str, Guess]:
    local = sum(time.local for time in times["all"])
    numbers = sorted({time.form for time in times["all"] if time.form.startswith(("epoch", "yyyy"))})
    zone = Guess("UTC", False, f"{local:,} times of the excerpts name no zone: they are taken for UTC; say which it is")
    settings = {"timezone": zone} if local else {}
    if numbers:
        settings["time_unit"] = Guess("auto", True, f"told by the number of digits: {', '.join(numbers)}")
    return settings


def _calendar(found: Mapping[str, Excerpt], times: Mapping[str, list[Time]]) -> dict[str, Guess]:
    shown = times["shown"]
    if not shown:
        why = "the time of impressions is not known yet"
        return {"timezone": Guess("UTC", False, "the zone in which days begin"), "first_day": Guess(None, False, why)}
    first, last = min(time.at for time in shown), max(time.at for time in shown)
    rows, whole = len(shown), all(found[log].whole for log in _SHOWN if log in found)
    seen = f"the earliest of {rows:,} times{'' if whole else ' of an excerpt'}; the latest is of {last.date()}"
    begun = f"; the logs begin at {first:%H:%M} that day" if first.hour >= 3 else ""
    by_hour = Counter(time.at.hour for time in shown)
    quiet = min(range(24), key=lambda hour: sum(by_hour[(hour + more) % 24] for more in range(6)))
    few = sum(by_hour[(quiet + more) % 24] for more in range(6)) / rows
    night = f"; fewest events ({few:.0%}) are from {quiet:02d}:00 to {(quiet + 6) % 24:02d}:00 UTC" if few < 0.1 else ""
    return {
        "timezone": Guess("UTC", False, f"the zone in which days begin, which logs do not say{night}"),
        "first_day": Guess(str(first.date()), whole and not begun, f"{seen}{begun}"),
    }


def _offset(zone: str | None) -> dt.timedelta:
    if zone is None or zone[0] not in "+-":
        return dt.timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (1 if zone[0] == "+" else -1) * dt.timedelta(hours=hours, minutes=minutes)


def _written(time: Time) -> str:
    return f"{time.at:%Y-%m-%d %H:%M:%S}{'' if time.local else ' UTC'}"


# Features.


def _features(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> list[Feature]:
    """Ids of the user, the item, their attributes and the context; counts and click rates; the user's clicks."""
    features = [
        Feature("user_id", {"kind": "id", "source": "user_id", "basic": True}, "the user"),
        Feature("item_id", {"kind": "id", "source": "item_id", "basic": True}, "the item"),
    ]
    category = None
    for log, holder in (("items", "item"), ("users", "user"), ("impressions", "context"), ("ads", "context")):
        known = {feature.name for feature in features}
        for name, values in _others(log, found, columns):
            feature = _feature(holder, name, values)
            is_category = holder == "item" and _normal(name) in _CATEGORIES and category is None
            if is_category and feature.declared and feature.declared["kind"] == "id":
                category = f"item.{name}"
                feature = feature._replace(declared={**feature.declared, "basic": True})
            if feature.name not in known:
                features.append(feature)
    return [*features, *_counted(category)]


def _others(
    log: str, found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]
) -> Iterable[tuple[str, Values]]:
    """The columns of a log beyond those of the raw contract, by the names that they have after ingest."""
    if log not in found:
        return
    named = {guess.value: name for name, guess in columns[log].items()}
    for column, values in found[log].columns.items():
        name = named.get(column, column)
        if name in _WANTED[log] or (name == "domain" and log == "impressions"):
            continue
        yield name, values


def _feature(holder: str, name: str, values: Values) -> Feature:
    """A feature of a column, or why it is none."""
    label = re.sub("[^A-Za-z0-9]+", "_", name).strip("_")
    own = label if holder == "context" else f"{holder}_{label}"
    own = own if re.match("[A-Za-z]", own) and own.lower() not in _RESERVED else f"{holder}_{own}"
    source = f"{holder}.{name}"
    there = [value for value in values.values if value is not None]
    distinct, rows = len(set(there)), len(there)
    seen = f"{distinct:,} different values: {_common(values) if distinct <= 5 else _examples(values)}"
    if values.kind == "nested":
        return Feature(own, None, f"{source} is a list")
    if distinct < 2:
        return Feature(own, None, f"{source} has {'one value only' if distinct else 'no value'} in the excerpt")
    after = set(_normal(name).split("_")) & _AFTER if holder == "context" else set()
    if after:
        return Feature(own, None, f"{source} looks like something that is known only after the impression ({seen})")
    if _is_time(values) and (values.kind != "text" or _readable(values) or _tier("event_time", name) is not None):
        return Feature(own, None, f"{source} is a time")
    if distinct <= _MOST_TOKENS and distinct <= rows / 2:
        return Feature(own, {"kind": "id", "source": source}, seen)
    if not re.search("(^|_)(id|uuid|hash|code|zip)$", _normal(name)) and all(
        re.fullmatch(r"\d+(\.\d+)?", value) for value in there
    ):
        return Feature(own, {"kind": "number", "source": source}, f"numbers, {seen}")
    return Feature(own, None, f"{source} has {distinct:,} different values in {rows:,} rows: an id, or free text")


_RESERVED = (
    "event_id",
    "event_time",
    "user",
    "item",
    "label",
    "click_day",
    "weight",
    "domain",
    "ds",
    "context",
    "click_time",
    "index",
    "key",
    "salts",
    "so_far",
)


def _counted(category: str | None) -> list[Feature]:
    """Counts and click rates up to yesterday, as in conf/base.yaml."""
    counts = [
        ("user_id", "natural", "impressions", 28),
        ("user_id", "ad", "impressions", 7),
        ("item_id", "natural", "clicks", 7),
        ("item_id", "ad", "impressions", 28),
    ]
    rates = [
        ("user_id", "natural", 28),
        ("item_id", "natural", 28),
        ("item_id", "ad", 28),
        *([(category, "natural", 7)] if category else []),
    ]
    short = {"user_id": "user", "item_id": "item", category: "category"}
    return [
        *(
            Feature(
                f"{short[entity]}_{domain}_{measure}_{days}",
                {"kind": "count", "entity": entity, "domain": domain, "measure": measure, "days": days},
                "",
            )
            for entity, domain, measure, days in counts
        ),
        *(
            Feature(
                f"{short[entity]}_{domain}_rate_{days}",
                {"kind": "rate", "entity": entity, "domain": domain, "days": days},
                "",
            )
            for entity, domain, days in rates
        ),
        Feature(
            "recent_clicks", {"kind": "behaviours", "of": "item_id", "length": 20}, "the user's last natural clicks"
        ),
    ]


# Words and examples.


def _normal(name: str) -> str:
    """A name in lower case with underscores: requestID, request-id and Request.Id are request_id."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub("[^a-z0-9]+", "_", parted.lower()).strip("_")


def _tier(name: str, column: str) -> int | None:
    """The tier of SYNONYMS[name] that the column's name is in; 0 is the name itself."""
    if column == name:
        return 0
    tiers = (tier for tier, synonyms in enumerate(SYNONYMS[name]) if _normal(column) in synonyms)
    tier = next(tiers, None)
    return tier if tier is None else max(tier, 1)


def _last(place: str) -> str:
    return place.rstrip("/").rsplit("/", 1)[-1]


def _words(place: str) -> set[str]:
    return set(_normal(_last(place)).split("_"))


def _examples(values: Values) -> str:
    return ", ".join(_cut(value) for value in _spread(list(dict.fromkeys(value for value in values.values if value))))


def _common(values: Values) -> str:
    counts = Counter(value for value in values.values if value)
    return ", ".join(
        f"{_cut(value)} ({rows:,})" for value, rows in sorted(counts.most_common(8), key=lambda one: (-one[1], one[0]))
    )


def _cut(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}..."


def _spread(several: Sequence[Any]) -> list[Any]:
    """The first, one in the middle and the last."""
    if len(several) <= _EXAMPLES:
        return list(several)
    return [several[0], several[len(several) // 2], several[-1]]
