"""Which column of a log is which of the raw contract, as `ecdctr init` proposes it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ecdctr_spark.proposing.domains import domain_column
from ecdctr_spark.proposing.evidence import VAGUE, Guess, examples, is_flag, spread
from ecdctr_spark.proposing.words import normal, tier_of
from ecdctr_spark.sources.excerpts import Excerpt, Values
from ecdctr_spark.sources.times import all_iso, all_milliseconds, mostly_times, read_time

WANTED = {
    "impressions": ("event_id", "event_time", "user_id", "item_id", "domain", "clicked"),
    "ads": ("event_id", "event_time", "user_id", "item_id", "clicked"),
    "clicks": ("event_id", "click_time"),
    "users": ("user_id", "valid_from"),
    "items": ("item_id", "valid_from"),
}
SHOWN = ("impressions", "ads")  # the logs of impressions
_OPTIONAL = ("clicked", "valid_from")


def proposed_columns(
    log: str, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]
) -> dict[str, Guess]:
    """The columns of a log that the raw contract asks for, by their names there."""
    excerpt, chosen = found[log], dict[str, Guess]()
    for name in WANTED[log]:
        free = [column for column in excerpt.columns if column not in {guess.value for guess in chosen.values()}]
        if name == "event_id" and log == "clicks":
            chosen[name] = _clicked_event(excerpt, found, before)
        elif name == "domain" and "ads" not in found:
            chosen[name] = domain_column(excerpt, free)
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


def other_columns(log: str, excerpt: Excerpt, columns: Mapping[str, Guess]) -> dict[str, Values]:
    """The columns of a log beyond those of the raw contract, by the names that they have after ingest, without those
    that may be one of it."""
    named = {guess.value: name for name, guess in columns.items()}
    open_ = {column for guess in columns.values() for column in guess.among}
    there = {named.get(column, column): values for column, values in excerpt.columns.items() if column not in open_}
    return {name: values for name, values in there.items() if name not in (*WANTED[log], "domain", "click_time")}


def _column(name: str, excerpt: Excerpt, free: Sequence[str], keys: Mapping[str, set[str]]) -> Guess:
    """The column of the lowest tier whose values fit. `keys` has the values of tables' ids, by their column."""
    fit = _FIT.get(name, _identifies)
    tiers = {column: tier for column in free if (tier := tier_of(name, column)) is not None}
    fitting = {column: tier for column, tier in tiers.items() if fit(excerpt.columns[column])}
    unfit = [f"{column} ({examples(excerpt.columns[column])})" for column in tiers if column not in fitting]
    if not fitting and name in ("event_time", "click_time"):
        fitting = {column: 9 for column in free if all_iso(excerpt.columns[column])}
        fitting = fitting or {column: 9 for column in free if all_milliseconds(excerpt.columns[column])}
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
        return Guess(None, False, f"several columns fit as well: {several}", tuple(best))
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
        return Guess(chosen, False, f"{evidence}{VAGUE}")
    return Guess(chosen, name != "event_id" or not _repeated(excerpt.columns[chosen]), evidence)


def _clicked_event(clicks: Excerpt, found: Mapping[str, Excerpt], before: Mapping[str, Mapping[str, Guess]]) -> Guess:
    """The column of clicks that names the impression: the one whose values are ids of impressions."""
    own = [before[log]["event_id"].value for log in SHOWN if log in before]
    ids = _event_ids(found, before)
    candidates = [column for column in clicks.columns if column in own or tier_of("event_id", column) is not None]
    shares = {column: _share(clicks.columns[column], ids) for column in candidates}
    if not candidates:
        return Guess(
            None, False, f"no column is named like an impression's id; the columns are {', '.join(clicks.columns)}"
        )
    best = max(candidates, key=lambda column: (shares[column], column in own))
    whole = all(found[log].whole for log in SHOWN if log in found)
    evidence = f"{shares[best]:.0%} of its values are ids of impressions{'' if whole else ' of the excerpt'}"
    if shares[best] == 0 and (whole or len(candidates) > 1):
        why = f"none of the values of {', '.join(candidates)} is an id of an impression"
        return Guess(None, False, f"{why}: {examples(clicks.columns[best])}")
    return Guess(best, shares[best] > 0.5 or (best in own and not whole), evidence)


def _event_ids(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> set[str]:
    """The ids of the impressions whose columns are known."""
    ids: set[str] = set()
    for log in SHOWN:
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
        said = ", ".join(
            f"{text} = {time.at:%Y-%m-%d %H:%M:%S}{'' if time.local else ' UTC'}" for text, time in spread(read)
        )
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
