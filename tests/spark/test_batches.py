"""From a table that Spark wrote to batches: every row of the slice, and the same stream from the same rows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import torch
from msgspec.structs import replace
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.contract import Contract, Sequence
from ecdctr_spark.features.samples import shuffled
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.storage import Root
from ecdctr_spark.streaming.batches import Stream
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.tables import pinned

CONTRACT = Contract(
    ids=("user_id",),
    unknown=(1,),
    unknown_rows=1,
    numbers=(),
    sequences=(Sequence(name="clicks", length=2, of="user_id"),),
)


def write(spark: SparkSession, path: Path) -> Root:
    samples = spark.range(200).selectExpr(
        "cast(id as string) event_id",
        "cast(id as int) user_id",
        "unhex(concat('00000000', lpad(hex(id), 8, '0'))) clicks",
        "cast(id % 2 as float) label",
        "0 click_day",
        "cast(1 as float) weight",
        "if(id % 4 = 0, 'ad', 'natural') domain",
        "date_add(date'2020-01-01', cast(id % 5 as int)) ds",
    )
    shuffled(samples, 2).write.format("delta").partitionBy("domain", "ds").save(str(path))
    return Root(str(path))


def read(path: Root, config: Config, rank: int) -> list[Batch]:
    files = pinned.files(path, 0, {"domain": ["ad"], "ds": ["2020-01-01", "2020-01-02"]})
    units = [Unit(path=file.path, rows=file.rows) for file in files]
    train = replace(config.methods["ecdctr"].levels["actr"].train, shuffle_rows=10)
    return list(Stream(units, CONTRACT, train, dt.date(2024, 12, 31), rank, 2).batches(epoch=0))


def test_a_slice_reaches_the_ranks_whole_and_the_same_rows_give_the_same_stream(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    first, second = write(spark, tmp_path / "first"), write(spark, tmp_path / "second")
    ranks = [read(first, config, rank) for rank in range(2)]
    again = [read(second, config, rank) for rank in range(2)]
    seen = torch.cat([batch.ids[batch.weights > 0, 0] for batches in ranks for batch in batches])
    assert sorted(seen.tolist()) == [number for number in range(0, 200, 4) if number % 5 < 2]
    for one, other in zip(ranks, again, strict=True):
        assert len(one) == len(other) == len(ranks[0])
        for batch, same in zip(one, other, strict=True):
            assert torch.equal(batch.ids, same.ids)
            assert torch.equal(batch.sequences["clicks"][:, 1], batch.ids[:, 0])
