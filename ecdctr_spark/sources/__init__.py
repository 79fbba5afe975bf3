"""Raw logs of any origin as the canonical raw frames: one file and one entry in SOURCES per source."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.sources import files, kuairand, movielens, synthetic, taobao
from ecdctr_spark.sources.raw import Raw

SOURCES: dict[str, Callable[[SparkSession, Config], Raw]] = {
    "files": files.read,
    "movielens": movielens.read,
    "kuairand": kuairand.read,
    "taobao": taobao.read,
    "synthetic": synthetic.read,
}

# Terms of use that a publisher sets, shown before the source is read.
TERMS = {"movielens": movielens.TERMS, "kuairand": kuairand.TERMS, "taobao": taobao.TERMS}

__all__ = ["SOURCES", "TERMS", "Raw"]
