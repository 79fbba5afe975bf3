"""Raw values of any type as canonical text, identifiers and times.

Logs come from writers that agree on nothing: one has ids as integers, another as floats or text; one has times as epoch
seconds, another as ISO 8601. The same thing must come out the same, and what cannot be told must not come out at all:
these functions give null for it, and ingest quarantines the row with a reason.
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    MapType,
    NullType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

FIRST_YEAR, LAST_YEAR = 1990, 2100  # a time outside them is a broken clock or a misread unit
_START, _END = 631_152_000, 4_133_980_800  # these years in epoch seconds, the end excluded
_TICKS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}  # per second

_EXACT = {FloatType: 2**24, DoubleType: 2**53}  # above, neighbouring whole numbers become equal
_PLAIN = r"^[!-~]+$"  # printable ASCII without a space
_PADDING = r"^[\s\p{Z}\p{Cc}\p{Cf}]+|[\s\p{Z}\p{Cc}\p{Cf}]+$"  # no-break and zero-width spaces too
_NESTED = r'^(\{"|\{\}|\[)'  # JSON where a value was expected
_DECIMAL_ZEROS = r"^([+-]?\d+)\.0+$"
_NOTHING = ("null", "none", "nan", "nat", "<na>", "\\n", "undefined")  # how writers spell a missing value

_NUMBER = r"^\d{1,19}(\.\d+)?$"
_FRACTION = r"(?:[.,]\d{1,9})?"
_ZONE = r" ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
_BASIC = rf"^\d{{8}}(?:[T ]?\d{{4}}(?:\d{{2}}{_FRACTION})?(?:{_ZONE})?)?$"
_LOCAL = rf"^\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}{_FRACTION})?)?$"
_ZONED = rf"^\d{{4}}-\d{{2}}-\d{{2}}[T ]\d{{2}}:\d{{2}}(?::\d{{2}}{_FRACTION})?{_ZONE}$"


class Clock(NamedTuple):
    """How times are written: the zone of those that name none, and the unit of numbers ("auto": by magnitude)."""

    zone: str = "UTC"
    unit: str = "auto"


def as_text(value: Column, kind: DataType) -> Column:
    """The canonical text of a value: 7, 7.0 and 7.00 of any numeric type are "7", times are ISO 8601 (with Z unless
    they have no zone), nested values are JSON. Null for binary values that are not UTF-8."""
    if isinstance(kind, FloatType | DoubleType):
        whole = (value == F.floor(value)) & (F.abs(value) <= F.lit(_EXACT[type(kind)]))
        return F.when(whole, value.cast("bigint").cast("string")).otherwise(value.cast("string"))
    if isinstance(kind, DecimalType):
        text = value.cast("string")
        return F.regexp_replace(text, r"\.?0+$", "") if kind.scale else text
    if isinstance(kind, TimestampType):
        return F.concat(F.translate(value.cast("string"), " ", "T"), F.lit("Z"))
    if isinstance(kind, TimestampNTZType):
        return F.translate(value.cast("string"), " ", "T")
    if isinstance(kind, BinaryType):
        text = value.cast("string")
        return F.when(F.encode(text, "UTF-8") == value, text)
    if isinstance(kind, StructType | ArrayType | MapType):
        return F.to_json(value)
    return value.cast("string")


def identifies(kind: DataType) -> bool:
    """Whether values of the type can be identifiers: text and numbers, and columns without any value."""
    return isinstance(kind, StringType | BinaryType | IntegralType | DecimalType | FloatType | DoubleType | NullType)


def as_id(value: Column, kind: DataType) -> Column:
    """The canonical text of an identifier, without spaces around it. Null where it is missing (see is_missing), holds a
    control character, is a fraction, a floating-point number too large to be exact, or a JSON object or array.

    Text that ends in `.0` is a whole number that was a float on its way.
    """
    if isinstance(kind, FloatType | DoubleType):
        text = as_text(value, kind)
        return F.when(text.rlike(r"^-?\d+$"), text)
    if isinstance(kind, DecimalType):
        text = as_text(value, kind)
        return F.when(~text.contains("."), text) if kind.scale else text
    if isinstance(kind, IntegralType):
        return value.cast("string")
    text = as_text(value, kind)
    stripped = F.regexp_replace(F.regexp_replace(text, _PADDING, ""), _DECIMAL_ZEROS, "$1")
    tidy = F.when(~stripped.rlike(rf"\p{{Cc}}|{_NESTED}") & (stripped != ""), stripped)
    plain = text.rlike(_PLAIN) & ~text.contains(".") & ~text.contains("[") & ~text.contains("{")
    return F.when(~F.lower(text).isin(*_NOTHING), F.when(plain, text).otherwise(tidy))


def is_missing(value: Column, kind: DataType) -> Column:
    """Whether a raw value is missing: null, empty, nothing but spaces of any kind, or a writer's word for null."""
    bare = F.regexp_replace(as_text(value, kind), _PADDING, "")  # null where bytes are no text, which is not missing
    return value.isNull() | F.coalesce((bare == "") | F.lower(bare).isin(*_NOTHING), F.lit(False))


