"""Files of JSON lines: one row per line that is not blank, also where a line is no JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructType

from ecdctr_spark.sources.folders import Found, Unusable, alike, check_names, paths, with_folders
from ecdctr_spark.sources.frames import no_text, quoted
from ecdctr_spark.sources.raw import CORRUPT, Frames, first_line
from ecdctr_spark.sources.streams import check_compressed

_AT_A_TIME = 4
_BOM = "\ufeff"
# A number, with what lies between it and the number before it: no quote but around whole texts.
_NUMBER = (
    r'\G([^"\dNI-]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\dNI-]*+)*+)'
    r"(-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?|-?Infinity|NaN)"
)


def json_frames(spark: SparkSession, files: Sequence[Found]) -> Frames:
    """Frames of the objects' keys: values as text, nested ones as they are. A line that is anything else than one
    object is in `_corrupt_record`.

    Raises Unusable that names the file where compression is damaged, or the key that an object repeats, or that differs
    from another one only in capitals.
    """
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        list(threads.map(lambda found: check_compressed(found.file), files))
    if not files:
        return Frames([], 0)
    found = _inferred(spark, files)
    schema = StructType([field for field in found if field.name != CORRUPT])
    if not schema.fields:
        raise Unusable(f"{files[0].file} has no line with a JSON object")
    others = f" or one of the {len(files) - 1} files after it" if len(files) > 1 else ""
    check_names([(f"{files[0].file}{others}", schema.names)])
    return Frames([_frame(spark, group, schema) for group in alike(files)], None)


def _inferred(spark: SparkSession, files: Sequence[Found]) -> StructType:
    reader = spark.read.options(primitivesAsString=True, columnNameOfCorruptRecord=CORRUPT)
    try:
        return reader.json(paths(files)).schema
    except AnalysisException as error:
        if "COLUMN_ALREADY_EXISTS" not in str(error):
            raise
        name = first_line(error).split("`")[1]
        raise Unusable(
            f"the key {name} occurs twice in an object, or in spellings that differ only in capitals"
        ) from error


def _frame(spark: SparkSession, files: Sequence[Found], schema: StructType) -> DataFrame:
    lines = with_folders(spark.read.text(paths(files)), files[0].folders)
    line = F.ltrim(F.regexp_replace("value", f"^{_BOM}", ""))
    # As a number 12345678.0 would become 1.2345678E7. Within brackets what follows an object is an error, which would
    # be passed over otherwise.
    texts = F.regexp_replace(line, _NUMBER, '$1"$2"')
    objects = F.from_json(F.concat(F.lit("["), texts, F.lit("]")), ArrayType(schema), {"mode": "PERMISSIVE"})
    parsed = lines.where(F.trim(line) != "").select("*", objects.alias("objects"))
    good = (F.size("objects") == 1) & F.col("objects")[0].isNotNull() & ~no_text(F.col("value"))
    folders = [name for name in lines.columns if name != "value"]
    values = {name: F.when(good, F.col("objects")[0][name]) for name in schema.names}
    for name in folders:  # where the row has no such key: another file may be the one that has it
        values[name] = F.coalesce(values[name], F.col(quoted(name))) if name in values else F.col(quoted(name))
    return parsed.select(
        *(value.alias(name) for name, value in values.items()),
        F.when(~F.coalesce(good, F.lit(False)), F.col("value")).alias(CORRUPT),
    )
