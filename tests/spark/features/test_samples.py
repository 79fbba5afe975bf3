"""A sample has every declared feature, and knows nothing of its own time or later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pyarrow import parquet
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import Config, KeepRates, Sampling
from ecdctr_spark.features.behaviours import daily_clicks
from ecdctr_spark.features.columns import when_known
from ecdctr_spark.features.counters import daily_counts
from ecdctr_spark.features.past import Past, clicked
from ecdctr_spark.features.samples import samples, shuffled
from ecdctr_spark.features.vocabulary import Vocabulary, admit
from ecdctr_spark.session import Session
from ecdctr_spark.settings.features import Behaviours, Count, Features, Number
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import DAILY_CLICKS, DAILY_COUNTS, VOCABULARY, samples_table
from ecdctr_spark.tables.store import Store
from tests.labelled import Impression, at, date, labelled, made_up, reserve, surveyed

DAYS = 4
MOMENT = at(2, 12)  # leaks are planted here and later
AGE = Number(kind="number", name="age", source="user.age")
RECENT = Behaviours(kind="behaviours", name="recent", of="item_id", length=2)
SHOWN = Count(kind="count", name="shown", entity="user_id", domain="ad", measure="impressions", days=1, buckets=5)
ALL = KeepRates(positive=1.0, negative=1.0)


@pytest.fixture(scope="module")
def everything(config: Config) -> Config:
    """base.yaml with a number beside its features, and no sampling."""
    fields = (*config.features.fields, AGE)
    features = Features(out_of_vocabulary=3, fields=fields)
    return replace(config, features=features, sampling=Sampling(seed=1, natural=ALL, ad=ALL))


def only(config: Config, *fields: Behaviours | Count | Number) -> Config:
    """The user, the item and the fields given, in a sample's columns from the fifth on."""
    features = Features(out_of_vocabulary=3, fields=(*config.features.ids[:2], *fields))
    return replace(config, features=features)


def cut(frame: DataFrame, schema: str) -> DataFrame:
    """The same rows without the plan that made them."""
    return frame.sparkSession.createDataFrame(frame.collect(), schema)


def nothing(spark: SparkSession) -> Past:
    """No daily counts and no daily clicks."""
    return Past(spark.createDataFrame([], DAILY_COUNTS.columns), spark.createDataFrame([], DAILY_CLICKS.columns), None)


def reserved(spark: SparkSession, config: Config) -> Vocabulary:
    """A vocabulary that knows the fields, and no token."""
    return surveyed(reserve(surveyed(spark.createDataFrame([], VOCABULARY.columns)), config.features))


def build(rows: DataFrame, config: Config, ranges: Iterable[tuple[int, int]]) -> dict[str, tuple[Any, ...]]:
    """Samples by event, built range of days by range of days, as the daily job appends to its tables."""
    spark, found = rows.sparkSession, {}
    vocabulary = spark.createDataFrame([], VOCABULARY.columns)
    vocabulary = vocabulary.unionByName(reserve(surveyed(vocabulary), config.features))
    entities = list(dict.fromkeys(counter.entity for counter in config.features.counters))
    all_known = when_known(rows, config.calendar.timezone, 0)
    counts = cut(daily_counts(all_known, entities), DAILY_COUNTS.columns)
    for first, last in ranges:
        these = rows.where(f"ds between '{date(first)}' and '{date(last)}'")
        new = admit(surveyed(vocabulary), these, counts, config)
        vocabulary = cut(vocabulary.unionByName(new), VOCABULARY.columns)
        known, there = f"ds <= '{date(last)}'", surveyed(vocabulary)
        clicks = daily_clicks(clicked(all_known, there, counts, config), config.features.behaviours)
        made = samples(these, Past(counts.where(known), clicks.where(known), None), there, config)
        found.update({row.event_id: tuple(row) for row in made.collect()})
    return found


@pytest.fixture(scope="module")
def before(spark: SparkSession, everything: Config) -> dict[str, tuple[Any, ...]]:
    """The samples of four made-up days, built at once."""
    return build(labelled(spark, made_up(DAYS)), everything, [(0, DAYS - 1)])


def test_the_columns_are_the_table_s_and_nothing_is_null(
    spark: SparkSession, everything: Config, before: dict[str, tuple[Any, ...]]
) -> None:
    assert before.keys() == {impression.event for impression in made_up(DAYS)}
    assert not any(value is None for sample in before.values() for value in sample)
    declared = spark.createDataFrame([], samples_table(everything.features).columns).schema
    none = labelled(spark, [])
    made = samples(none, nothing(spark), reserved(spark, everything), everything)
    assert [(field.name, field.dataType) for field in made.schema] == [
        (field.name, field.dataType) for field in declared
    ]


