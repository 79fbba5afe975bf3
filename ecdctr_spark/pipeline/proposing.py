"""`ecdctr init`: from excerpts of raw logs to a proposed configuration. Pure.

Each proposal is a guess with its evidence. A guess that names and values agree on is sure; one that they leave open is
marked, to be checked; and where they name nothing, or several things that fit as well, nothing is proposed: a wrong
column would train a wrong model in silence.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ecdctr_spark.pipeline.evidence import Guess, common, examples, is_flag, spread
from ecdctr_spark.pipeline.proposed_features import Feature, proposed_features
from ecdctr_spark.pipeline.proposed_logs import proposed_form, proposed_logs
from ecdctr_spark.pipeline.words import AD_WORDS, FLAGS, NATURAL_WORDS, normal, tier_of
from ecdctr_spark.settings.sources import LOGS
from ecdctr_spark.sources.excerpts import Excerpt, Values
from ecdctr_spark.sources.times import Time, all_iso, mostly_times, read_time

_WANTED = {
    "impressions": ("event_id", "event_time", "user_id", "item_id", "domain", "clicked"),
    "ads": ("event_id", "event_time", "user_id", "item_id", "clicked"),
    "clicks": ("event_id", "click_time"),
    "users": ("user_id", "valid_from"),
    "items": ("item_id", "valid_from"),
}
_OPTIONAL = ("clicked", "valid_from")
_SHOWN = ("impressions", "ads")


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


def propose(excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt]) -> Proposal:
    """A configuration for logs of these excerpts. `given` are those that the user has said what they are.

    Raises ConfigError where no impressions are among them, or they cannot be read with one source.format.
    """
    logs, notes = proposed_logs(excerpts, given)
    places = {one.place: one for one in (*excerpts, *given.values())}
    found = {log: places[guess.value] for log, guess in logs.items() if guess.value is not None}
    form, dialect = proposed_form(found)
    columns: dict[str, dict[str, Guess]] = {}
    for log in LOGS:  # impressions first: the names of the others are compared with theirs
        if log in found:
            columns[log] = _columns(log, found, columns)
    domains = _domains(found, columns)
    times = _times(found, columns)
    features = proposed_features({log: _others(log, found[log], columns[log]) for log in found})
    last = max((time.at.date() for time in times["shown"]), default=None)
    return Proposal(
        form, dialect, logs, columns, domains, _source(times), _calendar(found, times), features, last, notes
    )


# Which column is which.


def _columns(log: str, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]) -> dict[str, Guess]:
    """The columns of a log that the raw contract asks for, by their names there."""
    excerpt, chosen = found[log], dict[str, Guess]()
    for name in _WANTED[log]:
        free = [column for column in excerpt.columns if column not in {guess.value for guess in chosen.values()}]
        if name == "event_id" and log == "clicks":
            chosen[name] = _clicked_event(excerpt, found, before)
        elif name == "domain" and "ads" not in found:
            chosen[name] = _domain(excerpt, free)
        elif name != "domain":
            guess = _column(name, excerpt, free, _keys(name, found, log))
            if name == "event_id" and log == "ads":
                guess = _apart(guess, excerpt, _event_ids(found, before))
            if name not in _OPTIONAL or (name == "clicked" and "clicks" not in found):
                chosen[name] = guess
            elif guess.value == "clicked":
                why = f"{guess.why}; it decides what was clicked, the clicks log does not"
                chosen[name] = Guess("clicked", False, why)
            elif name == "valid_from" and guess.value is not None:
                chosen[name] = guess
    return chosen | _renamed(excerpt, chosen)


def _renamed(excerpt: Excerpt, chosen: Mapping[str, Guess]) -> dict[str, Guess]:
    """Names for the other columns: those that have the name of a chosen one, and nested values."""
    taken, known, names = {guess.value for guess in chosen.values()}, excerpt.columns, dict[str, Guess]()
    for column in [column for column in known if column not in taken]:
        if (other := chosen.get(column.lower())) is not None and other.value is not None:
            names[f"logged_{column.lower()}"] = Guess(column, True, f"{column.lower()} is another column")
        elif "." in column and known[column].kind == "text" and normal(column) not in {*chosen, *known, *names}:
            names[normal(column)] = Guess(column, True, f"a nested value: {examples(known[column])}")
    return names


def _column(name: str, excerpt: Excerpt, free: Sequence[str], keys: Mapping[str, set[str]]) -> Guess:
    """The column of the lowest tier whose values fit. `keys` has the values of tables' ids, by their column."""
    fit = _FIT.get(name, _identifies)
    tiers = {column: tier for column in free if (tier := tier_of(name, column)) is not None}
    fitting = {column: tier for column, tier in tiers.items() if fit(excerpt.columns[column])}
    unfit = [f"{column} ({examples(excerpt.columns[column])})" for column in tiers if column not in fitting]
    if not fitting and name in ("event_time", "click_time"):
        fitting = {column: 9 for column in free if all_iso(excerpt.columns[column])}
    if not fitting:
        why = (
            f"the values of {', '.join(unfit)} {_UNFIT.get(name, 'are no ids')}"
            if unfit
            else "no column is named like it"
        )
        return Guess(None, False, f"{why}; the columns are {', '.join(free)}{_REMEDY.get(name, '')}")
    best = [column for column, tier in fitting.items() if tier == min(fitting.values())]
    known = [column for column in best if keys and _known(excerpt.columns[column], keys)]
    others = [column for column in fitting if column not in best[:1]]
    if len(best) > 1 and len(known) != 1:
        several = "; ".join(f"{column} ({examples(excerpt.columns[column])})" for column in best)
        return Guess(None, False, f"several columns fit as well: {several}")
    chosen = known[0] if len(best) > 1 else best[0]
    evidence = _evidence(name, excerpt, chosen)
    if len(best) > 1:
        rather = ", ".join(column for column in best if column != chosen)
        return Guess(chosen, False, f"rather than {rather}, for its values are ids in the table; {evidence}")
    if fitting[chosen] == 0:
        return Guess(chosen, True, evidence)
    if others:
        return Guess(chosen, False, f"{evidence}; {', '.join(others)} would fit too")
    doubtful = fitting[chosen] > 2 or (name == "clicked" and fitting[chosen] > 1)
    if doubtful:
        return Guess(chosen, False, f"{evidence}{_VAGUE}")
    return Guess(chosen, name != "event_id" or not _repeated(excerpt.columns[chosen]), evidence)


