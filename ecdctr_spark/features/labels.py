"""Which impressions were clicked: by their own column `clicked`, else by a click within the attribution window."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_CARRIED = ("event_id", "event_time", "domain", "user_id", "item_id", "context", "ds")


def label(impressions: DataFrame, clicks: DataFrame | None, attribution_hours: int) -> DataFrame:
    """One row per impression: its columns without `clicked`, plus `label` int 0/1 and `click_time` (null if unclicked).

    An impression that carries `clicked`, and every impression where `clicks` is None, is labelled by it, with
    event_time as its click_time. Any other is labelled by its earliest click with
    event_time <= click_time <= event_time + attribution_hours: another does not hide it.
    """
    own = impressions.select(
        *_CARRIED,
        F.col("clicked").alias("label"),
        F.when(F.col("clicked") == 1, F.col("event_time")).alias("click_time"),
    )
    if clicks is None:
        return own
    # Days ingested separately may each hold a click on the same impression.
    times = clicks.groupBy("event_id").agg(F.collect_list("click_time").alias("clicked_at"))
    window_end = F.col("event_time") + F.make_dt_interval(hours=F.lit(attribution_hours))
    counting = F.filter("clicked_at", lambda time: time.between(F.col("event_time"), window_end))
    joined = own.join(times, "event_id", how="left").withColumn("earliest", F.array_min(counting))
    carried = F.col("label").isNotNull()
    return joined.select(
        *_CARRIED,
        F.when(carried, F.col("label")).otherwise(F.col("earliest").isNotNull().cast("int")).alias("label"),
        F.when(carried, F.col("click_time")).otherwise(F.col("earliest")).alias("click_time"),
    )