def otherwise(rows: Sequence[Impression]) -> list[Impression]:
    """From the moment on: other users, items and attributes, no click of what was shown before it, and new rows.

    Their tokens sort before all others, and some of them are of the very moment.
    """
    new = {"user": "u1", "item": "i2", "domain": "natural", "attributes": {"category": "c9"}}
    changed = [row._replace(clicked=row.time, **new) if row.time > MOMENT else row for row in rows]
    unclicked = [row._replace(clicked=None) if row.clicked and row.clicked >= MOMENT else row for row in changed]
    added = [
        Impression(f"!{place}", time, user, item, clicked=time, attributes={"category": "!"})
        for place, time in enumerate((MOMENT, at(2, 13), at(3)) * 3)
        for user, item in (("!", "!"), ("u1", "i2"))
    ]
    return [*added, *unclicked]


def test_nothing_at_or_after_a_moment_changes_a_feature_of_a_sample_by_then(
    spark: SparkSession,
    everything: Config,
    before: dict[str, tuple[Any, ...]],
) -> None:
    rows = made_up(DAYS)
    after = build(labelled(spark, otherwise(rows)), everything, [(0, DAYS - 1)])
    features = slice(0, 4 + len(everything.features.fields))  # the label and its weight come after
    by_then = [row.event for row in rows if row.time <= MOMENT]
    assert len(by_then) > 60
    assert {event: after[event][features] for event in by_then} == {event: before[event][features] for event in by_then}
    assert after != before


def test_days_built_one_by_one_and_at_once_are_the_same(
    spark: SparkSession, everything: Config, before: dict[str, tuple[Any, ...]]
) -> None:
    rows = labelled(spark, made_up(DAYS))
    assert build(rows, everything, [(0, 1), (2, 2), (3, 3)]) == before


def test_a_clicked_item_is_remembered_by_its_own_row_though_its_impression_did_not_know_it(
    spark: SparkSession, everything: Config
) -> None:
    config = only(everything, RECENT)
    rows = [Impression("first", at(0), "u", "new", clicked=at(0)), Impression("second", at(1), "u", "new")]
    found = build(labelled(spark, rows), config, [(0, 1)])
    item = {event: sample[5] for event, sample in found.items()}
    assert int.from_bytes(found["second"][6][-4:], "big") == item["second"] != item["first"]


def test_a_count_is_a_row_of_its_log2_bucket(spark: SparkSession, everything: Config) -> None:
    config = only(everything, SHOWN)
    expected = {0: 0, 1: 1, 2: 1, 3: 2, 6: 2, 7: 3, 15: 4, 2**29 - 1: 4, 2**40: 4}
    counts = [("user_id", str(n), "ad", n, 0, date(0)) for n in expected if n]
    rows = labelled(spark, [Impression(str(n), at(1), str(n)) for n in expected])
    past = nothing(spark)._replace(counts=spark.createDataFrame(counts, DAILY_COUNTS.columns))
    vocabulary = reserved(spark, config)
    made = samples(rows, past, vocabulary, config)
    first = vocabulary.survey.starts["shown"]
    assert {int(row.event_id): row.shown - first for row in made.collect()} == expected


def test_a_number_is_its_logarithm_and_what_is_none_is_zero(spark: SparkSession, everything: Config) -> None:
    texts = {"41": math.log(42), " 2.5 ": math.log(3.5), "-3": 0.0, "n/a": 0.0, "NaN": 0.0, "Infinity": 0.0, "": 0.0}
    rows = [Impression(text, at(0), profile={"age": text}) for text in texts]
    found = build(labelled(spark, [*rows, Impression("none", at(0))]), only(everything, AGE), [(0, 0)])
    assert {event: sample[6] for event, sample in found.items()} == pytest.approx({**texts, "none": 0.0})


def written(store: Store, made: DataFrame, config: Config) -> dict[tuple[str, str, int], list[str]]:
    """The events of each file, in order, by domain, ds and the file's place in its folder."""
    table = samples_table(config.features)
    store.replace(table, shuffled(made, 3), "true")
    files = [Path(path.removeprefix("file:")) for path in store.read(table).inputFiles()]
    found = {}
    for folder in {path.parent for path in files}:
        for place, path in enumerate(sorted(path for path in files if path.parent == folder)):
            events = parquet.read_table(path, columns=["event_id"], partitioning=None)["event_id"].to_pylist()
            found[folder.parent.name, folder.name, place] = events
    return found


def test_a_slice_is_laid_out_in_as_many_files_always_alike(
    spark: SparkSession, everything: Config, tmp_path: Path
) -> None:
    config = only(everything)
    rows = labelled(spark, made_up(2, per_day=60))
    made = samples(rows, nothing(spark), reserved(spark, config), config)
    once = written(Store(Session.of(spark), Root.parse(tmp_path / "once")), made, config)
    assert {place for _, _, place in once} == {0, 1, 2} and len(once) == 2 * 2 * 3
    assert sum(map(len, once.values())) == 120
    assert all(events != sorted(events) for events in once.values())
    partitions = str(spark.conf.get("spark.sql.shuffle.partitions"))
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        again = written(Store(Session.of(spark), Root.parse(tmp_path / "again")), made.repartition(5, "item"), config)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    assert again == once
