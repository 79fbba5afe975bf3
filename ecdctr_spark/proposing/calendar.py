"""Times of logs, and from them zone, unit and first day, as `ecdctr init` proposes them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ecdctr_spark.proposing.columns import SHOWN
from ecdctr_spark.proposing.evidence import Guess
from ecdctr_spark.sources.excerpts import Excerpt
from ecdctr_spark.sources.times import Time, read_time


def times_of(found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]]) -> dict[str, list[Time]]:
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
            read["shown"] += times if log in SHOWN else []
    return read


def proposed_units(times: Mapping[str, list[Time]]) -> dict[str, Guess]:
    """Settings of the source that times ask for: the zone of those that name none, the unit of numbers."""
    local = sum(time.local for time in times["all"])
    numbers = sorted({time.form for time in times["all"] if time.form.startswith(("epoch", "yyyy"))})
    zone = Guess("UTC", False, f"{local:,} times of the excerpts name no zone: they are taken for UTC; say which it is")
    settings = {"timezone": zone} if local else {}
    if numbers:
        settings["time_unit"] = Guess("auto", True, f"known by the number of digits: {', '.join(numbers)}")
    return settings


def proposed_calendar(found: Mapping[str, Excerpt], times: Mapping[str, list[Time]]) -> dict[str, Guess]:
    """The zone in which days begin, and the first day of impressions."""
    shown = times["shown"]
    if not shown:
        why = "the time of impressions is not known yet"
        return {"timezone": Guess("UTC", False, "the zone in which days begin"), "first_day": Guess(None, False, why)}
    first, last = min(time.at for time in shown), max(time.at for time in shown)
    rows, whole = len(shown), all(found[log].whole for log in SHOWN if log in found)
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
