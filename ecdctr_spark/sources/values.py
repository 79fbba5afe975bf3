"""Raw values of any type as canonical text, identifiers and times.

Logs come from writers that agree on nothing: one has ids as integers, another as floats or text; one has times as epoch
seconds, another as ISO 8601. The same thing must come out the same, and what is ambiguous must not come out at all:
these functions give null for it, and ingest quarantines the row with a reason.

An identifier is text or a whole number of any type: 7, 7.0 and "7" are one user, and a number that was rounded on its
way (1.23E+17) is none. A time is a timestamp, ISO 8601, `yyyymmdd`, or epoch seconds, milliseconds, microseconds or
nanoseconds, distinguished by magnitude within the years 1990 to 2100; `source.time_unit` and `source.timezone` declare
what is ambiguous. Nested values become JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
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

_EXACT = {FloatType: 2**24, DoubleType: 2**53}  # above, neighbouring whole numbers become equal
_PLAIN = r"^[!-~&&[^.\[{]]+$"  # printable ASCII that needs no second look
PADDING = r"^[\s\p{Z}\p{Cc}\p{Cf}]+|[\s\p{Z}\p{Cc}\p{Cf}]+$"  # no-break and zero-width spaces too
_TIDY = r'^(?!\{"|\{\}|\[(?:[\]\[{"\d-]|null|true|false))\P{Cc}+$'  # no control character, and no JSON object or array
_SCIENTIFIC = r"^[+-]?\d+\.\d+[Ee][+-]?\d+$|^[+-]?\d+[Ee]\+\d+$|^[+-]?Infinity$"  # 1.23E+17: rounded, as by Excel
_JAVA = r"^-?\d\.\d+E\d{1,2}$"  # 1.0E7: a double as Java writes it, all digits there
DECIMAL_ZEROS = r"^([+-]?\d+)\.0+$"
NOTHING = ("null", "none", "nan", "nat", "<na>", "\\n", "undefined")  # how writers spell a missing value

# Epoch ticks of about these years: the number of digits tells the unit, and no yyyymmdd begins like one.
EPOCH = {
    "seconds": r"([6-9]\d{8}|[1-4]\d{9})",
    "milliseconds": r"([6-9]\d{11}|[1-4]\d{12})",
    "microseconds": r"([6-9]\d{14}|[1-4]\d{15})",
    "nanoseconds": r"([6-9]\d{14}|[1-4]\d{15})\d{3}",
}
# yyyymmddhh, which could also be epoch seconds of 2033 to 2036: it is neither, unless the unit is declared.
_HOUR = r"^(?:199\d|20\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])$"
_DECLARED = {"seconds": (12, 1_000_000), "milliseconds": (15, 1_000), "microseconds": (18, 1)}  # digits, microseconds
_FRACTION = r"(?:\.(\d+))?"
_OFFSET = r" ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
_DAY_AND_TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?"


class Clock(NamedTuple):
    """How times are written: the zone of those that name none, and the unit of numbers: seconds, milliseconds,
    microseconds, yyyymmdd, or auto (by magnitude)."""

    zone: str = "UTC"
    unit: str = "auto"


def as_text(value: Column, kind: DataType) -> Column:
    """The canonical text of a value: 7, 7.0 and 7.00 of any numeric type are "7", times are ISO 8601 (with Z unless
    they have no zone), nested values are JSON. Null for binary values that are not UTF-8."""
    if isinstance(kind, FloatType | DoubleType):
        whole = (value == F.floor(value)) & (F.abs(value) <= F.lit(_EXACT[type(kind)]))
        # Java writes 17044488005E-1 as 1.7044488005E9, which no reader of times expects.
        plain = F.regexp_replace(value.cast("decimal(26, 6)").cast("string"), "0+$", "")
        large = F.abs(value).between(1e7, 1e15)
        digits = F.when(whole, value.cast("bigint").cast("string")).when(large, plain)
        return F.coalesce(digits, value.cast("string"))
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
    control character, is a fraction, a number that was rounded (1.23E+17, or a double too large to be exact), or a
    JSON object or array.

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
    stripped = F.regexp_replace(F.regexp_replace(text, PADDING, ""), DECIMAL_ZEROS, "$1")
    tidy = F.when(stripped.rlike(_TIDY), stripped)
    number = as_id(F.when(text.rlike(_JAVA), text).cast("double"), DoubleType())
    usual = F.when(~F.lower(text).isin(*NOTHING), F.when(text.rlike(_PLAIN), text).otherwise(tidy))
    return F.when(text.rlike(_SCIENTIFIC), number).otherwise(usual)


def is_missing(value: Column, kind: DataType) -> Column:
    """Whether a raw value is missing: null, empty, nothing but spaces of any kind, or a writer's word for null."""
    bare = F.regexp_replace(as_text(value, kind), PADDING, "")  # null where bytes are no text, which is not missing
    return value.isNull() | F.coalesce((bare == "") | F.lower(bare).isin(*NOTHING), F.lit(False))


