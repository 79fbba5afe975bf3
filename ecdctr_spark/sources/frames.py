"""Frames of files that differ in the names, number or types of their columns, as one frame by the raw contract."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
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
    StructType,
)

from ecdctr_spark.sources.raw import CORRUPT
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


def renamed(frame: DataFrame, names: Mapping[str, str]) -> DataFrame:
    """The frame by the raw contract: columns that `names` gives by their own name get the name that it gives them for.
    A name that is no column's may lead into a struct; that value becomes a column beside the struct.

    Raises ValueError that names what the frame lacks, or the column that has a name already given to another.
    """
    to = {own: canonical for canonical, own in names.items()}
    known = [name for name in frame.columns if name != CORRUPT]
    paths = {own: _path(frame.schema, own) for own in to if own not in known}
    for own in [own for own, path in paths.items() if path is None]:
        raise ValueError(f"there is no column {own} to be {to[own]}{_nearest(own, known)}")
    taken = {canonical.lower(): own for canonical, own in names.items()}
    for name in [name for name in known if name not in to and name.lower() in taken]:
        own = taken[name.lower()]
        raise ValueError(
            f"there is a column {name} beside {own}, which is to be {to[own]}; give {name} another name too, such as"
            f" {{logged_{name}: {name}}}"
        )
    plain = [frame[quoted(name)].alias(to.get(name, name)) for name in frame.columns]
    return frame.select(*plain, *(path.alias(to[own]) for own, path in paths.items() if path is not None))


def with_domains(frame: DataFrame, values: Mapping[str, Sequence[str]]) -> DataFrame:
    """The frame with `domain` in the words of the raw contract, where `values` has those that the log has for them.
    Other values stay as they are."""
    text = as_text(frame["domain"], frame.schema["domain"].dataType)
    meant = F.coalesce(*(F.when(F.trim(text).isin(*own), word) for word, own in values.items() if own), text)
    return frame.withColumn("domain", meant)


def quoted(name: str) -> str:
    """A column's literal name for Spark: a dot in it is no path."""
    return f"`{name.replace('`', '``')}`"


def no_text(value: Column) -> Column:
    """Whether the bytes of a string column are not UTF-8: an expression sees a character there that the bytes lack."""
    return value.rlike(_REPLACED) & ~value.contains(_REPLACED)


def _path(schema: StructType, name: str) -> Column | None:
    """The value within a struct that dots in the name lead to, None where there is none."""
    parts = name.split(".")
    kind: DataType = schema
    for part in parts:
        if not isinstance(kind, StructType) or part == CORRUPT or part not in kind.names:
            return None
        kind = kind[part].dataType
    return F.col(".".join(map(quoted, parts)))


def _nearest(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; the nearest one is {nearest[0]}" if nearest else f"; those are {', '.join(known)}"


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
