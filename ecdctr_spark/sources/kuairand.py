"""KuaiRand (Gao et al., CIKM 2022), Pure or 1K: the video feed of Kuaishou, standard and randomly exposed rows alike.

A row of a log is an impression, clicked where `is_click` is 1. Ads are the videos of type AD or, with
`source.ad_tab`, the rows of one tab of the app: 1K has few AD videos, and tabs differ as domains do.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.sources.published import folder_of, table
from ecdctr_spark.sources.raw import Raw

WHERE = "https://kuairand.com (KuaiRand-Pure or KuaiRand-1K, unpacked)"
TERMS = (
    "KuaiRand is shared by its authors at https://kuairand.com under the licence shown there; this project neither"
    " fetches nor passes it on. Cite C. Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with"
    " Randomly Exposed Videos, CIKM 2022, https://doi.org/10.1145/3511808.3557624"
)

_LOG = ("user_id", "video_id", "time_ms", "is_click", "is_rand", "tab")
_USER = (
    "user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author",
    "follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range",
    *(f"onehot_feat{number}" for number in range(18)),
)  # fmt: skip
_VIDEO = ("video_id", "author_id", "video_type", "upload_type", "video_duration", "music_id", "music_type", "tag")


def read(spark: SparkSession, config: Config) -> Raw:
    """The logs, user features and basic video features under source.folder. What follows a click (likes, play time) is
    left out: it would reveal the label."""
    folder = folder_of(config, WHERE)
    logs = table(spark, folder, "log_*.csv", _LOG)
    videos = table(spark, folder, "video_features_basic_*.csv", _VIDEO)
    users = table(spark, folder, "user_features_*.csv", _USER)
    return Raw(_impressions(logs, videos, config.source.ad_tab), clicks=None, users=users, items=_items(videos))


def _impressions(logs: DataFrame, videos: DataFrame, ad_tab: int | None) -> DataFrame:
    kinds = videos.select("video_id", "video_type").dropDuplicates(["video_id"])
    typed = logs.join(kinds, "video_id", how="left")  # a video is once in kinds
    ad = F.col("video_type") == "AD" if ad_tab is None else F.col("tab").cast("int") == ad_tab
    return typed.select(
        F.concat_ws("|", "user_id", "video_id", "time_ms").alias("event_id"),
        F.col("time_ms").alias("event_time"),
        F.when(ad, "ad").otherwise("natural").alias("domain"),
        "user_id",
        F.col("video_id").alias("item_id"),
        F.col("is_click").alias("clicked"),
        "tab",
        "is_rand",
    )


def _items(videos: DataFrame) -> DataFrame:
    first_tag = F.split("tag", ",").getItem(0).alias("category")
    return videos.select(F.col("video_id").alias("item_id"), first_tag, *_VIDEO[1:])
