"""The append-only vocabulary: which row of the embedding each token owns, for good.

One index space holds all fields. Row 0 is padding. A field reserves a block when it is first declared (an id: one row
for null, then the unknown rows; a count: its buckets). Tokens follow in the order in which they were first seen. No
index is ever given to another token.

Why append-only? An index outlives the training that made it: samples store indices, a daily model continues on the
table of the day before, CPM's rows pass to A-CTR, and monthly snapshots are joined by index. The alternatives:

- Build a new vocabulary for each training, for example by frequency. Indices move, so every sample must be encoded
  again, and no table can be taken over without a mapping from old to new.
- Hash tokens into a fixed number of rows. No state and no growth, but unrelated users share a vector, in the snapshots
  too. Here only tokens without a row of their own are hashed, into the field's unknown rows.
- Reuse the rows of tokens that have disappeared. A new token would start with the vector, the optimiser state and the
  snapshots of another.

The price is a table that only grows. A field may limit it: a token gets a row at the end of the day on which it was
shown `min_count` times within features.admission_days, at most `max_tokens` tokens get one, and a token not shown for
`evict_days` days is read as unknown until the day after it is shown again. It keeps its row meanwhile. `ecdctr check`
reports `tokens` and `new_tokens` and can stop a run that exceeds a limit.

What it asks of the reader:

- A token is known only after its `since`, so `encoded` needs the moment as of which a row is encoded.
- A reserved block cannot grow. Another declaration of a field makes another data set.
- A token that comes late is appended when it comes, and a forgotten user's row stays, without its token.
- A model reads an index beyond its own rows as unknown (models/fields.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from ecdctr_spark.config import Config
from ecdctr_spark.contract import PADDING
from ecdctr_spark.features.columns import day_of, known_from, source_column
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Features, Id, Reserved
from ecdctr_spark.tables.schemas import VOCABULARY
from ecdctr_spark.tables.small import arrow_schema
from ecdctr_spark.tables.survey import Block, Survey, surveyed

Reservation = tuple[str, str, str, int, None]  # a row (VOCABULARY) that a field reserves when it is first declared

_BROADCAST = 100_000  # tokens: few enough to fit the memory of every task


@dataclass(frozen=True)
class Vocabulary:
    """The rows (VOCABULARY), and what they are in numbers."""

    rows: DataFrame
    survey: Survey


def reserve(known: Survey, features: Features) -> list[Reservation]:
    """The rows to append for fields that `known` lacks, in the order of the fields; the padding row first.

    Raises ConfigError where a known field holds another number of rows than declared: its block cannot grow.
    """
    index = known.next_index
    rows: list[Reservation] = [("", "padding", "0", PADDING, None)] if index == PADDING else []
    for feature in features.fields:
        declared = feature.reserved(features.out_of_vocabulary)
        if feature.name in known.starts:
            _check_unchanged(feature.name, declared, known)
            continue
        for kind, token in declared:
            rows.append((feature.name, kind, token, index + len(rows), None))
    return rows


def with_reserved(known: Vocabulary, reserved: Sequence[Reservation]) -> Vocabulary:
    """The vocabulary as it is once these rows are appended; its own rows lack them, since they are no tokens."""
    schema = arrow_schema(VOCABULARY.columns)
    rows = [dict(zip(schema.names, row, strict=True)) for row in reserved]
    batch = pa.RecordBatch.from_pylist(rows, schema)
    return replace(known, survey=known.survey.joined(surveyed([batch], "UTC")))


def admit(known: Vocabulary, labelled: DataFrame, counts: DataFrame, config: Config) -> DataFrame:
    """The rows (VOCABULARY) to append for tokens of the labelled rows that `known` lacks.

    `since` is when the first of the labelled rows that carries the token is known, or the end of the day on which it
    reached min_count in `counts` (DAILY_COUNTS, back to features.admission_days before the labelled rows). Indices
    follow those of `known` in the order of (since, field, token), so that rows of later days never move an earlier one.
    """
    ids = config.features.ids
    seen = _seen(labelled, [feature for feature in ids if feature.min_count == 1], config)
    for feature in ids:
        if feature.min_count > 1:
            seen = seen.unionByName(_reached(labelled, counts, feature, config))
    new = seen.join(known.rows.where("kind = 'token'"), ["field", "token"], how="left_anti")
    for feature in ids:
        if feature.max_tokens is not None:
            new = _capped(new, feature.name, feature.max_tokens - known.survey.held(feature.name))
    # Tokens are numbered within an hour, after the count of all hours before it, so that no task sorts all tokens.
    dated = new.withColumn("hour", F.date_trunc("hour", "since"))
    earlier = Window.orderBy("hour").rowsBetween(Window.unboundedPreceding, -1)
    hours = dated.groupBy("hour").count()
    offsets = hours.select("hour", F.coalesce(F.sum("count").over(earlier), F.lit(0)).alias("offset"))
    place = F.row_number().over(Window.partitionBy("hour").orderBy("since", "field", "token"))
    return dated.join(offsets, "hour", how="inner").select(  # each hour is once in offsets
        "field",
        F.lit("token").alias("kind"),
        "token",
        (F.lit(known.survey.next_index - 1) + F.col("offset") + place).cast("int").alias("index"),
        "since",
    )


def encoded(
    labelled: DataFrame, vocabulary: Vocabulary, counts: DataFrame, ids: Sequence[Id], at: Column, timezone: str
) -> DataFrame:
    """The labelled rows with a struct column `index` that holds, for each id feature, its row of the embedding; without
    id features, the labelled rows.

    A token that was not seen before the moment `at`, or that is evicted by the `counts` (DAILY_COUNTS) of the days
    before, is read as one of the field's unknown rows, chosen by hash. A missing token is read as the null row. So the
    unknown rows are trained, and nothing at or after `at` changes an index.
    """
    frame = labelled
    for feature in ids:
        own = vocabulary.rows.where((F.col("field") == feature.name) & (F.col("kind") == "token")).select(
            *(F.col(column).alias(f"_{column}_{feature.name}") for column in ("token", "index", "since"))
        )
        # A larger one is not broadcast, and the labelled rows are shuffled for the field.
        small = vocabulary.survey.held(feature.name) <= _BROADCAST
        same = source_column(feature.source) == F.col(f"_token_{feature.name}")
        frame = frame.join(F.broadcast(own) if small else own, same, how="left")  # a token is once in its field
        if feature.evict_days is not None:
            frame = _with_last_shown(frame, labelled, counts, feature, feature.evict_days)
    unknown = {feature.name: vocabulary.survey.blocks[feature.name, "unknown"] for feature in ids}
    rows = [_row(feature, unknown[feature.name], at, timezone).alias(feature.name) for feature in ids]
    index = [F.struct(*rows).alias("index")] if rows else []  # Spark 3.5 fails on a struct without fields
    return frame.select(*labelled.columns, *index)


def _row(feature: Id, unknown: Block, at: Column, timezone: str) -> Column:
    token = source_column(feature.source)
    by_hash = (unknown.first + F.pmod(F.xxhash64(token), F.lit(unknown.rows))).cast("int")
    since = f"_since_{feature.name}"
    own = F.col(since) < at
    if feature.evict_days is not None:
        new_today = day_of(since, timezone) == F.col("ds")
        own = own & (F.col(f"_shown_{feature.name}").isNotNull() | new_today)
    return F.when(token.isNull(), unknown.first - 1).when(own, F.col(f"_index_{feature.name}")).otherwise(by_hash)


def _seen(labelled: DataFrame, ids: Sequence[Id], config: Config) -> DataFrame:
    """Each token of each field and the moment from which it was known: field, token, since."""
    carried = [
        F.struct(F.lit(feature.name).alias("field"), source_column(feature.source).alias("token")) for feature in ids
    ]
    tokens = F.inline(F.array(*carried).cast("array<struct<field:string,token:string>>"))  # typed where it is empty
    moment = known_from("event_time", config.features.availability_minutes).alias("at")
    return (
        labelled.select(moment, tokens)
        .where("token is not null")
        .groupBy("field", "token")
        .agg(F.min("at").alias("since"))
    )


def _reached(labelled: DataFrame, counts: DataFrame, feature: Id, config: Config) -> DataFrame:
    """The same for tokens shown min_count times within the admission days, on a day of the labelled rows."""
    days = counts.where(F.col("entity") == feature.source).groupBy("key", "ds").agg(F.sum("impressions").alias("shown"))
    lately = Window.partitionBy("key").orderBy(F.unix_date("ds")).rangeBetween(1 - config.features.admission_days, 0)
    reached = days.withColumn("shown", F.sum("shown").over(lately)).where(F.col("shown") >= feature.min_count)
    here = labelled.agg(F.min("ds").alias("first"), F.max("ds").alias("last"))
    first = (
        reached.join(F.broadcast(here), F.col("ds").between(F.col("first"), F.col("last")), how="inner")  # one row
        .groupBy("key")
        .agg(F.min("ds").alias("ds"))
    )
    end = F.to_utc_timestamp(F.date_add("ds", 1).cast("timestamp"), config.calendar.timezone)
    return first.select(F.lit(feature.name).alias("field"), F.col("key").alias("token"), end.alias("since"))


def _capped(new: DataFrame, field: str, most: int) -> DataFrame:
    """The new tokens; of the field, at most the first `most`."""
    place = F.row_number().over(Window.partitionBy("field").orderBy("since", "token"))
    first = new.where(F.col("field") == field).withColumn("place", place).where(F.col("place") <= most).drop("place")
    return new.where(F.col("field") != field).unionByName(first)


def _with_last_shown(frame: DataFrame, labelled: DataFrame, counts: DataFrame, feature: Id, days: int) -> DataFrame:
    """The frame, which holds the labelled rows, with the last day of the `days` days before ds on which the feature's
    token was shown, or null."""
    token = source_column(feature.source)
    asked = labelled.where(token.isNotNull()).select(token.alias("_key"), F.col("ds").alias("_ds")).distinct()
    shown = counts.where((F.col("entity") == feature.source) & (F.col("impressions") > 0)).select(
        F.col("key").alias("_key"), F.col("ds").alias("_ds"), F.col("ds").alias("shown")
    )
    before = Window.partitionBy("_key").orderBy(F.unix_date("_ds")).rangeBetween(-days, -1)
    both = shown.unionByName(asked.withColumn("asked", F.lit(True)), allowMissingColumns=True)
    last = both.withColumn(f"_shown_{feature.name}", F.max("shown").over(before)).where("asked").drop("shown", "asked")
    same = (token == F.col("_key")) & (F.col("ds") == F.col("_ds"))
    return frame.join(last, same, how="left").drop("_key", "_ds")  # (_key, _ds) is unique in last


def _check_unchanged(field: str, declared: Sequence[Reserved], known: Survey) -> None:
    """Guards against damage. Changed declarations are no cause: they make another data set with its own vocabulary."""
    for kind, rows in Counter(kind for kind, _ in declared).items():
        held = known.blocks.get((field, kind), Block(0, 0)).rows
        if held != rows:
            raise ConfigError(
                f"vocabulary: {field} has {held} {kind} rows, but its data set declares {rows}: the table is damaged or"
                " was written by other settings; restore it, or remove the data set and build it again"
            )
