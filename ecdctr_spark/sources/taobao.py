"""Ali_Display_Ad_Click: eight days of Taobao's display ads, and three weeks of what the same users did in the shop.

An item is a (category, brand) pair, which an ad's product and the shop's log have in common. Natural content is the
shop: a page view is an impression without a click, a favourite, cart or purchase is one with a click. An ad is an
impression of its product's pair. The ad's id, campaign, advertiser and price are its context.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.sources.published import folder_of, table
from ecdctr_spark.sources.raw import Raw

WHERE = "https://tianchi.aliyun.com/dataset/56 (Ali_Display_Ad_Click, unpacked)"
TERMS = (
    "Ali_Display_Ad_Click is Alibaba's, shared at https://tianchi.aliyun.com/dataset/56 with those who agree to the"
    " terms shown there; this project neither fetches nor passes it on"
)

_SAMPLE = ("user", "time_stamp", "adgroup_id", "pid", "clk")
_AD = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price")
_USER = (
    "userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level",
    "occupation", "new_user_class_level",
)  # fmt: skip
_BEHAVIOUR = ("user", "time_stamp", "btag", "cate", "brand")
_VIEWED = "pv"


def read(spark: SparkSession, config: Config) -> Raw:
    """raw_sample, ad_feature, user_profile and behavior_log under source.folder. Times are in seconds since 1970."""
    folder = folder_of(config, WHERE)
    ads = table(spark, folder, "raw_sample.csv", _SAMPLE)
    products = table(spark, folder, "ad_feature.csv", _AD)
    shop = table(spark, folder, "behavior_log.csv", _BEHAVIOUR)
    users = table(spark, folder, "user_profile.csv", _USER).withColumnRenamed("userid", "user_id")
    impressions = _shown(ads, products).unionByName(_visited(shop), allowMissingColumns=True)
    return Raw(impressions, clicks=None, users=users, items=None)


def _shown(ads: DataFrame, products: DataFrame) -> DataFrame:
    known = products.dropDuplicates(["adgroup_id"])
    return ads.join(known, "adgroup_id", how="left").select(  # an ad is once in known
        F.concat_ws("|", F.lit("ad"), "user", "time_stamp", "adgroup_id", "pid").alias("event_id"),
        _milliseconds(),
        F.lit("ad").alias("domain"),
        F.col("user").alias("user_id"),
        _pair("cate_id").alias("item_id"),
        F.col("clk").alias("clicked"),
        F.col("cate_id").alias("category"),
        _brand().alias("brand"),
        "adgroup_id",
        "campaign_id",
        F.col("customer").alias("advertiser"),
        "price",
        "pid",
    )


def _visited(shop: DataFrame) -> DataFrame:
    return shop.select(
        F.concat_ws("|", F.lit("shop"), "user", "time_stamp", "btag", "cate", "brand").alias("event_id"),
        _milliseconds(),
        F.lit("natural").alias("domain"),
        F.col("user").alias("user_id"),
        _pair("cate").alias("item_id"),
        F.when(F.col("btag") == _VIEWED, "0").when(F.col("btag").isin("fav", "cart", "buy"), "1").alias("clicked"),
        F.col("cate").alias("category"),
        _brand().alias("brand"),
    )


def _milliseconds() -> Column:
    return F.concat("time_stamp", F.lit("000")).alias("event_time")


def _pair(category: str) -> Column:
    return F.concat(category, F.lit("|"), F.coalesce(_brand(), F.lit("")))


def _brand() -> Column:
    return F.when(F.col("brand") != "NULL", F.col("brand"))
