"""Files of a data set that users fetch themselves: found in a folder, checked by their columns, read as text."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import Csv
from ecdctr_spark.sources.csv_files import csv_frames
from ecdctr_spark.sources.folders import Unusable, listed
from ecdctr_spark.sources.frames import combined
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

    Raises ConfigError that names a file that cannot be read or the columns it lacks, or the pattern that no file
    matches.
    """
    files = [found for found in listed(folder).read if fnmatch(found.file.name, pattern)]
    if not files:
        raise ConfigError(f"source.folder: {folder} has no file {pattern}; unpack the data set there")
    try:
        frames = csv_frames(spark, files, Csv()).frames
    except Unusable as error:
        raise ConfigError(f"source.folder: {error}") from error
    present = frames[0].columns if frames else []
    missing = [column for column in columns if column not in present]
    if missing:
        raise ConfigError(
            f"{files[0].file}: lacks the column {', '.join(missing)}; expected the file as it was published"
        )
    return combined(frames).select(*columns)
