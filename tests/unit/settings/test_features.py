"""The fields are what base.yaml and the overlays say, in an order that depends on nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecdctr_spark.config import Config, load_config, typed
from ecdctr_spark.settings.base import ConfigError, parsed, plain
from ecdctr_spark.settings.features import OWN_COLUMNS, Behaviours, Features, Id, Number
from ecdctr_spark.tables.schemas import samples_table
from tests.configured import FIRST_DAY

USER = Id(kind="id", name="user_id", source="user_id")
ITEM = Id(kind="id", name="item_id", source="item_id")
WHO_AND_WHAT = {"user_id": {"kind": "id", "source": "user_id"}, "item_id": {"kind": "id", "source": "item_id"}}

# By kind in the order of a sample's columns: id, number, count, rate, behaviours.
ORDERS = {
    "base": (
        "user_id item_id item_category",
        "",
        "user_natural_impressions_28 user_ad_impressions_7 item_natural_clicks_7 item_ad_impressions_28",
        "user_natural_rate_28 item_natural_rate_28 item_ad_rate_28 category_natural_rate_7",
        "recent_clicks",
    ),
    "movielens": (
        "user_id item_id item_category user_gender user_age user_occupation user_zip3 item_decade",
        "item_year",
        "user_natural_impressions_28 user_ad_impressions_7 item_natural_clicks_7 item_ad_impressions_28",
        "user_natural_rate_28 item_natural_rate_28 item_ad_rate_28 category_natural_rate_7",
        "recent_clicks",
    ),
    "synthetic": (
        "user_id item_id item_category user_age user_region item_advertiser position device",
        "",
        "user_natural_impressions_28 user_ad_impressions_7 item_natural_clicks_7",
        "user_natural_rate_28 item_natural_rate_28 item_ad_rate_28 category_natural_rate_7",
        "recent_clicks",
    ),
    "kuairand": (
        "user_id item_id item_category user_active_degree item_author item_music_type tab",
        "item_duration",
        "user_natural_impressions_28 user_ad_impressions_7",
        "user_natural_rate_28 item_natural_rate_28 author_natural_rate_7",
        "recent_clicks",
    ),
    "taobao": (
        "user_id item_id category brand user_gender user_age user_shopping user_city ad campaign advertiser place",
        "price",
        "user_natural_impressions_7 user_ad_impressions_7",
        "user_natural_rate_7 item_natural_rate_7 category_natural_rate_7",
        "recent_clicks",
    ),
}
BASIC = {
    "base": "user_id item_id item_category",
    "movielens": "user_id item_id item_category user_gender user_age user_occupation",
    "synthetic": "user_id item_id item_category user_age",
    "kuairand": "user_id item_id item_category user_active_degree",
    "taobao": "user_id item_id category brand user_gender user_age",
}


def names(features: Features) -> list[str]:
    return [feature.name for feature in features.fields]


def fields(*overrides: str, overlay: Path | None = None) -> list[str]:
    """The names of the fields of base.yaml with an overlay and overrides."""
    return names(
        load_config([overlay] if overlay else [], [FIRST_DAY, *(f"features.{one}" for one in overrides)]).features
    )


@pytest.mark.parametrize("overlay", ORDERS)
def test_an_overlay_s_fields_are_in_the_order_that_its_vocabulary_and_networks_have(overlay: str) -> None:
    features = load_config([overlay], [FIRST_DAY]).features
    assert names(features) == " ".join(ORDERS[overlay]).split()
    assert [feature.name for feature in features.fields if feature.basic] == BASIC[overlay].split()


def test_one_line_adds_changes_or_drops_a_field(config: Config) -> None:
    before = names(config.features)
    assert fields("fields.recent_clicks=null") == [name for name in before if name != "recent_clicks"]
    assert fields("fields.tab={kind: id, source: context.tab}") == [*before[:3], "tab", *before[3:]]
    changed = load_config([], [FIRST_DAY, "features.fields.user_natural_impressions_28.days=14"]).features
    assert names(changed) == before
    assert [counter.days for counter in changed.counters] == [14, *(one.days for one in config.features.counters[1:])]


def test_an_overlay_starts_from_nothing_where_it_does_not_inherit(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(
        """
features:
  inherit: false
  fields:
    item_id: {kind: id, source: item_id}
    user_id: {kind: id, source: user_id}
