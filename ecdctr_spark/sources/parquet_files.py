"""Parquet files by Parquet's own types: all footers are read first, and files of one schema are read together.

What Arrow writes beside the schema (dictionaries, large strings) is no matter of the file's types and is not looked at.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.sources.folders import Found, Unusable, check_names, paths, with_folders
from ecdctr_spark.sources.frames import no_text, quoted
from ecdctr_spark.sources.raw import Frames, first_line
from ecdctr_spark.storage import Root

_FOOTERS = 8  # read at a time: on an object store each takes a request or two
_MOST_DIGITS = 38


class _Footer(NamedTuple):
    """The number of rows of a file, the names of its columns, its schema as text, and its columns that are not nested:
    physical type and logical type."""

    rows: int
    names: tuple[str, ...]
    schema: str
    flat: dict[str, tuple[str, dict[str, Any]]]


def parquet_frames(spark: SparkSession, files: Sequence[Found]) -> Frames:
    """A frame for each schema among the files. Nanoseconds become microseconds; bytes become text, or hexadecimal
    digits where they are none; a column of Arrow's null type has no value and takes the type of the other files.

    Raises Unusable that names the file where it is incomplete, and the column and type where Spark cannot read it.
    """
    with ThreadPoolExecutor(_FOOTERS) as threads:
        footers = list(zip(files, threads.map(lambda found: _footer(found.file), files), strict=True))
    check_names((found.file, footer.names) for found, footer in footers)
    groups: dict[Any, list[tuple[Found, _Footer]]] = defaultdict(list)
    for found, footer in footers:
        groups[footer.schema, found.folders].append((found, footer))
    frames = [_frame(spark, [found for found, _ in group], group[0][1]) for group in groups.values()]
    return Frames(_with_null_columns(frames, footers), sum(footer.rows for _, footer in footers))


def _footer(file: Root) -> _Footer:
    try:
        with file.open() as opened:
            metadata = pq.read_metadata(opened)
            names = tuple(metadata.schema.to_arrow_schema().names)
    except (pa.ArrowException, OSError) as error:
        raise Unusable(f"{file} is not a complete Parquet file, replace or remove it: {first_line(error)}") from error
    leaves = [metadata.schema.column(number) for number in range(len(metadata.schema))]
    for leaf in leaves:
        _check_type(file, leaf)
    flat = {leaf.path: (leaf.physical_type, _logical(leaf)) for leaf in leaves if leaf.path in names}
    return _Footer(metadata.num_rows, names, str(metadata.schema).partition("\n")[2], flat)


def _check_type(file: Root, leaf: Any) -> None:
    logical = _logical(leaf)
    too_long = logical["Type"] == "Decimal" and logical["precision"] > _MOST_DIGITS
    if logical["Type"] == "Time" or too_long or leaf.converted_type == "INTERVAL":
        raise Unusable(
            f"{file}: the column {leaf.path} has the type {leaf.logical_type}, which Spark cannot read;"
            " write it as text"
        )


def _logical(leaf: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(leaf.logical_type.to_json())
    return found


def _frame(spark: SparkSession, files: Sequence[Found], footer: _Footer) -> DataFrame:
    # Else Spark refuses a file with nanoseconds. A session that was not built by this package does not have it set.
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", True)
    try:
        schema = spark.read.parquet(*paths(files[:1])).schema
    except PySparkException as error:
        raise Unusable(f"{files[0].file}: {first_line(error)}") from error
    frame = with_folders(spark.read.schema(schema).parquet(*paths(files)), files[0].folders)
    columns = [_readable(name, *footer.flat.get(name, ("", {"Type": "None"}))) for name in frame.columns]
    return frame.select(*(column for column in columns if column is not None))


def _readable(name: str, physical: str, logical: dict[str, Any]) -> Column | None:
    value = F.col(quoted(name))
    if logical["Type"] == "Null":
        return None
    if logical["Type"] == "Timestamp" and logical["timeUnit"] == "nanoseconds":
        micros = F.expr(f"({quoted(name)} - pmod({quoted(name)}, 1000)) div 1000")
        return (F.timestamp_micros(micros) if logical["isAdjustedToUTC"] else _local(micros)).alias(name)
    if physical == "FIXED_LEN_BYTE_ARRAY" and logical["Type"] in ("None", "UUID"):
        return F.lower(F.hex(value)).alias(name)
    if physical == "BYTE_ARRAY" and logical["Type"] == "None":
        text = value.cast("string")  # as Impala and older writers leave it
        return F.when(no_text(text), F.lower(F.hex(value))).otherwise(text).alias(name)
    return value


def _local(micros: Column) -> Column:
    """A timestamp without a zone, whatever the session's zone."""
    seconds = micros.cast("decimal(20,0)") / F.lit(1_000_000).cast("decimal(7,0)")
    since = F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), seconds.cast("decimal(18,6)"))
    return F.lit("1970-01-01").cast("timestamp_ntz") + since


def _with_null_columns(frames: list[DataFrame], footers: Sequence[tuple[Found, _Footer]]) -> list[DataFrame]:
    """The first frame gets the columns that have no value in any file, as null text."""
    known = {name for frame in frames for name in frame.columns}
    void = dict.fromkeys(name for _, footer in footers for name in footer.names if name not in known)
    nulls = [F.lit(None).cast("string").alias(name) for name in void]
    return [frames[0].select("*", *nulls), *frames[1:]] if nulls else frames
