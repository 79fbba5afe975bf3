"""Files of a data set that users fetch themselves: found in a folder, checked by their columns, read as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from fnmatch import fnmatch

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root


def folder_of(config: Config, where: str) -> Root:
    """source.folder. Raises ConfigError that says where to get the data set if it is not set or missing."""
    if config.source.folder is None:
        raise ConfigError(f"source.folder is not set: give the folder of the files, from {where}")
    folder = Root.parse(config.source.folder)
    if not folder.exists():
        raise ConfigError(f"source.folder: {folder}: no such folder; expected the files from {where}")
    return folder


def table(spark: SparkSession, folder: Root, pattern: str, columns: Sequence[str]) -> DataFrame:
    """The csv files under the folder that match the pattern, in the published columns as strings; "" is null.

    Raises ConfigError that names a file and the columns it lacks, or the pattern that no file matches.
    """
    files = [file for file in map(folder.at, folder.files()) if fnmatch(file.name, pattern)]
    if not files:
        raise ConfigError(f"source.folder: {folder} has no file {pattern}; unpack the data set there")
    for file in files:
        missing = [column for column in columns if column not in _header(file)]
        if missing:
            raise ConfigError(f"{file}: lacks the column {', '.join(missing)}; expected the file as it was published")
    reader = spark.read.option("header", True).option("enforceSchema", False)
    frame = reader.csv([file.addresses.spark for file in files])
    trimmed = frame.toDF(*(name.strip() for name in frame.columns))  # a published header ends in a space
    return trimmed.select(*columns)


def _header(file: Root) -> list[str]:
    return [name.strip() for name in csv_header(file)]


def csv_header(file: Root) -> list[str]:
    """The first record of a csv file, which may be compressed; empty for an empty file."""
    with file.stream() as stream:
        return next(csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")), [])
