"""From logs in names of their own to canonical tables: `ecdctr init`, `check --raw`, ingest."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pyspark.sql import SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.pipeline.initial import initialise
from ecdctr_spark.pipeline.raw_check import looked_at
from ecdctr_spark.session import Session
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import CLICKS, IMPRESSIONS, ITEMS
from ecdctr_spark.tables.store import Store

EPOCH = 1704448800000  # 2024-01-05 10:00 UTC
VIEWS = "request_id;ts;surface;member;creative;slot\n" + "".join(
    f"r{n};{EPOCH + 1000 * n};{'sponsored' if n % 4 == 0 else 'feed'};m{n % 3};c{n % 5};{n % 2}\n" for n in range(20)
)
CLICKED = "request_id;click_ts\nr3;1704448813\n"
CREATIVES = "creative;topic;nome\n" + "".join(f"c{n};t{n % 2};Caffè numero {n}\n" for n in range(5))


def test_logs_are_ingested_as_init_proposes(spark: SparkSession, tmp_path: Path) -> None:
    for name, text in (("views", VIEWS), ("clicks", CLICKED), ("creatives", CREATIVES)):
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "part.csv").write_bytes(text.encode("cp1252"))
    output = tmp_path / "mine.yaml"
    list(initialise([str(tmp_path / "logs")], {}, output, False))
    config = load_config([output], [f"storage.root={tmp_path / 'root'}"])
    looked = {one.source: one for one in looked_at(spark, config)}
    assert {name: (one.rows, sum(one.bad.values())) for name, one in looked.items()} == {
        "impressions": (20, 0), "clicks": (1, 0), "items": (5, 0),
    }  # fmt: skip
    store = Store(Session.of(spark), Root.parse(config.storage.root), config.logs_id, config.data_set_id)
    assert ingest(store, config, dt.date(2024, 1, 5), dt.date(2024, 1, 5)).counts.rows_kept == 26
    (ad,) = store.read(IMPRESSIONS).where("event_id = 'r4'").collect()
    assert (ad["domain"], ad["user_id"], ad["item_id"], ad["context"]) == ("ad", "m1", "c4", {"slot": "0"})
    assert ad["event_time"] == dt.datetime(2024, 1, 5, 10, 0, 4)
    assert [row["click_time"].second for row in store.read(CLICKS).collect()] == [13]
    (item,) = store.read(ITEMS).where("item_id = 'c1'").collect()
    assert item["attributes"] == {"topic": "t1", "nome": "Caffè numero 1"}