"""
    )
    assert fields(overlay=overlay) == ["item_id", "user_id"]
    one_more = "fields.tab={kind: id, source: context.tab}"
    assert fields(one_more, overlay=overlay) == ["item_id", "user_id", "tab"]


def test_the_order_is_by_kind_and_within_a_kind_as_declared() -> None:
    age = Number(kind="number", name="age", source="user.age")
    recent = Behaviours(kind="behaviours", name="recent", of="item_id", length=2)
    assert names(Features(out_of_vocabulary=1, fields=(recent, age, ITEM, USER))) == [
        "item_id",
        "user_id",
        "age",
        "recent",
    ]


@pytest.mark.parametrize("overlay", ORDERS)
def test_a_dumped_configuration_is_read_again_as_it_was(overlay: str) -> None:
    config = load_config([overlay], [FIRST_DAY])
    dumped = plain(config)
    again = typed(dumped)
    assert again.features.fields == config.features.fields
    assert plain(again) == dumped
    assert "inherit" not in dumped["features"]  # what a model was made from does not depend on how it was written


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("user_id.min_cout=2", r"features\.fields\.user_id: unknown key min_cout; the nearest known one is min_count"),
        ("user_id.min_count=none", r"features\.fields\.user_id\.min_count: 'none' is no whole number"),
        ("recent_clcks=null", r"recent_clcks: no such field .*the nearest known one is recent_clicks"),
        ("recent_clcks.length=3", r"recent_clcks: no such field .*the nearest known one is recent_clicks"),
        ("x={kind: word, source: item.x}", r"x: kind is 'word', expected one of id, number, count, rate, behaviours"),
        ("x={kind: id, source: label}", r"x\.source: 'label' is not in an impression: give one of user_id"),
        ("x={kind: id, source: item.}", r"x\.source: 'item\.' is not in an impression"),
        ("x={kind: id, source: shop.x}", r"x\.source: 'shop\.x' is not in an impression"),
        ("x={kind: rate, entity: items, domain: ad, days: 1}", r"x\.entity: 'items' is not in an impression"),
        ("7days={kind: id, source: item.x}", r"'7days' cannot be a column's name"),
        ("a-b={kind: id, source: item.x}", r"'a-b' cannot be a column's name"),
        ("Label={kind: id, source: item.x}", r"'Label' is the name of another column of the pipeline"),
        ("Item_Id={kind: id, source: item.x}", r"item_id and Item_Id are one column to Spark"),
        ("recent_clicks.of=tab", r"behaviours recent_clicks are of 'tab', which is no id feature"),
        ("item_id=null", r"must hold the id features user_id and item_id"),
        ("user_id=3", r"features\.fields\.user_id: 3 is no mapping"),
        ("28d={kind: id, source: item.x}", r"'28d' cannot be a column's name"),
        ("part-ition={kind: id, source: item.x}", r"'part-ition' cannot be a column's name"),
        ("domain={kind: id, source: item.x}", r"'domain' is the name of another column"),
        ("Event_Time={kind: id, source: item.x}", r"'Event_Time' is the name of another column"),
        ("DS={kind: number, source: item.x}", r"'DS' is the name of another column"),
        ("_metadata={kind: id, source: item.x}", r"'_metadata' cannot be a column's name"),
        ("User_ID={kind: number, source: item.x}", r"user_id and User_ID are one column to Spark"),
        ("'größe'={kind: id, source: item.x}", r"cannot be a column's name"),
        (f"{'x' * 300}={{kind: id, source: item.x}}", r"has 300 characters: give a name of at most 100"),
        ("x={kind: id, source: context.}", r"x\.source: 'context\.' is not in an impression"),
        ("x={kind: id, source: ' user_id'}", r"x\.source: ' user_id' is not in an impression"),
        ("x={kind: id, source: Item.x}", r"x\.source: 'Item\.x' is not in an impression"),
    ],
)
def test_an_impossible_field_is_refused_when_the_configuration_is_read(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config([], [FIRST_DAY, f"features.fields.{override}"])


@pytest.mark.parametrize("name", ["", "a.b", "a`b", "a b", "tab\n", "é", "1a"])
def test_a_name_that_sql_would_have_to_quote_is_refused(name: str, tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(json.dumps({"features": {"fields": {name: {"kind": "id", "source": "item.x"}}}}))
    with pytest.raises(ConfigError, match="cannot be a column's name") as refused:
        load_config([overlay], [FIRST_DAY])
    assert "\n" not in str(refused.value)


def test_two_new_fields_that_differ_in_case_are_refused() -> None:
    one, other = (f"features.fields.{name}={{kind: id, source: item.x}}" for name in ("tab", "TAB"))
    with pytest.raises(ConfigError, match=r"tab and TAB are one column to Spark"):
        load_config([], [FIRST_DAY, one, other])


def test_a_list_of_fields_is_refused_since_it_would_not_merge() -> None:
    with pytest.raises(ConfigError, match=r"features\.fields: expected a mapping from names to fields"):
        load_config([], [FIRST_DAY, "features.fields=[user_id]"])


def test_a_field_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="user_id and user_id are one column"):
        Features(out_of_vocabulary=2, fields=(USER, ITEM, USER))


def test_no_field_may_have_the_name_of_a_sample_s_own_column() -> None:
    features = parsed(Features, {"out_of_vocabulary": 1, "fields": WHO_AND_WHAT})
    columns = {column.split()[0] for column in samples_table(features).columns.split(", ")}
    assert columns - set(names(features)) == set(OWN_COLUMNS)


def test_features_look_back_to_the_farthest_day_that_one_of_them_needs(config: Config) -> None:
    assert config.features.days_of_counts(lag=1) == 29  # 28 days of counters and of admission
    assert config.features.days_of_clicks == 90
    evicting = load_config(
        [], [FIRST_DAY, "features.fields.item_id.evict_days=60", "features.fields.recent_clicks=null"]
    )
    assert evicting.features.days_of_counts(lag=2) == 62
    assert evicting.features.days_of_clicks == 0
    assert "item_id" in evicting.features.counted