def as_time(value: Column, kind: DataType, clock: Clock) -> Column:
    """A timestamp, null where none can be told.

    Read are timestamps with and without a zone, dates (their midnight), ISO 8601 text, extended or basic, with or
    without a zone, and numbers: by magnitude, epoch seconds, milliseconds, microseconds or nanoseconds of the years
    FIRST_YEAR to LAST_YEAR, whose ranges are disjoint, or yyyymmdd. With a declared unit a number is in that unit.
    """
    if isinstance(kind, TimestampType):
        return value
    if isinstance(kind, TimestampNTZType | DateType):
        return _in_zone(value.cast("timestamp"), clock)
    if isinstance(kind, IntegralType):
        return _of_number(value.cast("bigint"), value.cast("string"), clock)
    if isinstance(kind, FloatType | DoubleType | DecimalType):
        return _of_number(value.cast("double"), as_text(value, kind), clock)
    text = F.upper(F.trim(as_text(value, kind)))
    return F.when(text.rlike(_NUMBER), _of_number(text.cast("double"), text, clock)).otherwise(_of_iso(text, clock))


def time_form(value: Column, kind: DataType, clock: Clock) -> Column:
    """The form in which as_time reads a value, for people: "ISO 8601 with a zone", "epoch seconds". Null where it
    cannot be read."""
    text = F.upper(F.trim(as_text(value, kind)))
    if isinstance(kind, TimestampType):
        form: Column = F.lit("timestamp")
    elif isinstance(kind, TimestampNTZType | DateType):
        form = F.lit(f"{kind.simpleString()} in {clock.zone}")
    else:
        numeric = isinstance(kind, IntegralType | DecimalType | FloatType | DoubleType)
        number = value.cast("double") if numeric else F.when(text.rlike(_NUMBER), text.cast("double"))
        units = [clock.unit] if clock.unit in _TICKS else list(_TICKS)
        epochs = [F.when(_within(number, unit), f"epoch {unit}") for unit in units]
        zoned = F.when(_extended(text).rlike(_ZONED), "with a zone")
        iso = F.concat(F.lit("ISO 8601 "), F.coalesce(zoned, F.lit(f"in {clock.zone}")))
        form = F.coalesce(*epochs, F.when(number.isNotNull(), f"yyyymmdd in {clock.zone}"), iso)
    return F.when(as_time(value, kind, clock).isNotNull(), form)


def _of_number(number: Column, text: Column, clock: Clock) -> Column:
    """The time of a number, whose text is that of as_text."""
    if clock.unit in _TICKS:
        return _of_ticks(number, clock.unit, number.between(0, _END * _TICKS[clock.unit]))
    date = F.when(text.rlike(_BASIC), _of_iso(text, clock))
    if clock.unit == "yyyymmdd":
        return date
    return F.coalesce(*(_of_ticks(number, unit, _within(number, unit)) for unit in _TICKS), date)


def _within(number: Column, unit: str) -> Column:
    return (number >= _START * _TICKS[unit]) & (number < _END * _TICKS[unit])


def _of_ticks(number: Column, unit: str, possible: Column) -> Column:
    if unit == "nanoseconds":  # beyond what a double holds
        micros = F.floor(number.cast("decimal(20, 0)") / 1000)
    else:
        micros = F.round(number * (1_000_000 // _TICKS[unit]))
    return F.when(possible, F.timestamp_micros(micros.cast("bigint")))


def _of_iso(text: Column, clock: Clock) -> Column:
    extended = _extended(text)
    whole = F.regexp_replace(F.translate(extended, ",", "."), r"^(\d{4}-\d{2}-\d{2})$", "$1T00:00:00")
    iso = F.regexp_replace(whole, r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})(?!:)", "$1:00")
    local = F.try_to_timestamp(F.concat(iso, F.lit("Z")))
    zoned = F.try_to_timestamp(F.regexp_replace(iso, " ?(UTC|GMT)$", "Z"))
    return F.when(extended.rlike(_LOCAL), _in_zone(local, clock)).when(extended.rlike(_ZONED), zoned)


def _extended(iso: Column) -> Column:
    """ISO 8601 in its extended form: 20240105T1020 as 2024-01-05T10:20."""
    dated = F.regexp_replace(iso, r"^(\d{4})(\d{2})(\d{2})[T ]?", "$1-$2-$3T")
    timed = F.regexp_replace(F.regexp_replace(dated, r"T(\d{2})(\d{2})", "T$1:$2"), r"(T\d{2}:\d{2})(\d{2})", "$1:$2")
    return F.when(iso.rlike(_BASIC), F.regexp_replace(timed, "T$", "")).otherwise(iso)


def _in_zone(local: Column, clock: Clock) -> Column:
    return local if clock.zone == "UTC" else F.to_utc_timestamp(local, clock.zone)
