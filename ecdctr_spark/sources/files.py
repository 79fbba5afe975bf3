"""The general source: folders of Parquet, csv, JSON-lines or Delta files laid out by the raw contract, or tables.

Files are looked at before they are read: what cannot be used at all is an error here, that names the file. A single
malformed line is not: it is passed on in the column `_corrupt_record`, and ingest quarantines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import Source
from ecdctr_spark.sources.csv_files import csv_frames
from ecdctr_spark.sources.folders import Found, Listing, Unusable, check_names, listed, with_content
from ecdctr_spark.sources.frames import combined
from ecdctr_spark.sources.json_files import json_frames
from ecdctr_spark.sources.parquet_files import parquet_frames
from ecdctr_spark.sources.raw import CORRUPT, Described, Frames, Raw, first_line
from ecdctr_spark.storage import Root

REQUIRED = {
    "impressions": ("event_id", "event_time", "domain", "user_id", "item_id"),
    "clicks": ("event_id", "click_time"),
    "users": ("user_id",),
    "items": ("item_id",),
}
_WHAT = {"table": "a table", "delta": "a Delta table"}


class _Opened(NamedTuple):
    frame: DataFrame
    described: Described


def read(spark: SparkSession, config: Config) -> Raw:
    """The raw frames of source.impressions, .clicks, .users and .items, and what the folders hold. All csv and JSON
    values are strings, nested JSON values apart.

    Raises ConfigError that names the setting and the folder or file, where a folder is missing or empty, lacks a
    required column, or holds a file that cannot be read as it is.
    """
    source = config.source
    if source.impressions is None:
        raise ConfigError("source.impressions is not set: give the folder of the raw impressions")
    folders = {name: folder for name in REQUIRED if (folder := getattr(source, name)) is not None}
    found = {name: _checked(spark, name, folder, source) for name, folder in folders.items()}
    frames = {name: one.frame for name, one in found.items()}
    if "clicks" not in frames and "clicked" not in frames["impressions"].columns:
        raise ConfigError(
            f"source.impressions: {source.impressions} has no column clicked, and source.clicks is not set; give one"
        )
    described = {name: one.described for name, one in found.items()}
    return Raw(frames["impressions"], frames.get("clicks"), frames.get("users"), frames.get("items"), described)


def _checked(spark: SparkSession, name: str, folder: str, source: Source) -> _Opened:
    what = _WHAT.get(source.format, f"{source.format} files")
    expected = f"expected {what} with the columns {', '.join(REQUIRED[name])}"
    try:
        opened = _table(spark, folder) if source.format == "table" else _folder(spark, Root.parse(folder), source)
    except PySparkException as error:
        raise ConfigError(f"source.{name}: {folder}: {_explain(error)}; {expected}") from error
    except Unusable as error:
        raise ConfigError(f"source.{name}: {error}; {expected}") from error
    missing = [column for column in REQUIRED[name] if column not in opened.frame.columns]
    if missing:
        raise ConfigError(f"source.{name}: {folder} lacks the column {', '.join(missing)}; {expected}")
    return opened


def _table(spark: SparkSession, name: str) -> _Opened:
    frame = spark.read.table(name)
    check_names([(name, frame.columns)])
    return _Opened(frame, Described(name, (), 0, (), None, dict(frame.dtypes)))


def _folder(spark: SparkSession, place: Root, source: Source) -> _Opened:
    if source.format == "delta":
        return _delta(spark, place)
    if not place.exists():
        raise Unusable(f"{place}: no such folder")
    listing = listed(place) if source.format == "parquet" else with_content(listed(place))
    found = _READERS[source.format](spark, listing.read, source)
    if not found.frames:
        raise Unusable(f"{place}: the folder is empty{_but(listing)}")
    # Once more, with the columns that folders name.
    check_names((place, [name for name in frame.columns if name != CORRUPT]) for frame in found.frames)
    frame = combined(found.frames)
    names, size = tuple(str(one.file) for one in listing.read), sum(one.size for one in listing.read)
    return _Opened(frame, Described(str(place), names, size, listing.left_out, found.rows, _types(found.frames)))


def _delta(spark: SparkSession, place: Root) -> _Opened:
    frame = spark.read.format("delta").load(place.addresses.spark)
    check_names([(place, frame.columns)])
    detail = spark.sql(f"describe detail delta.`{place.addresses.spark}`").first()
    size = int(detail["sizeInBytes"]) if detail else 0
    # Delta answers the count from its log.
    return _Opened(frame, Described(str(place), tuple(frame.inputFiles()), size, (), frame.count(), dict(frame.dtypes)))


def _csv(spark: SparkSession, files: Sequence[Found], source: Source) -> Frames:
    return csv_frames(spark, files, source.csv)


def _json(spark: SparkSession, files: Sequence[Found], _source: Source) -> Frames:
    return json_frames(spark, files)


def _parquet(spark: SparkSession, files: Sequence[Found], _source: Source) -> Frames:
    return parquet_frames(spark, files)


_READERS: dict[str, Callable[[SparkSession, Sequence[Found], Source], Frames]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}


def _types(frames: Sequence[DataFrame]) -> dict[str, str]:
    """The types of each column, in the order of the first frame that has it."""
    found: dict[str, dict[str, None]] = {}
    for name, kind in (column for frame in frames for column in frame.dtypes):
        found.setdefault(name, {})[kind] = None
    return {name: ", ".join(kinds) for name, kinds in found.items()}


def _but(listing: Listing) -> str:
    return f", but for {listing.left_out[0][0]}: {listing.left_out[0][1]}" if listing.left_out else ""


def _explain(error: PySparkException) -> str:
    text = first_line(error)
    if "PATH_NOT_FOUND" in text or "DELTA_MISSING_DELTA_TABLE" in text:
        return "no such folder"
    if "DELTA_TABLE_NOT_FOUND" in text:
        return "the folder holds no Delta table"
    if "TABLE_OR_VIEW_NOT_FOUND" in text:
        return "no such table in the catalog"
    return text
