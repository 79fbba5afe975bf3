"""Which folder is which log, and how their files are written, as `ecdctr init` proposes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ecdctr_spark.proposing.evidence import Guess, is_flag
from ecdctr_spark.proposing.words import LOG_WORDS, normal, tier_of
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import LOGS
from ecdctr_spark.sources.excerpts import Excerpt
from ecdctr_spark.sources.times import all_iso


def proposed_logs(excerpts: Sequence[Excerpt], given: Mapping[str, Excerpt]) -> tuple[dict[str, Guess], list[str]]:
    """The place of each log, and what was recognised as none. Raises ConfigError where the impressions are not."""
    found: dict[str, list[tuple[str, bool, str]]] = {}
    notes = []
    for excerpt in excerpts:
        log, sure, why = _log_of(excerpt)
        if log is None:
            notes.append(f"{excerpt.place} is left out: {why}")
        elif log in given:
            notes.append(f"{excerpt.place} is left out: it looks like {log}, which are given")
        else:
            found.setdefault(log, []).append((excerpt.place, sure, why))
    shown = found.get("impressions", [])
    ads = [one for one in shown if _words(one[0]) & LOG_WORDS["ads"]]
    if len(shown) == 2 and len(ads) == 1:
        found["impressions"] = [one for one in shown if one not in ads]
        found["ads"] = [
            (ads[0][0], False, f"impressions too, in a folder named {_last(ads[0][0])}: taken to be ads alone")
        ]
    logs = {log: Guess(excerpt.place, True, "given") for log, excerpt in given.items()}
    for log in [log for log in LOGS if log in found]:
        (place, sure, why), *more = found[log]
        if more:
            several = ", ".join(place for place, *_ in found[log])
            logs[log] = Guess(None, False, f"several folders look like {log}: {several}")
        else:
            logs[log] = Guess(place, sure, why)
    if (shown_guess := logs.get("impressions")) and shown_guess.value is None:
        raise ConfigError(f"init: {shown_guess.why}; name it with --impressions, and that of ads, if apart, with --ads")
    if "impressions" not in logs:
        raise ConfigError(
            "init: no impressions among the folders: expected one with a time, a user's id and an item's id per row;"
            f" name it with --impressions. {'; '.join(notes)}"
        )
    return {log: logs[log] for log in LOGS if log in logs}, notes


def _log_of(excerpt: Excerpt) -> tuple[str | None, bool, str]:
    """What a folder holds, whether its name says so too, and why."""
    words, named = _words(excerpt.place), f"named {_last(excerpt.place)}"
    has = {
        name: any(tier_of(name, column) is not None for column in excerpt.columns) for name in ("user_id", "item_id")
    }
    flagged = any(tier_of("clicked", name) is not None and is_flag(one) for name, one in excerpt.columns.items())
    named_so, clicks = bool(words & LOG_WORDS["impressions"]), bool(words & LOG_WORDS["clicks"])
    event = flagged or named_so or (_has_time(excerpt) and not clicks)
    if has["user_id"] and has["item_id"] and event:
        why = "a user and an item per row, with a time or a click"
        by_name = named_so or bool(words & LOG_WORDS["ads"])
        return "impressions", by_name, f"{named}: {why}" if by_name else why
    if clicks:
        return "clicks", True, named
    if named_so and (has["user_id"] or has["item_id"]) and _has_time(excerpt):
        return "impressions", False, f"{named}: a time, and the id of {'a user' if has['user_id'] else 'an item'}"
    if any(tier_of("click_time", column) in (0, 1) for column in excerpt.columns):
        return "clicks", False, "a click's time"
    for log, key in (("items", "item_id"), ("users", "user_id")):
        if has[key] and words & LOG_WORDS[log]:
            return log, True, f"{named}, with an id of {log}"
    for log, key, other in (("items", "item_id", "user_id"), ("users", "user_id", "item_id")):
        if has[key] and not has[other]:
            return log, False, f"it has an id of {log} and no {other}"
    unknown = f"its columns {', '.join(excerpt.columns)}"
    return None, False, f"{unknown} are not recognised as those of impressions, clicks, users or items"


def _has_time(excerpt: Excerpt) -> bool:
    return any(tier_of("event_time", name) is not None or all_iso(values) for name, values in excerpt.columns.items())


def proposed_form(found: Mapping[str, Excerpt]) -> tuple[Guess, dict[str, Guess]]:
    """source.format, and source.csv where it is not the default. Raises ConfigError where logs would need several."""
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


def _last(place: str) -> str:
    return place.rstrip("/").rsplit("/", 1)[-1]


def _words(place: str) -> set[str]:
    return set(normal(_last(place)).split("_"))
