"""Values of any type as one canonical text."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType, TimestampNTZType, TimestampType


def as_text(value: Column, kind: DataType) -> Column:
    """The text of a value of this type: digits, ISO 8601 (with Z for a moment), true or false, JSON."""
    if isinstance(kind, TimestampType):
        return F.concat(F.translate(value.cast("timestamp_ntz").cast("string"), " ", "T"), F.lit("Z"))
    if isinstance(kind, TimestampNTZType):
        return F.translate(value.cast("string"), " ", "T")
    if isinstance(kind, StructType | ArrayType | MapType):
        return F.to_json(value)
    return value.cast("string")
