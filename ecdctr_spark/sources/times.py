"""Times as ingest reads them, one by one and without Spark: the twin of values.as_time, with source.time_unit auto."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import NamedTuple

from ecdctr_spark.sources.excerpts import Values
from ecdctr_spark.sources.values import EPOCH, FIRST_YEAR, LAST_YEAR

_DATE = r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
_CLOCK = r"[T ]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ISO = re.compile(rf"{_DATE}(?:{_CLOCK})?\s?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$", re.IGNORECASE)
_EPOCHS = {unit: re.compile(rf"{ticks}(?:\.\d+)?$") for unit, ticks in EPOCH.items()}
_PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_HOURS = re.compile(r"(?:199\d|20\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])$")
_MILLISECONDS = re.compile(r"[1-4]\d{12}")
_UTC = dt.timezone.utc
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=_UTC)
_LOOKED = 1_000  # values of a column that are read to tell whether it is one of times
_MOSTLY = 0.9


class Time(NamedTuple):
    """A time as it was read: its form, and the moment, in UTC where it names no zone (`local`)."""

    form: str
    at: dt.datetime
    local: bool


def read_time(text: str, kind: str = "text") -> Time | None:
    """A time as ingest reads it with source.time_unit auto, None where it reads none."""
    for unit, ticks in _EPOCHS.items():
        if ticks.match(text) and not (unit == "seconds" and _HOURS.match(text)):
            micros = int(Decimal(text) * 10**6 / _PER_SECOND[unit])
            return Time(f"epoch {unit}", _EPOCH + dt.timedelta(microseconds=micros), False)
    found = _ISO.match(text)
    if found is None:
        return None
    part = {name: int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")}
    micros = int((found["fraction"] or "").ljust(6, "0")[:6])
    try:
        moment = dt.datetime(**part, microsecond=micros, tzinfo=_UTC) - _offset(found["zone"])
    except (ValueError, OverflowError):
        return None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        return None
    form = "timestamp" if kind == "timestamp" else "yyyymmdd" if text.isdigit() else "ISO 8601"
    return Time(form, moment, found["zone"] is None and kind != "timestamp")


def mostly_times(values: Values) -> bool:
    """Whether nearly all values of a column can be read as times."""
    there = [value for value in values.values if value][:_LOOKED]
    read = sum(read_time(value, values.kind) is not None for value in there)
    return bool(there) and read >= _MOSTLY * len(there)


def all_iso(values: Values) -> bool:
    """Whether values are times whatever their column is called. Digits alone are as likely an id."""
    if values.kind in ("timestamp", "local time"):
        return True
    there = [value for value in values.values if value][:_LOOKED]
    return bool(there) and all((time := read_time(value)) and time.form == "ISO 8601" for value in there)


def all_milliseconds(values: Values) -> bool:
    """Whether values are milliseconds of the epoch whatever their column is called: 13 digits, of 2001 or later."""
    there = [value for value in values.values if value][:_LOOKED]
    return bool(there) and all(_MILLISECONDS.fullmatch(value) and read_time(value) for value in there)


def _offset(zone: str | None) -> dt.timedelta:
    if zone is None or zone[0] not in "+-":
        return dt.timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (1 if zone[0] == "+" else -1) * dt.timedelta(hours=hours, minutes=minutes)
