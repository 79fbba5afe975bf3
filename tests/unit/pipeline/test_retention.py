"""Which models are too old to be kept."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ecdctr_spark.pipeline.retention import old

NEWEST = dt.date(2024, 3, 31)


def model(name: str, days_ago: int, *parents: str, data_set: str = "d", removed: bool = False) -> dict[str, Any]:
    """A row of MODELS. The level is the first letter of the name."""
    date = NEWEST - dt.timedelta(days=days_ago)
    at = dt.datetime(2024, 4, 1, tzinfo=dt.timezone.utc) if removed else None
    row = {"model_id": name, "level": name[0], "date": date, "data_set": data_set, "parents": list(parents)}
    return {**row, "removed": at}


def names(rows: list[dict[str, Any]], keep_days: int) -> list[str]:
    return [row["model_id"] for row in old(rows, keep_days)]


def test_models_are_kept_for_some_days_after_their_date() -> None:
    assert names([model("a0", 0), model("a7", 7), model("a8", 8)], keep_days=7) == ["a8"]


def test_a_model_is_kept_as_long_as_one_that_was_made_from_it() -> None:
    chain = [model("a0", 0, "a5"), model("a5", 5, "a9"), model("a9", 9, "a13"), model("a13", 13)]
    assert names(chain, keep_days=5) == ["a13"]


def test_the_newest_of_each_level_is_kept_however_old_it_is() -> None:
    assert names([model("a0", 0), model("t60", 60), model("t90", 90)], keep_days=7) == ["t90"]


def test_each_data_set_has_its_own_newest() -> None:
    assert names([model("a0", 0), model("a60", 60, data_set="before")], keep_days=7) == []


def test_a_model_that_was_removed_neither_keeps_another_nor_is_removed_again() -> None:
    rows = [model("a0", 0), model("a8", 8, "a9", removed=True), model("a9", 9)]
    assert names(rows, keep_days=7) == ["a9"]
