"""csv files: each is looked at whole before Spark reads it, by its header, as text.

Looking costs one pass over the files on the driver: two million lines a second, a quarter million where all fields are
quoted. It finds what Spark would pass over in silence: damaged compression, characters of another encoding, a quote
that is not closed. And it finds, as a rule, that no record spans lines: then Spark may split a file among its tasks.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from ecdctr_spark.settings.sources import Csv
from ecdctr_spark.sources.csv_lines import Unclosed, shape
from ecdctr_spark.sources.folders import Found, Unusable, check_names, paths, with_folders
from ecdctr_spark.sources.frames import quoted
from ecdctr_spark.sources.raw import CORRUPT, Frames
from ecdctr_spark.sources.streams import text

_AT_A_TIME = 4


class _Seen(NamedTuple):
    """What a file was found to hold: the names of its columns ("" for a blank one), and its records."""

    header: tuple[str, ...]
    records: int
    spans_lines: bool


def csv_frames(spark: SparkSession, files: Sequence[Found], dialect: Csv) -> Frames:
    """Frames of strings, one for each order of the columns; a row of more or fewer fields is in `_corrupt_record`.
    Columns without a name are left out, as the index that pandas writes.

    Raises Unusable that names the file, where it is damaged, not in the encoding, leaves a quote open, has a column
    twice or other columns than the first.
    """
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        looked = zip(files, threads.map(lambda found: _seen(found, dialect), files), strict=True)
        seen = [(found, one) for found, one in looked if one.header]
    check_names((found.file, [name for name in one.header if name]) for found, one in seen)
    groups: dict[tuple[tuple[str, ...], bool, Any], list[Found]] = defaultdict(list)
    for found, one in seen:
        if set(one.header) != set(seen[0][1].header):
            columns = ", ".join(name or "(blank)" for name in one.header)
            raise Unusable(f"{found.file} has the columns {columns} unlike {seen[0][0].file}")
        # Spark ends a line at the byte of a newline, which may be a part of a character in another encoding.
        many_lines = one.spans_lines or dialect.encoding != "utf-8"
        groups[one.header, many_lines, found.folders].append(found)
    frames = [_frame(spark, group, header, lines, dialect) for (header, lines, _), group in groups.items()]
    return Frames(frames, sum(one.records for _, one in seen))


def _frame(
    spark: SparkSession,
    files: Sequence[Found],
    header: Sequence[str],
    many_lines: bool,
    dialect: Csv,
) -> DataFrame:
    if dialect.encoding != "utf-8":
        spark.conf.set("spark.sql.legacy.javaCharsets", True)  # Spark 4 refuses all but a few
    named = [name or f"_blank_{number}" for number, name in enumerate(header)]
    schema = StructType([StructField(name, StringType()) for name in [*named, CORRUPT]])
    # Where Spark parses only the columns that a query reads, a row with too few fields passes for a good one.
    reader = spark.read.schema(schema).options(header=True, multiLine=many_lines, columnPruning=False)
    reader = reader.options(sep=dialect.delimiter, quote=dialect.quote or "", escape=dialect.escape)
    reader = reader.options(encoding=_java(dialect.encoding), mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT)
    frame = with_folders(reader.csv(paths(files)), files[0].folders)
    blank = {name for name, given in zip(named, header, strict=True) if not given}
    return frame.select(*(quoted(name) for name in frame.columns if name not in blank))


def _seen(found: Found, dialect: Csv) -> _Seen:
    with text(found.file, "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding) as lines:
        try:
            header, before = _header(lines, dialect)
            return _Seen(header, *shape(lines, dialect, len(header), before))
        except Unclosed as error:
            raise Unusable(
                f"{found.file}, line {error.line}: a quoted field is not closed, or text follows its closing quote;"
                " correct the line, or set source.csv to how the files are quoted"
            ) from error


def _header(lines: Iterator[str], dialect: Csv) -> tuple[tuple[str, ...], int]:
    """The names of the first record, none for an empty file, and the number of lines up to its end."""
    doubled = dialect.escape == dialect.quote
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        doublequote=doubled,
        escapechar=None if doubled or dialect.quote is None else dialect.escape,
        strict=True,
    )
    try:
        header = next((record for record in reader if record), [])
    except csv.Error as error:
        raise Unclosed(1) from error
    return tuple(name.lstrip("\ufeff").strip() for name in header), reader.line_num


def _java(encoding: str) -> str:
    """Java's name of Python's encoding."""
    return encoding.replace("utf-16-", "utf-16").replace("utf-32-", "utf-32")
