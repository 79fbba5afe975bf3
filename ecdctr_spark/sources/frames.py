"""Frames of files of one folder that differ in columns or types, as one frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql.types import (
    ByteType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
)

from ecdctr_spark.sources.values import as_text

_MOST_DIGITS = 38
_REPLACED = "\ufffd"


def combined(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of the frames, columns by name; a column that a frame lacks is null there. A column of several types
    becomes the widest if all are whole numbers, all floating or all decimal, else text (values.as_text)."""
    kinds: dict[str, set[DataType]] = defaultdict(set)
    for field in (field for frame in frames for field in frame.schema):
        kinds[field.name].add(field.dataType)
    common = {name: _common(found) for name, found in kinds.items()}
    alike = [frame.select(*(_as(common[field.name], frame, field) for field in frame.schema)) for frame in frames]
    return reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), alike)


def quoted(name: str) -> str:
    """A column's literal name for Spark: a dot in it is no path."""
    return f"`{name.replace('`', '``')}`"


def no_text(value: Column) -> Column:
    """Whether the bytes of a string column are not UTF-8: an expression sees a character there that the bytes lack."""
    return value.rlike(_REPLACED) & ~value.contains(_REPLACED)


def _as(kind: DataType, frame: DataFrame, field: StructField) -> Column:
    value = frame[quoted(field.name)]
    if kind == field.dataType:
        return value
    return (as_text(value, field.dataType) if kind == StringType() else value.cast(kind)).alias(field.name)


def _common(kinds: set[DataType]) -> DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    if all(isinstance(kind, ByteType | ShortType | IntegerType | LongType) for kind in kinds):
        return LongType()
    if all(isinstance(kind, FloatType | DoubleType) for kind in kinds):
        return DoubleType()
    decimals = [kind for kind in kinds if isinstance(kind, DecimalType)]
    if len(decimals) == len(kinds):
        scale = max(kind.scale for kind in decimals)
        digits = scale + max(kind.precision - kind.scale for kind in decimals)
        return DecimalType(digits, scale) if digits <= _MOST_DIGITS else StringType()
    return StringType()
