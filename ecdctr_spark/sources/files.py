"""The general source: folders of Parquet, csv, JSON-lines or Delta files laid out by the raw contract, or tables.

Logs that call things otherwise are read by source.columns and source.domains, here and nowhere else: what leaves this
module is by the contract.

Files are looked at before they are read: what cannot be used at all is an error here, that names the file. A single
malformed line is not: it is passed on in the column `_corrupt_record`, and ingest quarantines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.settings.sources import LOGS, Source
from ecdctr_spark.sources.csv_files import csv_frames
from ecdctr_spark.sources.folders import Found, Listing, Unusable, check_names, listed, with_content
from ecdctr_spark.sources.frames import combined, renamed, with_domains
from ecdctr_spark.sources.json_files import json_frames
from ecdctr_spark.sources.parquet_files import parquet_frames
from ecdctr_spark.sources.raw import CORRUPT, Described, Frames, Raw, first_line, together
from ecdctr_spark.storage import Root

_IMPRESSION = ("event_id", "event_time", "domain", "user_id", "item_id")
REQUIRED = {
    "impressions": _IMPRESSION,
    "ads": _IMPRESSION,
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
    values are strings, nested JSON values apart. Those of source.ads are impressions too.

    Raises ConfigError that names the setting and the folder or file, where a folder is missing or empty, lacks a
    required column, or holds a file that cannot be read as it is.
    """
    source = config.source
    if source.impressions is None:
        raise ConfigError("source.impressions is not set: give the folder of the raw impressions")
    folders = {name: folder for name in LOGS if (folder := getattr(source, name)) is not None}
    found = {name: _checked(spark, name, folder, source) for name, folder in folders.items()}
    impressions = [found[name] for name in ("impressions", "ads") if name in found]
    if "clicks" not in found:
        for name in ("impressions", "ads"):
            if name in found and "clicked" not in found[name].frame.columns:
                raise ConfigError(
                    f"source.{name}: {folders[name]} has no column clicked, and source.clicks is not set; give one"
                )
    shown = combined([opened.frame for opened in impressions])
    if source.ads is None:
        shown = with_domains(shown, plain(source.domains))
    described = {name: one.described for name, one in found.items() if name != "ads"}
    described["impressions"] = together([opened.described for opened in impressions])
    clicks, users, items = (found[name].frame if name in found else None for name in ("clicks", "users", "items"))
    return Raw(shown, clicks, users, items, described)


def _checked(spark: SparkSession, name: str, folder: str, source: Source) -> _Opened:
    required = [column for column in REQUIRED[name] if column != "domain" or source.ads is None]
    what = _WHAT.get(source.format, f"{source.format} files")
    expected = f"expected {what} with the columns {', '.join(required)}"
    try:
        opened = _table(spark, folder) if source.format == "table" else _folder(spark, Root.parse(folder), source)
    except PySparkException as error:
        raise ConfigError(f"source.{name}: {folder}: {_explain(error)}; {expected}") from error
    except Unusable as error:
        raise ConfigError(f"source.{name}: {error}; {expected}") from error
    names = getattr(source.columns, name)
    try:
        frame = renamed(opened.frame, names)
        check_names([(folder, [column for column in frame.columns if column != CORRUPT])])
    except ValueError as error:
        raise ConfigError(f"source.columns.{name}: {folder}: {error}") from error
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise ConfigError(
            f"source.{name}: {folder} lacks the column {', '.join(missing)}; {expected}, or their names there"
            f" in source.columns.{name}"
        )
    if source.ads is not None and name in ("impressions", "ads"):
        frame = _of_domain(frame, "ad" if name == "ads" else "natural", f"source.{name}: {folder}")
    return _Opened(frame, opened.described._replace(renamed={own: meant for meant, own in names.items()}))


def _of_domain(frame: DataFrame, domain: str, where: str) -> DataFrame:
    if "domain" in map(str.lower, frame.columns):
        raise ConfigError(
            f"{where} has a column domain, but source.ads already says which impressions are ads: leave out source.ads,"
            " or give the column another name in source.columns"
        )
    return frame.withColumn("domain", F.lit(domain))


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
