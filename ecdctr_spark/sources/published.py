"""Files of a data set that users fetch themselves: found in a folder, checked by their columns, read as text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError


def folder_of(config: Config, where: str) -> Path:
    """source.folder; raises ConfigError that tells where the data set is to be had."""
    if config.source.folder is None:
        raise ConfigError(f"source.folder is not set: give the folder of the files, from {where}")
    folder = Path(config.source.folder)
    if not folder.is_dir():
        raise ConfigError(f"source.folder: {folder}: no such folder; expected the files from {where}")
    return folder


def table(spark: SparkSession, folder: Path, pattern: str, columns: Sequence[str]) -> DataFrame:
    """The csv files under the folder that match the pattern, in the published columns, each a string, "" being null.

    Raises ConfigError that names the file and the columns it lacks, or the pattern that nothing matches.
    """
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not paths:
        raise ConfigError(f"source.folder: {folder} has no file {pattern}; unpack the data set there")
    for path in paths:
        missing = [column for column in columns if column not in _header(path)]
        if missing:
            raise ConfigError(f"{path}: lacks the column {', '.join(missing)}; expected the file as it was published")
    frame = spark.read.option("header", True).option("enforceSchema", False).csv([str(path) for path in paths])
    trimmed = frame.toDF(*(name.strip() for name in frame.columns))  # a published header ends in a space
    return trimmed.select(*columns)


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in next(csv.reader(file), [])]
