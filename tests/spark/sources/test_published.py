"""Public data sets in their published formats, on small files of our own making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.features.columns import source_column
from ecdctr_spark.features.ingest import judged_impressions, judged_profiles
from ecdctr_spark.features.labels import label
from ecdctr_spark.features.profiles import with_profiles
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES, TERMS, Raw
from ecdctr_spark.sources.values import Clock

ONEHOT = ",".join(f"onehot_feat{number}" for number in range(18))
KUAIRAND = {
    "data/log_standard_4_08_to_4_21_pure.csv": "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,"
    "is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab\n"
    "7,100,20220408,1400,1649397600123,1,0,0,0,0,0,1,9000,8000,0,0,0,0,1\n"
    "7,200,20220408,2359,1649433599000,0,0,0,0,0,0,0,10,8000,0,0,0,0,4\n",
    "data/log_random_4_22_to_5_08_pure.csv": "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,"
    "is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab\n"
    "8,300,20220422,1400,1650607200000,1,0,0,0,0,0,1,9000,8000,0,0,0,1,1\n",
    "data/user_features_pure.csv": "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
    f'register_days,register_days_range,{ONEHOT}\n7,high_active,0,0,1,5,"(0,10]",3,"[1,10)",0,0,500,366-730'
    + ",1" * 18
    + "\n",
    "data/video_features_basic_pure.csv": "video_id,author_id,video_type,upload_dt,upload_type,visible_status,"
    "video_duration,server_width,server_height,music_id,music_type,tag\n"
    '100,1,NORMAL,2022-04-01,ShortImport,0,8000.0,720,1280,9,9.0,"12,65"\n'
    "200,2,AD,2022-04-02,LongImport,0,,720,1280,8,4.0,\n",
}
TAOBAO = {
    "raw_sample.csv": "user,time_stamp,adgroup_id,pid,nonclk,clk\n581738,1494137644,1,430548_1007,1,0\n"
    "581738,1494137700,2,430539_1007,0,1\n5,1494137644,99,430548_1007,1,0\n",
    "ad_feature.csv": "adgroup_id,cate_id,campaign_id,customer,brand,price\n1,6406,83237,11,95471,170.0\n"
    "2,6406,83238,12,NULL,199.0\n",
    "user_profile.csv": "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
    "occupation,new_user_class_level \n581738,0,5,2,5,,3,0,3\n",
    "behavior_log.csv": "user,time_stamp,btag,cate,brand\n581738,1493741625,pv,6406,95471\n"
    "581738,1493741626,fav,6406,95471\n581738,1493741627,cart,6421,91286\n5,1493741628,buy,6421,91286\n"
    "5,1493741629,gone,6421,91286\n",
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def raw(spark: SparkSession, kind: str, folder: Path, *settings: str) -> Raw:
    return SOURCES[kind](spark, load_config([kind], [f"source.folder={folder}", *settings]))


def checked(frames: Raw, timezone: str = "Asia/Shanghai") -> dict[str, Row]:
    rows = judged_impressions(frames.impressions, Clock(), timezone).collect()
    return {row["event_id"]: row for row in rows}


def test_kuairand_s_rows_are_impressions_of_their_day_in_china(spark: SparkSession, tmp_path: Path) -> None:
    rows = checked(raw(spark, "kuairand", lay_out(tmp_path, KUAIRAND)))
    assert all(row["reason"] is None for row in rows.values())
    found = {(row["user_id"], row["item_id"]): (row["domain"], row["clicked"], str(row["ds"])) for row in rows.values()}
    assert found == {
        ("7", "100"): ("natural", 1, "2022-04-08"),
        ("7", "200"): ("ad", 0, "2022-04-08"),  # a video of type AD; one second to midnight
        ("8", "300"): ("natural", 1, "2022-04-22"),  # a video without features
    }
    assert rows["8|300|1650607200000"]["context"] == {"tab": "1", "is_rand": "1"}


def test_kuairand_s_ads_may_be_a_tab(spark: SparkSession, tmp_path: Path) -> None:
    rows = checked(raw(spark, "kuairand", lay_out(tmp_path, KUAIRAND), "source.ad_tab=1"))
    assert {row["item_id"]: row["domain"] for row in rows.values()} == {"100": "ad", "200": "natural", "300": "ad"}


def test_kuairand_s_features_are_attributes(spark: SparkSession, tmp_path: Path) -> None:
    frames = raw(spark, "kuairand", lay_out(tmp_path, KUAIRAND))
    assert frames.users is not None and frames.items is not None
    (user,) = judged_profiles(frames.users, "user_id", Clock()).collect()
    assert user["attributes"]["follow_user_num_range"] == "(0,10]"
    items = {row["item_id"]: row["attributes"] for row in judged_profiles(frames.items, "item_id", Clock()).collect()}
    assert items["100"] == {
        "category": "12", "author_id": "1", "video_type": "NORMAL", "upload_type": "ShortImport",
        "video_duration": "8000.0", "music_id": "9", "music_type": "9.0", "tag": "12,65",
    }  # fmt: skip
    assert "category" not in items["200"]


def test_taobao_s_ads_and_shop_share_category_and_brand(spark: SparkSession, tmp_path: Path) -> None:
    rows = checked(raw(spark, "taobao", lay_out(tmp_path, TAOBAO))).values()
    good = [row for row in rows if row["reason"] is None]
    found = {(row["domain"], row["user_id"], row["item_id"], row["clicked"]) for row in good}
    assert found == {
        ("ad", "581738", "6406|95471", 0),
        ("ad", "581738", "6406|", 1),  # a product without a brand
        ("natural", "581738", "6406|95471", 0),  # viewed
        ("natural", "581738", "6406|95471", 1),  # then a favourite
        ("natural", "581738", "6421|91286", 1),
        ("natural", "5", "6421|91286", 1),
    }
    assert {row["reason"] for row in rows} == {None, "item_id is missing", "clicked is neither 0 nor 1"}
    (first,) = [row for row in good if row["context"].get("adgroup_id") == "1"]
    assert first["context"] | {"price": "170.0", "advertiser": "11", "pid": "430548_1007"} == first["context"]
    assert str(first["ds"]) == "2017-05-07"


def test_taobao_s_profiles_keep_the_column_whose_name_ends_in_a_space(spark: SparkSession, tmp_path: Path) -> None:
    frames = raw(spark, "taobao", lay_out(tmp_path, TAOBAO))
    assert frames.users is not None
    (user,) = judged_profiles(frames.users, "user_id", Clock()).collect()
    assert user["attributes"]["new_user_class_level"] == "3"
    assert "pvalue_level" not in user["attributes"]


@pytest.mark.parametrize(("kind", "files"), [("kuairand", KUAIRAND), ("taobao", TAOBAO)])
def test_every_feature_of_the_overlay_finds_its_source(
    spark: SparkSession, tmp_path: Path, kind: str, files: dict[str, str]
) -> None:
    config = load_config([kind])
    frames = raw(spark, kind, lay_out(tmp_path, files))
    shown = judged_impressions(frames.impressions, Clock(), "UTC").where("reason is null")
    users = judged_profiles(frames.users, "user_id", Clock()) if frames.users is not None else None
    items = judged_profiles(frames.items, "item_id", Clock()) if frames.items is not None else None
    none = spark.createDataFrame([], "item_id string, valid_from timestamp, attributes map<string,string>")
    rows = with_profiles(label(shown, None, 24), users, none if items is None else items, 0)
    for feature in config.features.ids:
        assert rows.where(source_column(feature.source).isNotNull()).count() > 0, feature.name


@pytest.mark.parametrize("kind", ["kuairand", "taobao"])
def test_without_the_files_the_error_says_where_to_get_them(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    assert "https://" in TERMS[kind]
    with pytest.raises(ConfigError, match=r"source\.folder is not set: .*https://"):
        SOURCES[kind](spark, load_config([kind]))
    with pytest.raises(ConfigError, match=r"nowhere: no such folder; expected the files from https://"):
        raw(spark, kind, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"has no file \S+\.csv; unpack the data set there"):
        raw(spark, kind, tmp_path)


def test_a_file_with_other_columns_is_named(spark: SparkSession, tmp_path: Path) -> None:
    changed: dict[str, Any] = {**TAOBAO, "ad_feature.csv": "adgroup_id,cate_id,campaign_id,customer,price\n1,2,3,4,5\n"}
    with pytest.raises(ConfigError, match=r"ad_feature\.csv: lacks the column brand; expected the file as"):
        raw(spark, "taobao", lay_out(tmp_path, changed))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('adgroup_id,cate_id,campaign_id,customer,brand,price\n1,6406,83237,11,"95471,170.0\n', r", line 2: a quoted"),
        ("adgroup_id,cate_id,campaign_id,customer,brand,price,Price\n1,2,3,4,5,6,7\n", r" has a column Price beside"),
    ],
)
def test_a_published_file_that_would_be_misread_is_refused(
    spark: SparkSession, tmp_path: Path, content: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"ad_feature\.csv{said}"):
        raw(spark, "taobao", lay_out(tmp_path, {**TAOBAO, "ad_feature.csv": content}))
