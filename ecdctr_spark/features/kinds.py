"""The Spark column that a feature of each kind becomes in a sample.

Everything else that a kind determines (sources, reserved rows, look-back) is in settings/features.py, without Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from ecdctr_spark.features.columns import is_number, number_column
from ecdctr_spark.settings.features import Behaviours, Count, Feature, Id, Number, Rate

Starts = Mapping[str, int]  # for a feature with reserved rows, the first of its unknown or bucket rows


def sample_column(feature: Feature, starts: Starts) -> Column:
    """The feature as a column of samples_table, never null: int for an index, float for a number, binary for a
    sequence. It is read from labelled rows with the struct `index` (vocabulary.encoded) and with the counters and
    behaviours by name (past.with_past)."""
    return COLUMNS[feature.kind](feature, starts).alias(feature.name)


def _id(feature: Id, _: Starts) -> Column:
    return F.col("index")[feature.name]


def _number(feature: Number, _: Starts) -> Column:
    known = F.when(is_number(feature.source), F.log1p(F.greatest(number_column(feature.source), F.lit(0.0))))
    return F.coalesce(known, F.lit(0.0)).cast("float")


def _count(feature: Count, starts: Starts) -> Column:
    bits = F.length(F.bin(F.col(feature.name) + 1))  # floor(log2(1 + n)) + 1, without rounding
    return (starts[feature.name] + F.least(bits, F.lit(feature.buckets)) - 1).cast("int")


def _as_joined(feature: Rate | Behaviours, _: Starts) -> Column:
    return F.col(feature.name)


COLUMNS: dict[str, Callable[[Any, Starts], Column]] = {
    "id": _id,
    "number": _number,
    "count": _count,
    "rate": _as_joined,
    "behaviours": _as_joined,
}
