"""What names and values agree on is proposed with its evidence; what they leave open is marked, or not proposed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from ecdctr_spark.config import load_config
from ecdctr_spark.proposing.evidence import Guess
from ecdctr_spark.proposing.features import LEFT_OUT
from ecdctr_spark.proposing.proposal import Proposal, propose
from ecdctr_spark.proposing.text import lines_of, yaml_of
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.excerpts import Excerpt, Values

METHOD = load_config([], ["calendar.first_day=2024-01-01"]).methods["ecdctr"]
NUMBERS = range(20)
MILLISECONDS = [str(1704448800000 + 3_600_000 * number) for number in NUMBERS]
SURFACES = ["sponsored" if number % 4 == 0 else "feed" for number in NUMBERS]


def log(place: str, columns: dict[str, Sequence[str | None] | Values], **more: Any) -> Excerpt:
    values = {name: one if isinstance(one, Values) else Values("text", one) for name, one in columns.items()}
    rows = len(next(iter(values.values())).values)
    whole, total = more.pop("whole", True), more.pop("total", 10_000_000)
    return Excerpt(f"/logs/{place}", more.pop("form", "csv"), 1, rows, whole, total, values, **more)


def several(prefix: str, of: int = 20) -> list[str]:
    return [f"{prefix}{number % of}" for number in NUMBERS]


def shown(place: str = "delivery", without: Sequence[str] = (), **columns: Sequence[str | None] | Values) -> Excerpt:
    """Impressions in names that are not those of the contract."""
    usual = {
        "request_id": several("r"), "ts": MILLISECONDS, "surface": SURFACES, "member": several("m", 5),
        "creative": several("c", 4), "is_click": several("", 2),
    }  # fmt: skip
    return log(place, {**{name: values for name, values in usual.items() if name not in without}, **columns})


CLICKS = {"rid": several("x"), "request_id": several("r"), "click_ts": MILLISECONDS}


def proposed(*excerpts: Excerpt, **given: Excerpt) -> Proposal:
    return propose(excerpts, given, METHOD)


def column(name: str, *excerpts: Excerpt) -> Guess:
    """The proposal for a column of the impressions."""
    return proposed(*excerpts).columns["impressions"][name]


def test_logs_are_told_by_their_names_and_columns() -> None:
    clicks = log("clickstream", CLICKS)
    users = log("people", {"member": several("m"), "age": several("", 5)})
    items = log("creatives", {"creative": several("c"), "member": several("m")})
    found = proposed(users, items, clicks, shown(), log("notes", {"text": several("t")}))
    places = {name: (guess.value, guess.sure) for name, guess in found.logs.items()}
    assert places == {
        "impressions": ("/logs/delivery", True),
        "clicks": ("/logs/clickstream", True),
        "users": ("/logs/people", False),
        "items": ("/logs/creatives", True),
    }
    unknown = "its columns text are not recognised as those of impressions, clicks, users or items"
    assert found.notes == [f"/logs/notes is left out: {unknown}"]


def test_a_folder_named_impressions_is_that_also_where_an_id_is_not_recognised() -> None:
    found = proposed(shown("impressions", without=["member"], who=several("m", 5)))
    assert found.logs["impressions"].value == "/logs/impressions"
    assert found.open == ["source.columns.impressions.user_id"]


def test_folders_without_impressions_are_named_with_what_they_hold() -> None:
    with pytest.raises(ConfigError, match="/logs/notes is left out: its columns text are not recognised"):
        proposed(log("notes", {"text": several("t")}))


def test_a_column_that_may_be_one_of_the_contract_becomes_no_feature() -> None:
    found = proposed(shown(without=["member"], customer_id=several("m", 5), account_id=several("a", 5)))
    assert "source.columns.impressions.user_id" in found.open
    named = {feature.name for feature in found.features}
    assert not named & {"context_customer_id", "context_account_id"}


def test_milliseconds_are_a_time_whatever_their_column_is_called_and_no_feature() -> None:
    found = proposed(shown(without=["ts"], moment=MILLISECONDS, later=MILLISECONDS))
    guess = found.columns["impressions"]["event_time"]
    assert guess.value is None and guess.among == ("moment", "later")
    (only,) = [proposed(shown(without=["ts"], moment=MILLISECONDS)).columns["impressions"]["event_time"]]
    assert (only.value, only.sure) == ("moment", False)
    known = proposed(shown(moment=MILLISECONDS))
    assert [feature.declared for feature in known.features if feature.name == "context_moment"] == [LEFT_OUT]


def test_a_click_log_that_flags_each_row_is_one_of_impressions() -> None:
    found = proposed(shown("click_log"))
    assert found.logs["impressions"] == Guess(
        "/logs/click_log", False, "a user and an item per row, with a time or a click"
    )


def test_columns_are_told_by_synonyms_and_values() -> None:
    columns = proposed(shown(), log("clicks", CLICKS)).columns
    assert {name: guess.value for name, guess in columns["impressions"].items()} == {
        "event_id": "request_id", "event_time": "ts", "user_id": "member", "item_id": "creative", "domain": "surface",
    }  # fmt: skip
    assert all(guess.sure for guess in columns["impressions"].values())
    assert "1704448800000 = 2024-01-05 10:00:00 UTC" in columns["impressions"]["event_time"].why
    assert columns["clicks"]["event_id"] == Guess("request_id", True, "100% of its values are ids of impressions")


@pytest.mark.parametrize("spelled", ["requestID", "Request-Id", "REQUEST_ID", "request.id"])
def test_spelling_makes_no_difference(spelled: str) -> None:
    assert column("event_id", shown(without=["request_id"], **{spelled: several("r")})).value == spelled


def test_of_two_times_the_likelier_is_marked_and_equals_are_not_decided() -> None:
    both = column("event_time", shown(received_at=MILLISECONDS))
    assert (both.value, both.sure) == ("ts", False) and "received_at would fit too" in both.why
    equal = column("event_time", shown(time=MILLISECONDS))
    assert equal.value is None and "several columns fit as well: ts (1704448800000" in equal.why
    assert column("event_time", shown(event_time=MILLISECONDS)).sure


def test_ids_that_look_like_times_are_none() -> None:
    ten_digits = [str(1700000000 + number) for number in NUMBERS]
    written = [f"2024-01-05T10:{number:02d}:00Z" for number in NUMBERS]
    found = proposed(shown(without=["member", "ts"], uid=ten_digits, happened=written)).columns["impressions"]
    assert (found["user_id"].value, found["event_time"].value, found["event_time"].sure) == ("uid", "happened", False)
    without = column("event_time", shown(without=["ts"], serial=ten_digits))
    assert without.value is None and "no column is named like it" in without.why


def test_times_that_cannot_be_read_are_shown() -> None:
    hours = column("event_time", shown(ts=["2024010512"] * 20))
    assert hours.value is None and "the values of ts (2024010512) cannot be read as times" in hours.why


def test_an_id_that_repeats_is_not_the_event_s() -> None:
    repeated = column("event_id", shown(request_id=several("r", 7)))
    assert repeated.value is None and "repeat too often to name an impression" in repeated.why
    assert column("event_id", shown(request_id=several("r", 7), id=several("e"))).value == "id"
    once = column("event_id", shown(request_id=several("r", 19)))
    assert (once.value, once.sure) == ("request_id", False) and "1 of 20 values repeat" in once.why


def test_a_name_of_the_contract_that_means_something_else_gives_way() -> None:
    columns = proposed(shown(domain=["example.org"] * 20)).columns["impressions"]
    assert (columns["domain"].value, columns["logged_domain"].value) == ("surface", "domain")


def test_a_column_of_the_contract_that_cannot_be_read_keeps_its_name() -> None:
    columns = proposed(shown(without=["ts"], event_time=["soon"] * 20)).columns["impressions"]
    assert columns["event_time"].value is None and "logged_event_time" not in columns


def test_the_table_of_items_decides_between_ids() -> None:
    both = {"content_id": several("k", 4), "without": ["creative"]}
    assert column("item_id", shown(ad_id=several("a", 4), **both)).value is None
    items = log("ads", {"ad_id": several("a")})
    decided = column("item_id", shown(ad_id=several("a", 4), **both), items)
    assert (decided.value, decided.sure) == ("ad_id", False) and "rather than content_id" in decided.why


@pytest.mark.parametrize(
    ("name", "values", "natural", "ad"),
    [
        ("surface", ("feed", "sponsored"), ["feed"], ["sponsored"]),
        ("is_ad", ("0", "1"), ["0"], ["1"]),
        ("is_sponsored", ("False", "True"), ["False"], ["True"]),
        ("traffic_type", ("organic", "ad"), ["organic"], []),
    ],
)
def test_domains_are_told_by_their_values(
    name: str, values: tuple[str, str], natural: list[str], ad: list[str]
) -> None:
    found = proposed(shown(without=["surface"], **{name: [values[number % 2] for number in NUMBERS]}))
    assert found.columns["impressions"]["domain"].value == name
    assert [(guess.value, guess.sure) for guess in found.domains.values()] == [(natural, True), (ad, True)]


def test_values_of_neither_domain_are_named_with_their_share() -> None:
    banners = ["banner" if number % 5 == 0 else surface for number, surface in enumerate(SURFACES)]
    found = proposed(shown(surface=banners)).domains
    assert not found["natural"].sure and "quarantined unless you add it: banner (20.0%)" in found["ad"].why


def test_without_a_column_of_domains_nothing_is_guessed() -> None:
    found = proposed(shown(without=["surface"], device=several("d", 3)))
    assert found.open == ["source.columns.impressions.domain"]
    assert "device: d0 (7)" in found.columns["impressions"]["domain"].why
    assert found.domains == {}


def test_ads_in_a_folder_of_their_own_need_no_domain() -> None:
    ads = shown("sponsored_views", ["surface"], request_id=several("a"))
    found = proposed(shown("feed_views", ["surface"]), ads)
    assert (found.logs["impressions"].value, found.logs["ads"].value) == ("/logs/feed_views", "/logs/sponsored_views")
    assert not found.logs["ads"].sure and "domain" not in found.columns["impressions"] and not found.open
    assert found.columns["ads"]["event_id"].sure
    same = proposed(shown("feed_views", ["surface"]), shown("sponsored_views", ["surface"])).columns["ads"]["event_id"]
    assert not same.sure and "100% are ids of other impressions too: one row of each is kept" in same.why


def test_several_folders_that_look_alike_are_not_decided() -> None:
    with pytest.raises(ConfigError, match="several folders look like impressions: /logs/views_a, /logs/views_b; name"):
        proposed(shown("views_a"), shown("views_b"))
    tables = [log(f"users_{name}", {"uid": several("u")}) for name in "ab"]
    assert proposed(shown(), *tables).open == ["source.users"]
    given = proposed(shown("views_a"), impressions=shown("views_b"))
    assert given.logs["impressions"].value == "/logs/views_b"
    assert given.notes == ["/logs/views_a is left out: it looks like impressions, which are given"]


@pytest.mark.parametrize(("values", "sure"), [({"is_click": several("", 2)}, True), ({"label": several("", 2)}, False)])
def test_a_label_may_be_something_else_than_a_click(values: dict[str, list[str]], sure: bool) -> None:
    guess = column("clicked", shown(without=["is_click"], **values))
    assert (guess.value, guess.sure) == (next(iter(values)), sure) and "50.00% of the rows are clicked" in guess.why


def test_clicks_come_from_their_log_unless_impressions_carry_them() -> None:
    without = proposed(shown(without=["is_click"]))
    assert without.open == ["source.columns.impressions.clicked"]
    clicks = log("clicks", CLICKS)
    assert not proposed(shown(without=["is_click"]), clicks).open
    both = proposed(shown(clicked=several("", 2)), clicks).columns["impressions"]["clicked"]
    assert not both.sure and "the clicks log does not" in both.why


def test_clicks_of_other_impressions_are_noticed() -> None:
    guess = proposed(shown(), log("clicks", {"request_id": several("z"), "click_ts": MILLISECONDS})).columns["clicks"]
    assert guess["event_id"].value is None and "none of the values of request_id is an id" in guess["event_id"].why


def test_times_without_a_zone_and_days_are_marked() -> None:
    local = [f"2024-01-{5 + number // 10:02d} 10:{number:02d}:00" for number in NUMBERS]
    found = proposed(shown(ts=local))
    assert (found.units["timezone"].value, found.units["timezone"].sure) == ("UTC", False)
    assert found.calendar["first_day"].value == "2024-01-05" and found.last_day == dt.date(2024, 1, 6)
    assert not found.calendar["timezone"].sure and "the logs begin at 10:00 that day" in found.calendar["first_day"].why
    assert "timezone" not in proposed(shown()).units


def test_features_are_of_columns_with_few_values_and_known_before() -> None:
    views = shown(
        slot=several("", 3), dwell_ms=several(""), price=[f"{number}.5" for number in NUMBERS], page=several("p"),
        only=["x"] * 20, tags=Values("nested", several("t")), seen=[f"2024-01-05T10:{n:02d}:00Z" for n in NUMBERS],
    )  # fmt: skip
    items = log("items", {"creative": several("c"), "genre": several("g", 3), "title": several("t")})
    found = {feature.name: feature.declared for feature in proposed(views, items).features}
    assert found == {
        "item_category": {"source": "item.genre"},
        "category_natural_rate_7": {"entity": "item.genre"},
        "item_genre": {"kind": "id", "source": "item.genre"},
        "context_slot": {"kind": "id", "source": "context.slot"},
        "context_price": {"kind": "number", "source": "context.price"},
        **dict.fromkeys(["item_title", "context_dwell_ms", "context_page", "context_only", "context_tags",
                         "context_seen"], LEFT_OUT),
    }  # fmt: skip


def test_without_a_category_its_features_are_dropped() -> None:
    found = {feature.name: feature.declared for feature in proposed(shown()).features}
    assert found == {"item_category": None, "category_natural_rate_7": None}


def test_nested_values_become_columns_and_features() -> None:
    nested = {"user.id": several("u", 5), "device.os": several("o", 2)}
    found = proposed(
        log("views", {**shown(without=["member"]).columns, **{k: Values("text", v) for k, v in nested.items()}})
    )
    columns = found.columns["impressions"]
    assert (columns["user_id"].value, columns["device_os"].value) == ("user.id", "device.os")
    assert "context_device_os" in {feature.name for feature in found.features}


def test_a_dialect_is_that_of_all_logs() -> None:
    semicolons = shown()._replace(delimiter=";", encodings={"cp1252": "Café"}, escapes=True)
    dialect = proposed(semicolons).csv
    assert {name: (guess.value, guess.sure) for name, guess in dialect.items()} == {
        "delimiter": (";", True), "escape": ("\\", False), "encoding": ("cp1252", False),
    }  # fmt: skip
    several_encodings = {"gb18030": "悲", "cp1252": "±¯"}
    assert proposed(shown()._replace(encodings=several_encodings)).open == ["source.csv.encoding"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (log("clicks", CLICKS, form="json"), "source.format is one for all logs, and these differ: impressions csv"),
        (log("clicks", CLICKS, delimiter=","), "source.csv.delimiter is one for all logs"),
    ],
)
def test_logs_that_one_configuration_cannot_read_are_refused(other: Excerpt, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        proposed(shown()._replace(delimiter=";"), other)


def test_without_impressions_nothing_is_proposed() -> None:
    with pytest.raises(ConfigError, match="no impressions among the folders"):
        proposed(log("users", {"uid": several("u")}))


def test_the_overlay_says_what_was_proposed_and_marks_what_is_not_sure() -> None:
    found = proposed(shown(is_ad=several("", 2), without=["surface", "ts"]))
    text = yaml_of(found)
    tree = yaml.safe_load(text)
    assert tree["source"]["columns"]["impressions"] == {
        "event_id": "request_id", "event_time": "???", "user_id": "member", "item_id": "creative", "domain": "is_ad",
        "clicked": "is_click",
    }  # fmt: skip
    assert tree["source"]["domains"] == {"natural": ["0"], "ad": ["1"]}
    assert tree["calendar"] == {"timezone": "UTC", "first_day": "???"}
    assert "      # ???: no column is named like it; the columns are" in text
    assert max(map(len, text.splitlines())) <= 120
    lines = list(lines_of(found))
    assert sum(line.startswith("???") for line in lines) == 2
    assert all(line.startswith(("sure  ", "CHECK ", "???   ")) for line in lines)


def test_names_of_the_contract_need_no_mapping() -> None:
    plain = log("impressions", {
        "event_id": several("e"), "event_time": MILLISECONDS, "domain": several("ad", 1), "user_id": several("u"),
        "item_id": several("i"), "clicked": several("", 2),
    })  # fmt: skip
    natural = ["natural" if number % 2 else "ad" for number in NUMBERS]
    found = proposed(plain._replace(columns={**plain.columns, "domain": Values("text", natural)}))
    tree = yaml.safe_load(yaml_of(found))
    assert tree["source"]["columns"] == {"impressions": {}} and "domains" not in tree["source"]


def test_batches_are_smaller_where_a_training_would_make_few_steps() -> None:
    """Of 10,000 impressions on two days a quarter are ads: 112,500 natural ones in CPM's 30 days, 17,500 ads in 14."""
    small = shown()._replace(total=10_000)
    found = proposed(small)
    assert {name: guess.value for name, guess in found.batches.items()} == {"tpm": 1024, "cpm": 1024, "actr": 128}
    assert (
        "about 112,500 impressions, less what sampling drops: 4,096 would be 28 of 100 steps"
        in found.batches["cpm"].why
    )
    assert not any(guess.sure for guess in found.batches.values())
    assert proposed(small._replace(total=10)).batches["actr"].value == 64
    assert "CHECK  methods.ecdctr.levels.actr.train.batch_size = 128" in "\n".join(lines_of(found))
    levels = yaml.safe_load(yaml_of(found))["methods"]["ecdctr"]["levels"]
    assert levels["cpm"] == {"train": {"batch_size": 1024}}


def test_large_logs_keep_the_batches_of_the_method() -> None:
    assert proposed(shown()).batches == {}
    assert "methods" not in yaml.safe_load(yaml_of(proposed(shown())))


def test_ads_that_are_logged_apart_are_counted_apart() -> None:
    natural, ads = shown(without=["surface"]), shown("sponsored", without=["surface"])
    found = propose([], {"impressions": natural, "ads": ads._replace(total=500)}, METHOD)
    assert {name: guess.value for name, guess in found.batches.items()} == {"actr": 64}


def test_nothing_is_proposed_while_it_is_open_what_an_ad_is() -> None:
    assert proposed(shown(without=["surface"])._replace(total=100)).batches == {}
