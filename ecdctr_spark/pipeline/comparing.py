"""What a report compares: the differences between methods with their intervals, and the calibration of each.

Spark computes both from all predictions. They are kept with the version of the predictions that they are of, so that a
report without new predictions needs no Spark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ecdctr_spark.evaluation.calibration import reliability
from ecdctr_spark.evaluation.metrics import overall
from ecdctr_spark.evaluation.significance import Interval, gauc_difference
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import CALIBRATION, COMPARISONS, METRICS, PREDICTIONS
from ecdctr_spark.tables.small import Row, among, literal, read_rows, replace_rows
from ecdctr_spark.tables.store import Store

_BINS = 10
_SEED = 11  # of the bootstrap: the same predictions give the same interval


class Comparison(NamedTuple):
    """The first method's GAUC less that of each other, by the other; and rows of `calibration.reliability` for all."""

    against: Mapping[str, Interval]
    reliability: Sequence[Row]


def compare(store: Store, methods: Sequence[str], resamples: int) -> Comparison:
    """The comparison of methods, by identity, on all that they have predicted, and their METRICS over all days. Spark
    computes them only where the predictions have changed since it last did. Raises ConfigError where there are no
    predictions."""
    version = pinned.version(store.place(PREDICTIONS))
    return _kept(store, methods, resamples, version) or _computed(store, methods, resamples, version)


def is_compared(store: Store, methods: Sequence[str], resamples: int) -> bool:
    """Whether Spark has nothing to compute for `compare`, and nothing is written."""
    return _kept(store, methods, resamples, pinned.version(store.place(PREDICTIONS))) is not None


def _kept(store: Store, methods: Sequence[str], resamples: int, version: int) -> Comparison | None:
    first, *others = methods
    intervals = {
        row["baseline"]: Interval(row["difference"], row["low"], row["high"], row["users"])
        for row in read_rows(store.root, COMPARISONS)
        if (row["method"], row["version"], row["resamples"]) == (first, version, resamples)
    }
    bins = [row for row in read_rows(store.root, CALIBRATION) if row["version"] == version and row["method"] in methods]
    if not intervals.keys() >= set(others) or {row["method"] for row in bins} != set(methods):
        return None
    rated = [row for row in read_rows(store.root, METRICS) if row["date"] is None]
    if not all(_agree(*([row for row in rows if row["method"] == name] for rows in (rated, bins))) for name in methods):
        return None
    return Comparison({other: intervals[other] for other in others}, bins)


def _agree(rated: Sequence[Row], bins: Sequence[Row]) -> bool:
    """Whether METRICS of a method over all days are of the predictions that its bins hold: METRICS may have been put
    back from before. They count both, rounded by domain."""
    impressions = sum(row["impressions"] for row in bins)
    clicks = sum(row["impressions"] * row["click_rate"] for row in bins)
    counted = (("impressions", impressions), ("clicks", clicks))
    return all(abs(sum(row[name] for row in rated) - number) < max(len(rated), 1) for name, number in counted)


def _computed(store: Store, methods: Sequence[str], resamples: int, version: int) -> Comparison:
    first, *others = methods
    predictions = store.read(PREDICTIONS, version).where(among("method", methods))
    rated = [row.asDict() for row in overall(predictions).collect()]
    replace_rows(store.root, METRICS, rated, f"date is null and {among('method', methods)}")
    against = {other: gauc_difference(predictions, first, other, resamples, _SEED) for other in others}
    bins = [row.asDict() for row in reliability(predictions, _BINS).collect()]
    made_of = {"method": first, "resamples": resamples, "version": version}
    rows = [{**made_of, "baseline": other, **vars(interval)} for other, interval in against.items()]
    # The rows by which a comparison is known to be done come last.
    replace_rows(store.root, COMPARISONS, rows, f"method = {literal(first)} and {among('baseline', others)}")
    replace_rows(store.root, CALIBRATION, [{**row, "version": version} for row in bins], among("method", methods))
    return Comparison(against, bins)
