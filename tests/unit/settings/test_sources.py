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
