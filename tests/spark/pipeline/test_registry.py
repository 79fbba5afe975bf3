"""The registry knows which models exist and the ledger which days are done."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from ecdctr_spark.pipeline.calendar import Model
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.pipeline import registry
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.store import Store

DAY = dt.date(2024, 3, 12)


@pytest.fixture
def store(spark: SparkSession, tmp_path: Path) -> Store:
    return Store(spark, Root.parse(tmp_path))


def entry(config: Config, level: Any = "actr", date: dt.date = DAY, **changes: Any) -> dict[str, Any]:
    name = registry.model_id(level, date, config)
    row = {
        "model_id": name,
        "level": level,
        "date": date,
        "path": "p",
        "parents": [],
        "tables": {"samples": 3},
    }
    return {**row, "days": [date], "fingerprint": config.fingerprint(), "rows": 1, "seconds": 1.0, **changes}


def test_an_empty_store_holds_nothing(store: Store, config: Config) -> None:
    found = registry.done(store, config)
    assert not found.models and not found.ingested and not found.built and not found.evaluated


def test_a_model_registered_twice_is_one_row(store: Store, config: Config) -> None:
    registry.register(store, entry(config))
    registry.register(store, entry(config, rows=2))
    assert [row.rows for row in store.read(MODELS).collect()] == [2]


def test_a_model_remembers_the_tables_and_parents_it_was_made_from(store: Store, config: Config) -> None:
    parent = registry.model_id("cpm", dt.date(2024, 3, 11), config)
    registry.register(store, entry(config, parents=[parent]))
    row = registry.model_named(store, registry.model_id("actr", DAY, config))
    assert (row.tables, row.parents) == ({"samples": 3}, [parent])
    assert registry.done(store, config).models == {Model("actr", DAY, dt.date(2024, 3, 11))}


def test_models_of_another_configuration_do_not_count(store: Store, config: Config) -> None:
    registry.register(store, entry(config, fingerprint="deadbeef"))
    assert not registry.done(store, config).models


def test_the_ledger_tells_which_days_are_done(store: Store, config: Config) -> None:
    ingest = {
        "step": "ingest",
        "subject": registry.LOGS,
        "from_day": DAY,
        "to_day": DAY + dt.timedelta(days=1),
    }
    build = {"step": "build", "subject": config.samples_fingerprint(), "from_day": DAY, "to_day": DAY}
    registry.record(store, [ingest, build, {**build, "subject": "other samples", "to_day": DAY + dt.timedelta(days=9)}])
    found = registry.done(store, config)
    assert found.ingested == {DAY, DAY + dt.timedelta(days=1)}
    assert found.built == {DAY}


def test_an_unknown_model_is_refused_with_the_newest_that_exist(store: Store, config: Config) -> None:
    registry.register(store, entry(config))
    with pytest.raises(ConfigError, match=f"actr-1999.*newest are actr-{DAY}"):
        registry.model_named(store, "actr-1999")
