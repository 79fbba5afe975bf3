"""Labelled impressions to samples: every declared feature as a number or a row of the embedding, and their layout."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.features.columns import day_of, narrowed
from ecdctr_spark.features.kinds import sample_column
from ecdctr_spark.features.past import Past, with_past
from ecdctr_spark.features.sampling import keep
from ecdctr_spark.features.vocabulary import Vocabulary, encoded

_GROUPS = 16  # groups of tasks that write slices at once


def samples(labelled: DataFrame, past: Past, vocabulary: Vocabulary, config: Config) -> DataFrame:
    """The samples of the labelled rows that sampling keeps: the columns of samples_table, never null.

    `past` reaches back to the first day that the features read. Of a sample's own day and later nothing is read, except
    what became known on that day before event_time where features.freshness is event. `vocabulary` has every field
    (vocabulary.reserve).
    """
    features, timezone = config.features, config.calendar.timezone
    kept = keep(narrowed(labelled, features), config.sampling, timezone)
    known = with_past(kept, kept, past, features)
    frame = encoded(known, vocabulary, past.counts, features.ids, F.col("event_time"), timezone)
    return frame.select(
        "event_id",
        "event_time",
        F.col("user_id").alias("user"),
        F.col("item_id").alias("item"),
        *(sample_column(feature, vocabulary.survey.starts) for feature in features.fields),
        F.col("label").cast("float").alias("label"),
        F.coalesce(F.unix_date(day_of("click_time", timezone)), F.lit(0)).alias("click_day"),
        "weight",
        "domain",
        "ds",
    )


def shuffled(samples: DataFrame, files: int) -> DataFrame:
    """The samples laid out for writing: `files` files per (domain, ds), rows in the order of a hash of event_id.

    The layout depends on the rows only: written again, they give the same files in the same order (by part number),
    whatever Spark's settings.
    """
    tasks = _GROUPS * files
    group = F.pmod(F.xxhash64("domain", "ds"), F.lit(_GROUPS))
    place = F.xxhash64("event_id")
    # The files of a slice come from neighbouring tasks, one each.
    task = (group * files + F.pmod(place, F.lit(files))).cast("int")
    keys = F.array(*(F.lit(key) for key in _task_keys(samples, tasks)))
    return samples.repartition(tasks, keys[task]).sortWithinPartitions("domain", "ds", place, "event_id")


def content(samples: DataFrame) -> DataFrame:
    """One row per (domain, ds): the number of rows, and a checksum that does not depend on their order."""
    # Decimals, since a bigint sum that overflows is an error in ANSI mode.
    checksum = F.sum(F.xxhash64(*samples.columns).cast("decimal(38,0)")) % (1 << 62)
    return samples.groupBy("domain", "ds").agg(
        F.count(F.lit(1)).alias("rows"), checksum.cast("bigint").alias("checksum")
    )


def _task_keys(samples: DataFrame, tasks: int) -> list[int]:
    """For each task a number that Spark's hash partitioning, pmod(hash(number), tasks), sends to it."""
    numbers = samples.sparkSession.range(64 * tasks)  # 64 per task on average, so that each task gets one
    sent = numbers.groupBy(F.pmod(F.hash("id"), F.lit(tasks)).alias("task")).agg(F.min("id").alias("key"))
    return [row["key"] for row in sent.orderBy("task").collect()]
