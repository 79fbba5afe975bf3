"""A new kind of feature is a class and a column; the table, the vocabulary, the contract and the samples follow."""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec.structs import fields, replace
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark.config import Config, KeepRates, Sampling, load_config
from ecdctr_spark.contract import contract
from ecdctr_spark.features import kinds
from ecdctr_spark.features.columns import source_column
from ecdctr_spark.features.past import Past
from ecdctr_spark.features.samples import samples
from ecdctr_spark.settings import features as settings
from ecdctr_spark.settings.features import FromImpression, Reserved
from ecdctr_spark.tables.schemas import DAILY_CLICKS, DAILY_COUNTS, VOCABULARY, samples_table
from tests.configured import FIRST_DAY
from tests.labelled import Impression, at, labelled, reserve, surveyed


class Given(FromImpression, frozen=True, kw_only=True):
    """Whether an attribute is given: a row of the embedding for no, and one for yes."""

    role = "index"

    kind: Literal["given"]

    def reserved(self, out_of_vocabulary: int) -> tuple[Reserved, ...]:
        return (("bucket", "0"), ("bucket", "1"))


def given(feature: Given, starts: kinds.Starts) -> Column:
    return F.lit(starts[feature.name]) + source_column(feature.source).isNotNull().cast("int")


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """A user, an item and a field of the new kind, and no sampling."""
    monkeypatch.setitem(settings.KINDS, "given", Given)
    monkeypatch.setitem(kinds.COLUMNS, "given", given)
    overrides = (
        "inherit=false",
        "fields.user_id={kind: id, source: user_id, basic: true}",
        "fields.item_id={kind: id, source: item_id}",
        "fields.has_age={kind: given, source: user.age, basic: true}",
    )
    every = KeepRates(positive=1.0, negative=1.0)
    loaded = load_config([], [FIRST_DAY, *(f"features.{override}" for override in overrides)])
    return replace(loaded, sampling=Sampling(seed=1, natural=every, ad=every))


def test_every_kind_has_a_column() -> None:
    assert settings.KINDS.keys() == kinds.COLUMNS.keys()
    for name, kind in settings.KINDS.items():
        assert {field.name: field.type for field in fields(kind)}["kind"] == Literal[name]


def test_all_else_follows_from_a_new_kind_s_class_and_column(spark: SparkSession, config: Config) -> None:
    vocabulary = surveyed(reserve(surveyed(spark.createDataFrame([], VOCABULARY.columns)), config.features))
    no, yes = range(vocabulary.survey.starts["has_age"], vocabulary.survey.next_index)
    past = Past(spark.createDataFrame([], DAILY_COUNTS.columns), spark.createDataFrame([], DAILY_CLICKS.columns), None)
    rows = labelled(spark, [Impression("with", at(0), profile={"age": "3"}), Impression("without", at(0))])
    made = samples(rows, past, vocabulary, config)
    assert {row.event_id: row.has_age for row in made.collect()} == {"with": yes, "without": no}
    assert "has_age int" in samples_table(config.features).columns.split(", ")
    assert made.columns == spark.createDataFrame([], samples_table(config.features).columns).columns
    assert contract(config.features, vocabulary.survey.starts, "all").ids == ("user_id", "item_id", "has_age")
    assert contract(config.features, vocabulary.survey.starts, "basic").ids == ("user_id", "has_age")
