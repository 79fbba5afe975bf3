"""Which models are too old to be kept, and what else goes."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

from ecdctr_spark.pipeline.retention import old, remove_unfinished
from ecdctr_spark.storage import Root

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


def test_what_killed_trainings_and_exports_have_left_goes_when_it_was_not_written_to_for_days(
    tmp_path: Path,
) -> None:
    made = {
        "models/a": 9,
        "models/a.checkpoints/000000003": 9,
        "models/b.checkpoints/000000006": 1,
        "exports/a.writing": 9,
    }
    for folder, days in made.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "manifest.json").touch()
        os.utime(tmp_path / folder / "manifest.json", (time.time() - 86400 * days,) * 2)
    (tmp_path / "models/b.checkpoints/000000006/rows").touch()
    remove_unfinished(Root.parse(tmp_path), keep_days=7)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/*")) == [
        "models/a",
        "models/b.checkpoints",
    ]
    remove_unfinished(Root.parse(tmp_path), keep_days=0)
    assert [place.name for place in Root.parse(tmp_path).at("models").list()] == ["a"]
