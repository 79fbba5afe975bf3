"""Scoring samples on Spark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecdctr_spark import failures
from ecdctr_spark.serving.export import export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.serving.score import score
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import PREDICTIONS
from tests.published import ACTR, ADS_ONLY, publish_model, sample_columns

ENCODED = "user_id int, item_id int, item_seen int, item_rate float, recent_clicks binary"
DAY = dt.date(2024, 3, 2)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Root]:
    folder = tmp_path_factory.mktemp("models")
    for name, spec in (("actr", ACTR), ("ads_only", ADS_ONLY)):
        publish_model(folder / "checkpoints" / name, spec, f"{name}-2024-03-01")
        export(Root.parse(folder / "checkpoints" / name), Root.parse(folder / name))
    return {name: Root.parse(folder / name) for name in ("actr", "ads_only")}


@pytest.fixture(scope="module")
def samples(spark: SparkSession) -> DataFrame:
    columns = {name: getattr(column, "tolist", lambda c=column: c)() for name, column in sample_columns().items()}
    rows = [
        (f"e{number}", f"user {number}", f"item {number}", *encoded, float(number % 2), "ad", DAY)
        for number, encoded in enumerate(zip(*columns.values(), strict=True))
    ]
    schema = f"event_id string, user string, item string, {ENCODED}, label float, domain string, ds date"
    return spark.createDataFrame(rows, schema).coalesce(1)


def by_event(scored: DataFrame, method: str) -> dict[str, float]:
    return {row.event_id: row.prediction for row in scored.where(f"method = '{method}'").collect()}


def test_each_sample_is_predicted_once_by_each_model_as_the_predictor_does(
    samples: DataFrame, exports: Mapping[str, Root]
) -> None:
    scored = score(samples, exports).cache()
    assert scored.count() == 2 * samples.count()
    for model, root in exports.items():
        expected = Predictor.open(root).predict(sample_columns())
        found = by_event(scored, model)
        assert found == pytest.approx({f"e{number}": value for number, value in enumerate(expected)}, rel=1e-6)


def test_predictions_keep_who_saw_what_and_name_the_model(samples: DataFrame, exports: Mapping[str, Root]) -> None:
    scored = score(samples, {"actr": exports["actr"]})
    assert scored.dtypes == samples.sparkSession.createDataFrame([], PREDICTIONS.columns).dtypes
    (row,) = scored.where("event_id = 'e3'").collect()
    assert (row.user_id, row.item_id, row.label, row.domain, row.ds) == ("user 3", "item 3", 1, "ad", DAY)
    assert (row.method, row.model_id) == ("actr", "actr-2024-03-01")


def test_samples_without_a_label_are_predicted_alike(samples: DataFrame, exports: Mapping[str, Root]) -> None:
    ads_only = {"ads_only": exports["ads_only"]}
    unlabelled = score(samples.drop("label"), ads_only)
    assert unlabelled.where("label is not null").count() == 0
    assert by_event(unlabelled, "ads_only") == by_event(score(samples, ads_only), "ads_only")


def test_a_prediction_keeps_its_sample_s_weight(samples: DataFrame, exports: Mapping[str, Root]) -> None:
    sampled = score(samples.selectExpr("*", "cast(4 as float) weight"), {"actr": exports["actr"]})
    assert {row.weight for row in sampled.collect()} == {4.0}
    assert {row.weight for row in score(samples, {"actr": exports["actr"]}).collect()} == {1.0}


def test_an_export_that_was_replaced_is_opened_again(samples: DataFrame, tmp_path: Path) -> None:
    for name, spec in (("first", ACTR), ("second", ADS_ONLY)):
        publish_model(tmp_path / name, spec, name)
        export(Root.parse(tmp_path / name), Root.parse(tmp_path / "export"))
        answered = score(samples, {"served": Root.parse(tmp_path / "export")}).select("model_id").distinct().collect()
        assert [row.model_id for row in answered] == [name]


def test_damaged_weights_are_named_by_the_worker_that_opens_them(samples: DataFrame, tmp_path: Path) -> None:
    publish_model(tmp_path / "model", ACTR, "model")
    export(Root.parse(tmp_path / "model"), Root.parse(tmp_path / "export"))
    scored = score(samples, {"served": Root.parse(tmp_path / "export")})
    weights = tmp_path / "export" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(Exception, match=r"PythonException|ConfigError") as raised:
        scored.collect()
    line, code = failures.explain(raised.value)
    assert (line, code) == (f"{weights}: missing, truncated or changed; make it again (ecdctr train, export)", 2)


def test_a_missing_column_is_reported_before_anything_runs(samples: DataFrame, exports: Mapping[str, Root]) -> None:
    with pytest.raises(ConfigError, match="no columns item_rate, user"):
        score(samples.drop("user", "item_rate"), exports)


def test_a_null_feature_fails_the_job(samples: DataFrame, exports: Mapping[str, Root]) -> None:
    holed = samples.withColumn("item_id", F.expr("nullif(item_id, item_id)"))
    with pytest.raises(Exception, match="column item_id holds a null"):
        score(holed, exports).collect()