def _clicked_event(clicks: Excerpt, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]) -> Guess:
    """The column of clicks that names the impression: the one whose values are ids of impressions."""
    own = [before[log]["event_id"].value for log in _SHOWN if log in before]
    ids = _event_ids(found, before)
    candidates = [column for column in clicks.columns if column in own or tier_of("event_id", column) is not None]
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
        return Guess(None, False, f"{why}: {examples(clicks.columns[best])}")
    return Guess(best, shares[best] > 0.5 or (best in own and not whole), evidence)


def _event_ids(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> set[str]:
    """The ids of the impressions whose columns are known."""
    ids: set[str] = set()
    for log in _SHOWN:
        if log in columns and (column := columns[log]["event_id"].value) is not None:
            ids.update(filter(None, found[log].columns[column].values))
    return ids


def _apart(guess: Guess, ads: Excerpt, others: set[str]) -> Guess:
    """The guess, not sure where ads have ids that other impressions have too: of equal ids one row is kept."""
    if guess.value is None or not (share := _share(ads.columns[guess.value], others)):
        return guess
    return Guess(
        guess.value, False, f"{guess.why}; {share:.0%} are ids of other impressions too: one row of each is kept"
    )


def _domain(excerpt: Excerpt, free: Sequence[str]) -> Guess:
    """The column that tells ads from natural content, by its values."""
    by_tier: dict[int, list[str]] = {}
    for column in free:
        tier, values = tier_of("domain", column), set(excerpt.columns[column].values) - {None}
        kinds = {_meant(column, value) for value in values if value}
        if tier is not None and len(values) <= 20 and "ad" in kinds:
            by_tier.setdefault(tier, []).append(column)
    if not by_tier:
        few = [column for column in free if 1 < len(set(excerpt.columns[column].values)) <= 20]
        seen = "; ".join(f"{column}: {common(excerpt.columns[column])}" for column in few) or "no column has few values"
        return Guess(
            None,
            False,
            f"no column has values such as natural, ad, feed, sponsored ({seen}); give one, and source.domains for its"
            " values; or, if ads are logged apart, name their folder with --ads",
        )
    best = by_tier[min(by_tier)]
    if len(best) > 1:
        return Guess(
            None,
            False,
            "several columns fit as well: "
            + "; ".join(f"{column} ({common(excerpt.columns[column])})" for column in best),
        )
    seen = common(excerpt.columns[best[0]])
    return Guess(best[0], True, seen) if min(by_tier) < 2 else Guess(best[0], False, f"{seen}; by its values{_VAGUE}")


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
            strict = all(
                value.lower() in FLAGS or normal(value) in AD_WORDS | {"natural", "organic", "feed"} for value in own
            )
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
    words = set(normal(value).split("_")) | {normal(value)}
    if value.lower() in FLAGS:
        return FLAGS[value.lower()] if set(normal(column).split("_")) & (AD_WORDS | {"sponsored"}) else None
    if words & AD_WORDS and not words & {"non", "not", "no"}:
        return "ad"
    return "natural" if words & NATURAL_WORDS or words & {"non", "not", "no"} else None


def _keys(name: str, found: Mapping[str, Excerpt], log: str) -> dict[str, set[str]]:
    """The values of the columns of a table that may be its ids."""
    table = {"user_id": "users", "item_id": "items"}.get(name)
    if table is None or table not in found or table == log:
        return {}
    columns = {column: one for column, one in found[table].columns.items() if tier_of(name, column) is not None}
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
        said = ", ".join(f"{text} = {_written(time)}" for text, time in spread(read))
        bad = sum(value is not None for value in values.values) - len(read)
        return f"{' and '.join(forms)}: {said}" + (f"; {bad:,} cannot be read" if bad else "")
    if name == "event_id":
        there = [value for value in values.values if value]
        repeated = _repeated(values)
        said = f"{repeated:,} of {len(there):,} values repeat" if repeated else f"{len(there):,} values, all different"
        return f"{said}: {examples(values)}"
    if name == "clicked":
        there = [value for value in values.values if value]
        return (
            f"{sum(value in ('1', '1.0', 'true') for value in there) / max(1, len(there)):.2%} of the rows are clicked"
        )
    return f"{len(set(filter(None, values.values))):,} different values: {examples(values)}"


def _repeated(values: Values) -> int:
    there = [value for value in values.values if value]
    return len(there) - len(set(there))


def _identifies(values: Values) -> bool:
    return values.kind == "text" and any(values.values)


def _is_event_id(values: Values) -> bool:
    there = [value for value in values.values if value]
    return values.kind == "text" and bool(there) and len(set(there)) >= 0.8 * len(there)


_FIT: dict[str, Callable[[Values], bool]] = {
    "event_id": _is_event_id, "event_time": mostly_times, "click_time": mostly_times, "valid_from": mostly_times,
    "clicked": is_flag,
}  # fmt: skip
_VAGUE = "; the name could mean something else"
_REMEDY = {
    "event_id": "; rows without an id of their own need one where they are written",
    "clicked": "; or name the folder of clicks with --clicks",
}
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
        settings["time_unit"] = Guess("auto", True, f"known by the number of digits: {', '.join(numbers)}")
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


def _written(time: Time) -> str:
    return f"{time.at:%Y-%m-%d %H:%M:%S}{'' if time.local else ' UTC'}"


def _others(log: str, excerpt: Excerpt, columns: Mapping[str, Guess]) -> dict[str, Values]:
    """The columns of a log beyond those of the raw contract, by the names that they have after ingest."""
    named = {guess.value: name for name, guess in columns.items()}
    there = {named.get(column, column): values for column, values in excerpt.columns.items()}
    return {name: values for name, values in there.items() if name not in (*_WANTED[log], "domain", "click_time")}
