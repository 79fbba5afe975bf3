"""A forgotten user is nowhere, and what a model was made from stays readable."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from pyspark.sql import SparkSession

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.features.vocabulary import admit
from ecdctr_spark.pipeline import steps
from ecdctr_spark.pipeline.care import forget, tidy, tidy_is_due
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import (
    DAILY_COUNTS,
    MODELS,
    ORACLE,
    PREDICTIONS,
    QUARANTINE,
    SNAPSHOTS,
    STEPS,
    VOCABULARY,
)
from ecdctr_spark.tables.small import append_rows, read_rows
from ecdctr_spark.tables.store import Store
from tests.labelled import Impression, at, labelled, surveyed

VICTIM = "victim-7"
DAY, DAYS = dt.date(2024, 1, 2), dt.timedelta(days=1)
IMPRESSIONS = f"""event_id,event_time,domain,user_id,item_id
a,2024-01-01T10:00:00,natural,other,i1
b,2024-01-01T11:00:00,natural,{VICTIM}1,i1
c,2024-01-02T10:00:00,natural,{VICTIM},i1
d,2024-01-02T11:00:00,ad,{VICTIM},i2
bad,2024-01-02T11:00:00,banner,{VICTIM},i2
short,2024-01-02T12:00:00,ad,{VICTIM}
fine,2024-01-02T12:00:00,banner,other,i2
"""
CLICKS = "event_id,click_time\nc,2024-01-02T10:01:00\na,2024-01-01T10:01:00\n"
USERS = f"user_id,gender\n{VICTIM},f\nother,m\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Logs that name the victim in good rows, in a bad one and in a line that cannot be parsed."""
    tmp_path = tmp_path_factory.mktemp("logs")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        """
features:
  inherit: false
  fields:
    user_id: {kind: id, source: user_id, basic: true}
    item_id: {kind: id, source: item_id, basic: true}
    shown: {kind: count, entity: user_id, domain: natural, measure: impressions, days: 7}
    recent: {kind: behaviours, of: item_id, length: 3}
"""
    )
    for name, text in (("impressions", IMPRESSIONS), ("clicks", CLICKS), ("users", USERS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.csv").write_text(text)
    folders = [f"source.{name}={tmp_path / name}" for name in ("impressions", "clicks", "users")]
    return load_config([overlay], ["source.format=csv", "calendar.first_day=2024-01-01", *folders])


@pytest.fixture(scope="module")
def built(spark: SparkSession, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two days of them ingested and built, predicted, and a snapshot of the users; and the data set a second
    time, as that of another configuration."""
    root = Root.parse(tmp_path_factory.mktemp("built") / "root")
    store = Store(Session.of(spark), root, config.logs_id, config.data_set_id)
    ingest(store, config, config.calendar.first_day, DAY)
    steps.build(store, config, config.calendar.first_day, DAY)
    own = store.read(VOCABULARY).where("field = 'user_id' and kind = 'token'")
    vectors = own.selectExpr("'m' model_id", "'user_id' entity", "index", "array(1f) vector")
    store.replace(SNAPSHOTS, vectors, "model_id = 'm'")
    predicted = ("d", VICTIM, "i2", "method", "m", "ad", 0, 1.0, 0.5, DAY)
    store.replace(PREDICTIONS, spark.createDataFrame([predicted], PREDICTIONS.columns), f"ds = '{DAY}'")
    truth = [(event, "ad", 0.5, False) for event in ("a", "d")]  # of another user and of the victim
    store.replace(ORACLE, spark.createDataFrame(truth, ORACLE.columns), "true")
    shutil.copytree(store.home("data_set").uri, root.at("data_set", "another").uri)
    return store


@pytest.fixture(scope="module")
def forgetful(built: Store, config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, int]]:
    """The same tables after the victim was forgotten, and the rows that went."""
    store = copied(built, tmp_path_factory.mktemp("forgotten"))
    return store, forget(store, config, VICTIM)


def copied(store: Store, folder: Path) -> Store:
    shutil.copytree(store.root.uri, folder / "root")
    return Store(store.session, Root.parse(folder / "root"), store.logs, store.data_set)


def texts(value: Any) -> Iterator[str]:
    """Every string in a value of a Parquet file, a map's keys and values included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


def holding(root: Path, user: str) -> set[str]:
    """The tables of which a file names the user: as a value, inside a kept raw row, or in the log."""
    found = set()
    for path in root.rglob("tables/*/**/*"):
        table = path.parts[path.parts.index("tables", len(root.parts)) + 1]
        if path.suffix == ".parquet":
            words = list(texts(pq.ParquetFile(path).read().to_pylist()))
            named = user in words or any(f'"{user}"' in word or word.endswith(f",{user}") for word in words)
            if named or any(f',{user}"' in word for word in words):
                found.add(table)
        elif path.suffix == ".json" and f'{user}"' in path.read_text().replace("\\", ""):
            found.add(table)
    return found


def test_no_file_names_a_forgotten_user(built: Store, forgetful: tuple[Store, dict[str, int]]) -> None:
    store, removed = forgetful
    assert holding(Path(built.root.uri), VICTIM) == {
        "impressions", "users", "quarantine", "labelled", "daily_counts", "daily_clicks", "vocabulary", "samples",
        "predictions",
    }  # fmt: skip
    assert not holding(Path(store.root.uri), VICTIM)
    assert removed == {
        "impressions": 2, "clicks": 1, "users": 1, "quarantine": 2, "predictions": 1, "oracle": 1,
        # of each of the two data sets:
        "labelled": 4, "daily_counts": 4, "daily_clicks": 2, "samples": 4, "snapshots": 2, "vocabulary": 2,
    }  # fmt: skip


def test_the_truth_of_others_impressions_stays(forgetful: tuple[Store, dict[str, int]]) -> None:
    assert [row["event_id"] for row in forgetful[0].read(ORACLE).collect()] == ["a"]


def test_others_stay_even_those_of_a_name_that_begins_alike(
    built: Store, forgetful: tuple[Store, dict[str, int]]
) -> None:
    for user in ("other", f"{VICTIM}1"):
        assert holding(Path(forgetful[0].root.uri), user) == holding(Path(built.root.uri), user)


def tokens(store: Store) -> dict[tuple[str, str], int]:
    rows = store.read(VOCABULARY).where("kind = 'token'").collect()
    return {(row["field"], row["token"]): row["index"] for row in rows}


def test_a_forgotten_user_s_index_is_never_given_to_another(
    built: Store, forgetful: tuple[Store, dict[str, int]], config: Config
) -> None:
    before, (store, _) = tokens(built), forgetful
    rows = labelled(store.spark, [Impression("e", at(9), user="newcomer", item="i1")])
    new = admit(surveyed(store.read(VOCABULARY)), rows, store.read(DAILY_COUNTS), config).collect()
    assert {row["token"] for row in new} == {"newcomer"}
    assert new[0]["index"] > max(before.values())
    assert tokens(store) == {key: index for key, index in before.items() if key != ("user_id", VICTIM)}


def test_a_user_whom_no_table_knows_is_an_error(spark: SparkSession, config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--user a stranger: no table under .* knows this user"):
        forget(Store(Session.of(spark), Root.parse(tmp_path)), config, "a stranger")


def test_a_user_is_a_value_and_never_part_of_a_query(forgetful: tuple[Store, dict[str, int]], config: Config) -> None:
    store, before = forgetful[0], holding(Path(forgetful[0].root.uri), "other")
    with pytest.raises(ConfigError, match=r"no table under .* knows this user"):
        forget(store, config, "x' or 1=1 or '%' = '")
    assert holding(Path(store.root.uri), "other") == before


def test_tables_are_tidied_by_a_run_when_the_last_time_is_long_ago(config: Config, tmp_path: Path) -> None:
    root, now = Root.parse(tmp_path), dt.datetime.now(dt.timezone.utc)
    assert not tidy_is_due(root, config)  # nothing is there
    append_rows(root, STEPS, [{"step": "build", "finished": now - dt.timedelta(days=8)}])
    assert tidy_is_due(root, config)
    append_rows(root, STEPS, [{"step": "tidy", "finished": now - dt.timedelta(days=6)}])
    assert not tidy_is_due(root, config)
    for days, due in ((5.0, True), (None, False)):
        other = replace(config, storage=replace(config.storage, tidy_days=days))
        assert tidy_is_due(root, other) == due


def test_tidying_keeps_the_versions_that_a_model_pins_and_no_other_old_one(
    built: Store, config: Config, tmp_path: Path
) -> None:
    store = copied(built, tmp_path)
    place = store.place(VOCABULARY)
    old = pinned.version(place)
    rows = store.read(VOCABULARY, old).count()
    entry = {"model_id": "m", "level": "tpm", "date": DAY, "data_set": store.data_set, "parents": []}
    append_rows(store.root, MODELS, [{**entry, "tables": {"vocabulary": old}}])
    for token in ("i2", "i1"):
        gone = store.spark.createDataFrame([(token,)], "token string")
        store.delete(VOCABULARY, gone, "kept.token = keys.token")
    between = pinned.version(place) - 1
    soon = replace(config, storage=replace(config.storage, keep_days=0))
    assert tidy(store, config).files == 0  # all are of the last days
    assert tidy(store, soon).files > 0
    assert {row["step"] for row in read_rows(store.root, STEPS)} == {"tidy"}
    assert store.read(VOCABULARY, old).count() == rows
    with pytest.raises(Exception, match=r"(?i)not exist|not found|FILE_NOT_EXIST|missing"):
        store.read(VOCABULARY, between).collect()


def test_tidying_removes_all_that_an_old_model_left_and_its_row_stays(
    built: Store, config: Config, tmp_path: Path
) -> None:
    store = copied(built, tmp_path)
    row = {"data_set": store.data_set, "level": "tpm", "parents": [], "tables": {"vocabulary": 0}}
    dated = [{**row, "model_id": name, "date": date} for name, date in (("m", DAY - 9 * DAYS), ("new", DAY))]
    append_rows(store.root, MODELS, dated)
    for folder in ("models", "exports"):
        for name in ("m", "m.draft", "new"):
            store.root.at(folder, name, "weights").write_bytes(b"1")
    monthly = replace(config, storage=replace(config.storage, keep_models_days=30))
    assert tidy(store, monthly).models == 0 and store.read(SNAPSHOTS).count() == 3
    weekly = replace(config, storage=replace(config.storage, keep_models_days=7))
    for removed in (1, 0):  # the second time, it is gone already
        assert tidy(store, weekly).models == removed
        assert {place.name for folder in ("models", "exports") for place in store.root.at(folder).list()} == {"new"}
        assert store.read(SNAPSHOTS).count() == 0
        assert {each["model_id"]: bool(each["removed"]) for each in read_rows(store.root, MODELS)} == {
            "m": True,
            "new": False,
        }


def test_the_log_keeps_no_least_and_greatest_values(built: Store) -> None:
    for path in Path(built.root.uri).rglob("tables/**/*.json"):
        for line in path.read_text().splitlines():
            stats = json.loads(line).get("add", {}).get("stats")
            assert stats is None or json.loads(stats).get("minValues", {}) == {}


def test_a_kept_raw_row_is_forgotten_however_it_spells_the_user(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    spelled = ["7", "7.0", " 7 ", "\u00a07"]
    rows = [json.dumps({"user_id": user}) for user in [*spelled, "17", "7.5", None]]
    bad = [("impressions", "logs", "domain is neither natural nor ad", row, DAY) for row in [*rows, '{"user_id":7}']]
    store = Store(Session.of(spark), Root.parse(tmp_path), config.logs_id, config.data_set_id)
    store.replace(QUARANTINE, spark.createDataFrame(bad, QUARANTINE.columns), "true")
    forget(store, config, "7")
    assert {json.loads(row["row"])["user_id"] for row in store.read(QUARANTINE).collect()} == {"17", "7.5", None}
