"""Counters, rates and behaviours are those that are computed by other means, all at once from raw logs."""

from __future__ import annotations

import datetime as dt
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.pipeline import steps
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import samples_table
from ecdctr_spark.tables.store import Store
from tests.benchmarks import direct, duck

DAYS = 12
SMALL = [f"synthetic.days={DAYS}", "synthetic.impressions_per_day=300", "synthetic.users=60", "synthetic.items=40"]
ODD = ["synthetic.duplicates=0.02", "synthetic.malformed=0.03", "synthetic.late_clicks=0.3", "synthetic.ad_share=0.3"]
# Windows that the days do not fit into.
SHORT = ["features.fields.user_natural_rate_28.days=5", "features.fields.recent_clicks={length: 3, days: 6}"]
Samples = dict[str, dict[str, Any]]  # by event_id


def days_of(config: Config) -> tuple[dt.date, dt.date]:
    return config.calendar.first_day, config.calendar.first_day + dt.timedelta(days=DAYS - 1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("root")
    return load_config(["synthetic"], [*SMALL, *ODD, *SHORT, f"storage.root={root}"])


@pytest.fixture(scope="module")
def ours(spark: SparkSession, config: Config) -> Samples:
    """The pipeline's samples, in the terms of the others."""
    store = Store(Session.of(spark), Root.parse(config.storage.root), config.logs_id, config.data_set_id)
    ingest(store, config, *days_of(config))
    steps.build(store, config, *days_of(config))
    vocabulary = steps.vocabulary_of(store, config)
    tokens = {row["index"]: row["token"] for row in vocabulary.rows.where("kind = 'token'").collect()}
    features = config.features

    def plain(row: Any) -> dict[str, Any]:
        made = {rate.name: row[rate.name] for rate in features.counters if rate.kind == "rate"}
        for count in (feature for feature in features.counters if feature.kind == "count"):
            made[count.name] = row[count.name] - vocabulary.survey.starts[count.name]
        for sequence in features.behaviours:
            indices = struct.unpack(f">{sequence.length}i", row[sequence.name])
            made[sequence.name] = [tokens[index] for index in indices if index]
        return made | {"label": row["label"]}

    return {row["event_id"]: plain(row) for row in store.read(samples_table(features)).collect()}


@pytest.mark.parametrize("engine", ["duckdb", "pyspark"])
def test_each_feature_of_each_sample_is_that_of_another_engine(
    spark: SparkSession, config: Config, ours: Samples, engine: str, tmp_path: Path
) -> None:
    raw = Path(config.storage.root) / "raw" / "synthetic" / config.logs_id
    build = {"duckdb": duck.build, "pyspark": partial(direct.build, spark)}[engine]
    build(raw, tmp_path / "made", config.features, *days_of(config))
    names = list(next(iter(ours.values())))
    rows = parquet.read_table(tmp_path / "made").to_pylist()
    theirs = {row["event_id"]: {name: row[name] for name in names} for row in rows}
    ads = {row["event_id"] for row in rows if row["domain"] == "ad"}
    assert ads <= ours.keys()  # of natural impressions, each engine keeps the half that its own hash chooses
    shared = ours.keys() & theirs.keys()
    assert len(shared) > DAYS * 100
    assert [ours[event] for event in shared] == [theirs[event] for event in shared]