def as_time(value: Column, kind: DataType, clock: Clock) -> Column:
    """A timestamp, null where none can be read.

    Read are timestamps with and without a zone, dates (their midnight), ISO 8601 text, extended or basic, with or
    without a zone, and numbers: by magnitude, epoch seconds, milliseconds, microseconds or nanoseconds of the years
    FIRST_YEAR to LAST_YEAR, whose ranges are disjoint, or yyyymmdd. With a declared unit a number is in that unit.
    """
    if isinstance(kind, TimestampType):
        return value
    if isinstance(kind, TimestampNTZType | DateType):
        local = value.cast("timestamp")
        return local if clock.zone == "UTC" else F.to_utc_timestamp(local, clock.zone)
    text = _time_text(value, kind)
    iso = _extended(text, clock)
    written = F.when(iso.rlike(rf"^{_DAY_AND_TIME}(?:{_OFFSET}| \Q{clock.zone}\E)$"), F.try_to_timestamp(iso))
    if clock.unit in _DECLARED:
        digits, micros = _DECLARED[clock.unit]
        ticks = F.when(text.rlike(rf"^\d{{1,{digits}}}{_FRACTION}$"), text.cast("double"))
        epoch = F.timestamp_micros(F.round(ticks * micros).cast("bigint"))
        return F.when(text.rlike(r"^[\d.]+$"), epoch).otherwise(written)
    if clock.unit == "yyyymmdd":
        return written
    micros_text = _in_microseconds(text)
    epoch = F.when(micros_text.rlike(f"^{EPOCH['microseconds']}$"), F.timestamp_micros(micros_text.cast("bigint")))
    return F.coalesce(epoch, written)


def time_form(value: Column, kind: DataType, clock: Clock) -> Column:
    """The form of a value that as_time can read, for people: "ISO 8601 with a zone", "epoch seconds"."""
    if isinstance(kind, TimestampType | TimestampNTZType | DateType):
        return F.lit("timestamp" if isinstance(kind, TimestampType) else f"{kind.simpleString()} in {clock.zone}")
    text = _time_text(value, kind)
    number = text.rlike(r"^[\d.]+$")
    epochs = [F.when(text.rlike(f"^{ticks}{_FRACTION}$"), f"epoch {unit}") for unit, ticks in EPOCH.items()]
    if clock.unit != "auto":
        epochs = [F.when(number, f"epoch {clock.unit}")] if clock.unit in _DECLARED else []
    local = _extended(text, Clock(zone="LOCAL")).endswith(" LOCAL")
    iso = F.when(local, f"ISO 8601 in {clock.zone}").otherwise("ISO 8601 with a zone")
    return F.coalesce(*epochs, F.when(number, f"yyyymmdd in {clock.zone}"), iso)


def _time_text(value: Column, kind: DataType) -> Column:
    """A number as digits, or text in capitals."""
    if isinstance(kind, FloatType | DoubleType):
        possible = F.when(value.between(0, 1e19), value)  # a NaN would fail the conversion, and the whole job
        value, kind = possible.cast("decimal(26, 6)"), DecimalType(26, 6)
    return F.upper(F.trim(as_text(value, kind)))


def _in_microseconds(text: Column) -> Column:
    """Digits of epoch ticks as digits of microseconds; other text may come out changed, but never as such digits."""
    steps = {
        _HOUR: "",
        rf"^{EPOCH['nanoseconds']}$": "$1",
        rf"^{EPOCH['seconds']}{_FRACTION}$": "$1.$2000000",
        r"^(\d{9,10})\.(\d{6})\d*$": "$1$2",
        rf"^{EPOCH['milliseconds']}{_FRACTION}$": "$1.$2000",
        r"^(\d{12,13})\.(\d{3})\d*$": "$1$2",
    }
    return _replaced(text, steps)


def _extended(text: Column, clock: Clock) -> Column:
    """ISO 8601 in its longest form, extended, with seconds and a zone: 20240105T1020 as 2024-01-05T10:20:00 UTC.

    Each step changes only what has the form that it expects. Nothing is named twice, since Spark would generate its
    code twice, and again for each further step.
    """
    rest = rf"(?=(?:\d{{4}}(?:\d{{2}}(?:[.,]\d{{1,9}})?)?(?:{_OFFSET})?)?$)"
    steps = {
        rf"^(\d{{4}})(\d{{2}})(\d{{2}})[T ]?{rest}": "$1-$2-$3T",
        r"T(\d{2})(\d{2})": "T$1:$2",
        r"(T\d{2}:\d{2})(\d{2})": "$1:$2",
        r"^(\d{4}-\d{2}-\d{2})T?$": "$1T00:00:00",
        r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})(?!:)": "$1:00",
        r"(:\d{2}),(\d{1,9})": "$1.$2",
        rf"^({_DAY_AND_TIME})$": f"$1 {clock.zone}",
    }
    return _replaced(text, steps)


def _replaced(text: Column, steps: Mapping[str, str]) -> Column:
    """Each pattern replaced in turn."""
    return reduce(lambda changed, step: F.regexp_replace(changed, *step), steps.items(), text)
