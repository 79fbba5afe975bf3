"""How csv files are written can be said, in base.yaml's words, and a slip is reported by its key."""

from __future__ import annotations

import pytest

from ecdctr_spark.config import load_config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.sources import Csv
from tests.configured import FIRST_DAY


def csv_of(*settings: str) -> Csv:
    return load_config([], [FIRST_DAY, *settings]).source.csv


def test_base_yaml_names_the_defaults() -> None:
    assert csv_of() == Csv() == Csv(delimiter=",", quote='"', escape='"', encoding="utf-8")


def test_a_backslash_a_tab_and_no_quote_can_be_said() -> None:
    said = csv_of("source.csv.escape='\\'", 'source.csv.delimiter="\\t"', "source.csv.quote=null")
    assert said == Csv(escape="\\", delimiter="\t", quote=None)


@pytest.mark.parametrize(("given", "meant"), [("UTF8", "utf-8"), ("latin-1", "iso8859-1"), ("GB18030", "gb18030")])
def test_an_encoding_may_be_spelled_as_anyone_does(given: str, meant: str) -> None:
    assert csv_of(f"source.csv.encoding={given}").encoding == meant


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source.csv.encoding=utf-9", r"source\.csv\.encoding: unknown encoding utf-9"),
        ("source.csv.delimiter=;;", r"source\.csv\.delimiter: .*1 character"),
        ("source.csv.quote=''", r"source\.csv\.quote: .*1 character"),
        ("source.csv.separator=;", r"unknown key source\.csv\.separator"),
    ],
)
def test_a_slip_is_reported_by_its_key(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        csv_of(setting)


RENAMED = "source.columns.impressions={event_id: request_id, event_time: ts}"


def logs_of(*settings: str) -> str:
    return load_config([], [FIRST_DAY, *settings]).logs_id


def test_columns_identify_the_logs_by_what_they_say_and_not_by_their_order() -> None:
    swapped = "source.columns.impressions={event_time: ts, event_id: request_id}"
    assert logs_of(RENAMED) == logs_of(swapped) != logs_of()
    assert logs_of(RENAMED, "source.columns.clicks={event_id: id}") != logs_of(RENAMED)


def test_logs_that_need_no_columns_are_those_of_before_there_were_any() -> None:
    assert not {"ads", "columns", "domains"} & load_config([], [FIRST_DAY]).source.identified_by.keys()


def test_a_folder_of_ads_per_day_is_one_source() -> None:
    assert logs_of("source.ads=drop/2024-01-05") == logs_of("source.ads=drop/2024-01-06") != logs_of()


def test_values_of_domain_may_be_numbers_and_truth_values() -> None:
    domains = load_config([], [FIRST_DAY, "source.domains={natural: [0, false], ad: [1, true]}"]).source.domains
    assert (domains.natural, domains.ad) == (("0", "false"), ("1", "true"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source.columns={event_id: request_id}", r"source\.columns: event_id is none of the logs .*by log, such as"),
        (
            "source.columns.clicks={event_id: id, click_time: id}",
            r"source\.columns\.clicks: the column id is given for event_id and for click_time",
        ),
        ("source.columns.items={category: [a, b]}", r"source\.columns\.items\.category"),
        ("source.domains={natural: [feed], ad: [feed]}", r"source\.domains: feed stands for both natural and ad"),
        ("source.domains={natural: [ad]}", r"source\.domains: ad stands for both natural and ad"),
        ("source.columns.ads={event_id: id}", r"source: columns\.ads names columns, but ads is not set"),
        ("source.columns.impressions={event_id: '???'}", r"source\.columns\.impressions\.event_id is not set"),
    ],
)
def test_columns_and_domains_that_cannot_be_meant_are_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        logs_of(setting)


@pytest.mark.parametrize("setting", [RENAMED, "source.domains={ad: [x]}", "source.ads=folder"])
def test_sources_with_columns_of_their_own_refuse_others(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"is only for kind files: movielens has columns and domains of its own"):
        load_config(["movielens"], [setting])


def test_ads_apart_and_domains_by_value_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="ads already says which impressions are ads"):
        logs_of("source.ads=folder", "source.domains={ad: [x]}")
