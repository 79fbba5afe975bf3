"""Tables have names in a catalog, and stay where they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecdctr_spark import cli
from ecdctr_spark.config import Config
from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.catalog import check_schema, register
from ecdctr_spark.tables.schemas import MODELS, USERS
from ecdctr_spark.tables.small import append_rows
from ecdctr_spark.tables.store import Store
from tests.configured import FIRST_DAY
from tests.raw_logs import HEADER, laid, line

CATALOG = "spark_catalog.named_tables"
NOW = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture
def catalog(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    spark.sql(f"create schema spark_catalog.named_tables location '{tmp_path}/warehouse'")
    yield CATALOG
    spark.sql("drop schema spark_catalog.named_tables cascade")


def filled(spark: SparkSession, place: Path, logs: str = "1a2b3c4d") -> Store:
    """A root with one table by delta-rs and one by Spark."""
    store = Store(Session.of(spark), Root.parse(place), logs)
    append_rows(store.root, MODELS, [{"model_id": "first", "created": NOW}])
    store.replace(USERS, spark.createDataFrame([("u", NOW, {})], USERS.columns), "true")
    return store


def test_each_table_has_a_name_that_shows_what_is_at_its_place(
    spark: SparkSession, tmp_path: Path, config: Config, catalog: str
) -> None:
    store = filled(spark, tmp_path / "root")
    assert register(store, catalog, config.features) == [f"{catalog}.users_1a2b3c4d", f"{catalog}.models"]
    append_rows(store.root, MODELS, [{"model_id": "second", "created": NOW}])
    named = spark.sql("select model_id from spark_catalog.named_tables.models order by model_id").collect()
    assert [row.model_id for row in named] == ["first", "second"]
    assert [row.user_id for row in spark.read.table(f"{catalog}.users_1a2b3c4d").collect()] == ["u"]
    assert [row["model_id"] for row in store.read(MODELS).orderBy("model_id").collect()] == ["first", "second"]
    assert register(store, catalog, config.features) == []


def test_configurations_under_one_root_share_no_name(
    spark: SparkSession, tmp_path: Path, config: Config, catalog: str
) -> None:
    register(filled(spark, tmp_path / "root"), catalog, config.features)
    other = filled(spark, tmp_path / "root", "5e6f7a8b")
    assert register(other, catalog, config.features) == [f"{catalog}.users_5e6f7a8b"]


def test_a_name_of_a_table_elsewhere_is_refused_and_left_alone(
    spark: SparkSession, tmp_path: Path, config: Config, catalog: str
) -> None:
    register(filled(spark, tmp_path / "first"), catalog, config.features)
    with pytest.raises(
        ConfigError, match=r"named_tables\.users_1a2b3c4d is the table at .*/first/.*, expected .*/moved/"
    ):
        register(filled(spark, tmp_path / "moved"), catalog, config.features)
    assert spark.read.table(f"{catalog}.models").count() == 1


def test_a_schema_that_is_not_there_is_named_before_and_after_the_work(
    spark: SparkSession, tmp_path: Path, config: Config, catalog: str
) -> None:
    check_schema(spark, catalog)
    for missing in ("spark_catalog.nowhere", "nowhere.named_tables"):
        with pytest.raises(ConfigError, match=rf"storage\.catalog: no schema {missing}"):
            check_schema(spark, missing)
    with pytest.raises(ConfigError, match=r"nowhere\.users_1a2b3c4d cannot be registered at .*CREATE TABLE") as refused:
        register(filled(spark, tmp_path / "root"), "spark_catalog.nowhere", config.features)
    assert "\n" not in str(refused.value)


def test_a_command_names_the_tables_that_it_made(
    spark: SparkSession,
    tmp_path: Path,
    catalog: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ecdctr_spark.session.spark_session", lambda *_: spark)
    logs = laid(tmp_path / "logs", {"part.csv": f"{HEADER}\n{line(1)}\n"})
    source = [f"source.impressions={logs}", "source.format=csv", f"storage.root={tmp_path / 'root'}", FIRST_DAY]
    settings = [part for each in source for part in ("--set", each)]
    ingest = ["ingest", "--from", "2024-01-01", "--to", "2024-01-01", *settings]
    cli.main([*ingest, "--set", f"storage.catalog={catalog}"])
    with pytest.raises(SystemExit, match="2"):
        cli.main([*ingest, "--set", "storage.catalog=spark_catalog.nowhere"])
    said = capsys.readouterr()
    assert f"table {catalog}.impressions_" in said.out and f"table {catalog}.steps" in said.out
    assert "no schema spark_catalog.nowhere" in said.err
    assert "ingest" in {row.step for row in spark.read.table(f"{catalog}.steps").collect()}
