"""Counters, rates and behaviours are those that another engine computes by other means, all at once from raw logs."""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path
from typing import Any

from pyarrow import parquet
from pyspark.sql import SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline import steps
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import samples_table
from ecdctr_spark.tables.store import Store
from tests.benchmarks import duck

DAYS = 12
SMALL = [f"synthetic.days={DAYS}", "synthetic.impressions_per_day=300", "synthetic.users=60", "synthetic.items=40"]
ODD = ["synthetic.duplicates=0.02", "synthetic.malformed=0.03", "synthetic.late_clicks=0.3", "synthetic.ad_share=0.3"]
# Windows that the days do not fit into.
SHORT = ["features.fields.user_natural_rate_28.days=5", "features.fields.recent_clicks={length: 3, days: 6}"]


def test_each_feature_of_each_sample_is_that_of_duckdb(spark: SparkSession, tmp_path: Path) -> None:
    config = load_config(["synthetic"], [*SMALL, *ODD, *SHORT, f"storage.root={tmp_path}"])
    store = Store(Session.of(spark), Root.parse(tmp_path), config.logs_id, config.data_set_id)
    first, last = config.calendar.first_day, config.calendar.first_day + dt.timedelta(days=DAYS - 1)
    ingest(store, config, first, last)
    steps.build(store, config, first, last)
    duck.build(tmp_path / "raw" / "synthetic" / config.logs_id, tmp_path / "duck", config.features, first, last)

    vocabulary = steps.vocabulary_of(store, config)
    tokens = {row["index"]: row["token"] for row in vocabulary.rows.where("kind = 'token'").collect()}
    features = config.features

    def plain(row: Any) -> dict[str, Any]:
        """A sample in the terms of DuckDB's."""
        made = {rate.name: row[rate.name] for rate in features.counters if rate.kind == "rate"}
        for count in (feature for feature in features.counters if feature.kind == "count"):
            made[count.name] = row[count.name] - vocabulary.survey.starts[count.name]
        for sequence in features.behaviours:
            indices = struct.unpack(f">{sequence.length}i", row[sequence.name])
            made[sequence.name] = [tokens[index] for index in indices if index]
        return made | {"label": row["label"]}

    ours = {row["event_id"]: plain(row) for row in store.read(samples_table(features)).collect()}
    names = list(next(iter(ours.values())))
    rows = parquet.read_table(tmp_path / "duck").to_pylist()
    theirs = {row["event_id"]: {name: row[name] for name in names} for row in rows}
    ads = {row["event_id"] for row in rows if row["domain"] == "ad"}
    assert ads <= ours.keys()  # of natural impressions, each engine keeps the half that its own hash chooses
    shared = ours.keys() & theirs.keys()
    assert len(shared) > DAYS * 100
    assert [ours[event] for event in shared] == [theirs[event] for event in shared]
