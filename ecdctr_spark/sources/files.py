"""The general source: folders of Parquet, csv, JSON-lines or Delta files laid out by the raw contract, or tables.

A file that cannot be used at all is an error here, before anything is read. A single malformed line is not: it is
passed on in the column `_corrupt_record`, and ingest quarantines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.published import csv_header
from ecdctr_spark.sources.raw import Raw
from ecdctr_spark.storage import Root

_FOOTERS = 8  # read at a time: on an object store each takes a request or two

REQUIRED = {
    "impressions": ("event_id", "event_time", "domain", "user_id", "item_id"),
    "clicks": ("event_id", "click_time"),
    "users": ("user_id",),
    "items": ("item_id",),
}


def read(spark: SparkSession, config: Config) -> Raw:
    """The raw frames of source.impressions, .clicks, .users and .items. All csv and JSON values are strings.

    Raises ConfigError that names the setting and the folder or file, where a folder is missing or empty, lacks a
    required column, or holds a Parquet file without a footer or a csv file with another header.
    """
    source = config.source
    if source.impressions is None:
        raise ConfigError("source.impressions is not set: give the folder of the raw impressions")
    folders = {name: getattr(source, name) for name in REQUIRED if getattr(source, name) is not None}
    frames = {name: _frame(spark, name, folder, source.format) for name, folder in folders.items()}
    if "clicks" not in frames and "clicked" not in frames["impressions"].columns:
        raise ConfigError(
            f"source.impressions: {source.impressions} has no column clicked, and source.clicks is not set; give one"
        )
    return Raw(frames["impressions"], frames.get("clicks"), frames.get("users"), frames.get("items"))


def _frame(spark: SparkSession, name: str, folder: str, form: str) -> DataFrame:
    what = {"table": "a table", "delta": "a Delta table"}.get(form, f"{form} files")
    expected = f"expected {what} with the columns {', '.join(REQUIRED[name])}"
    try:
        if form == "table":
            frame = spark.read.table(folder)
        else:
            place = Root.parse(folder)
            _CHECKS[form](_files(place))
            frame = _READERS[form](spark, place.addresses.spark)
    except AnalysisException as error:
        raise ConfigError(f"source.{name}: {folder}: {_explain(error)}; {expected}") from error
    except _Unusable as error:
        raise ConfigError(f"source.{name}: {error}; {expected}") from error
    missing = [column for column in REQUIRED[name] if column not in frame.columns]
    if missing:
        raise ConfigError(f"source.{name}: {folder} lacks the column {', '.join(missing)}; {expected}")
    return frame


def _parquet(spark: SparkSession, folder: str) -> DataFrame:
    # Without merging, a column that only newer files have might be dropped.
    return spark.read.option("mergeSchema", True).parquet(folder)


def _csv(spark: SparkSession, folder: str) -> DataFrame:
    reader = spark.read.option("header", True).option("multiLine", True).option("escape", '"')
    names = reader.csv(folder).columns
    schema = StructType([StructField(name, StringType()) for name in [*names, "_corrupt_record"]])
    # enforceSchema would read a file with another header by position.
    return reader.schema(schema).option("enforceSchema", False).csv(folder)


def _json(spark: SparkSession, folder: str) -> DataFrame:
    return spark.read.option("primitivesAsString", True).json(folder)


def _delta(spark: SparkSession, folder: str) -> DataFrame:
    return spark.read.format("delta").load(folder)


_READERS: dict[str, Callable[[SparkSession, str], DataFrame]] = {
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "delta": _delta,
}


class _Unusable(ValueError):
    """A file that cannot be read as what it should be; the text names it."""


def _check_parquet(files: Sequence[Root]) -> None:
    """Reads each footer and compares the types: Spark would only fail in the middle of a job."""
    merged = pa.schema([])
    with ThreadPoolExecutor(_FOOTERS) as threads:
        for file, schema in zip(files, threads.map(_schema, files), strict=True):
            try:
                merged = pa.unify_schemas([merged, schema.remove_metadata()])
            except pa.ArrowException as error:
                raise _Unusable(f"{file} has other types than the files before it: {_first_line(error)}") from error


def _schema(file: Root) -> pa.Schema:
    try:
        with file.open() as footer:
            return pq.read_schema(footer)
    except (pa.ArrowException, OSError) as error:
        raise _Unusable(f"{file} is not a complete Parquet file, replace or remove it") from error


def _check_csv(files: Sequence[Root]) -> None:
    """Checks that all files have the same header: Spark reads columns by that of the first file."""
    headers = [(file, header) for file in files if (header := csv_header(file))]
    for file, header in headers:
        if header != headers[0][1]:
            raise _Unusable(f"{file} has the columns {', '.join(header)} unlike {headers[0][0].name}")


def _check_nothing(files: Sequence[Root]) -> None:
    """No check: JSON's schema is inferred from all lines, and Delta has its own."""


_CHECKS: dict[str, Callable[[Sequence[Root]], None]] = {
    "parquet": _check_parquet,
    "csv": _check_csv,
    "json": _check_nothing,
    "delta": _check_nothing,
}


def _files(place: Root) -> list[Root]:
    """The files that Spark would read: below a folder it skips names that start with _ or a dot."""
    if place.size() is not None:
        return [place]
    return [place.at(name) for name in place.files() if not any(part[0] in "_." for part in name.split("/"))]


def _explain(error: AnalysisException) -> str:
    text = _first_line(error)
    if "PATH_NOT_FOUND" in text or "DELTA_MISSING_DELTA_TABLE" in text:
        return "no such folder"
    if "TABLE_OR_VIEW_NOT_FOUND" in text:
        return "no such table in the catalog"
    if "UNABLE_TO_INFER_SCHEMA" in text:
        return "the folder is empty"
    return text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
