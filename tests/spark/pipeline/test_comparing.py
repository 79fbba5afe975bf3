"""A comparison is computed by Spark once for each version of the predictions, and read without it afterwards."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.pipeline.comparing import compare
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import METRICS, PREDICTIONS
from ecdctr_spark.tables.small import read_rows, replace_rows
from ecdctr_spark.tables.store import Store
from tests.sessions import UNUSED

OURS, OTHER = "ours-1", "other-2"


def predicted(store: Store, day: int, wrong: str) -> None:
    """Predictions of a day by both methods, of which `wrong` ranks the clicks last."""
    rows = [
        (f"{day}-{n}", f"u{n % 2}", "i", method, "m", "ad", n % 3 // 2, 1.0,
         (0.1 if method == wrong else 0.9) if n % 3 == 2 else 0.5, dt.date(2024, 1, day))
        for method in (OURS, OTHER) for n in range(12)
    ]  # fmt: skip
    store.replace(PREDICTIONS, store.spark.createDataFrame(rows, PREDICTIONS.columns), f"ds = '2024-01-0{day}'")


@pytest.fixture
def store(spark: SparkSession, tmp_path: Path) -> Store:
    return Store(Session.of(spark), Root.parse(tmp_path))


def test_without_new_predictions_no_spark_is_needed(store: Store) -> None:
    predicted(store, 1, wrong=OTHER)
    found = compare(store, [OURS, OTHER], 50)
    assert found.against[OTHER].difference == 1.0 and found.against[OTHER].users == 2
    again = compare(replace(store, session=UNUSED), [OURS, OTHER], 50)
    assert again.against == found.against
    kept = [{name: row[name] for name in found.reliability[0]} for row in again.reliability]
    assert sorted(kept, key=str) == sorted(found.reliability, key=str)


@pytest.mark.parametrize("asked", [([OURS, OTHER], 60), ([OTHER, OURS], 50)], ids=["resamples", "order"])
def test_what_was_not_compared_before_is_computed(store: Store, asked: tuple[list[str], int]) -> None:
    predicted(store, 1, wrong=OTHER)
    compare(store, [OURS, OTHER], 50)
    with pytest.raises(AssertionError, match="Spark was started"):
        compare(replace(store, session=UNUSED), *asked)


def test_metrics_that_were_put_back_from_before_are_made_again(store: Store) -> None:
    predicted(store, 1, wrong=OTHER)
    compare(store, [OURS, OTHER], 50)
    before = read_rows(store.root, METRICS)
    predicted(store, 2, wrong=OURS)
    compare(store, [OURS, OTHER], 50)
    rated = read_rows(store.root, METRICS)
    for older in (before, [row for row in rated if row["method"] == OURS], []):
        replace_rows(store.root, METRICS, older, "true")
        compare(store, [OURS, OTHER], 50)
        assert sorted(map(repr, read_rows(store.root, METRICS))) == sorted(map(repr, rated))


def test_new_predictions_are_compared_anew(store: Store) -> None:
    predicted(store, 1, wrong=OTHER)
    before = compare(store, [OURS, OTHER], 50)
    predicted(store, 2, wrong=OURS)
    assert compare(store, [OURS, OTHER], 50).against[OTHER].difference < before.against[OTHER].difference


def test_without_predictions_there_is_nothing_to_compare(store: Store) -> None:
    with pytest.raises(ConfigError, match="predictions"):
        compare(store, [OURS, OTHER], 50)


def test_one_method_alone_has_its_calibration(store: Store) -> None:
    predicted(store, 1, wrong=OTHER)
    found = compare(store, [OURS], 50)
    assert found.against == {} and {row["method"] for row in found.reliability} == {OURS}
