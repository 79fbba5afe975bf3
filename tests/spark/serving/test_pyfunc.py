"""The export as a version of a registered MLflow model: it predicts as the predictor does, and holds no pickle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from pyspark.sql import DataFrame, SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.serving.export import export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.serving.pyfunc import _load_pyfunc, served
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tracking.spool import Record, now
from ecdctr_spark.tracking.tracker import Tracker, sqlite
from tests.configured import FIRST_DAY
from tests.published import ACTR, publish_model, sample_columns

MODEL, NAME = "actr-2024-03-01-00000000", "main.ads.ctr"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A storage root with an export that was offered to the model registry, twice."""
    root = Root.parse(tmp_path_factory.mktemp("root"))
    publish_model(root.at("checkpoint"), ACTR, MODEL)
    export(root.at("checkpoint"), root.at("export"))
    config = load_config([], [FIRST_DAY, f"storage.root={root}"])
    for _ in range(2):
        tracker = Tracker(config, pytest.fail)
        tracker.record(MODEL, Record(time=now(), served=served(root.at("export"), NAME)))
        tracker.close(patience=300)
    return root


@pytest.fixture(scope="module")
def model(root: Root) -> Iterator[str]:
    """The URI of its version, for MLflow's own functions."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(sqlite(root))
    yield f"models:/{NAME}/1"
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def samples(spark: SparkSession) -> DataFrame:
    columns = {name: getattr(column, "tolist", lambda c=column: c)() for name, column in sample_columns().items()}
    rows = [(number, *encoded) for number, encoded in enumerate(zip(*columns.values(), strict=True))]
    schema = "number int, user_id int, item_id int, item_seen int, item_rate float, recent_clicks binary"
    return spark.createDataFrame(rows, schema).coalesce(1)


def test_spark_udf_predicts_as_the_predictor_does(
    spark: SparkSession, samples: DataFrame, root: Root, model: str
) -> None:
    predict = mlflow.pyfunc.spark_udf(spark, model, env_manager="local", result_type="float")
    scored = samples.select("number", predict(*sample_columns()).alias("prediction")).orderBy("number").collect()
    expected = Predictor.open(root.at("export")).predict(sample_columns())
    assert [row.prediction for row in scored] == expected.tolist()


def test_the_model_has_a_signature_and_an_example_and_predicts_it(root: Root, model: str) -> None:
    loaded = mlflow.pyfunc.load_model(model)
    schema = loaded.metadata.signature
    assert [column.name for column in schema.inputs] == list(sample_columns())
    assert [column.type.name for column in schema.inputs] == ["integer", "integer", "integer", "float", "binary"]
    assert [column.type.name for column in schema.outputs] == ["float"]
    example = loaded.metadata.load_input_example(mlflow.artifacts.download_artifacts(model))
    assert len(example) == 1 and loaded.predict(example).dtype == np.float32
    with pytest.raises(Exception, match="item_rate"):
        loaded.predict(pd.DataFrame(sample_columns()).drop(columns="item_rate"))


def test_an_export_is_registered_once(root: Root, model: str) -> None:
    versions = MlflowClient(sqlite(root)).search_model_versions(f"name = '{NAME}'")
    assert [int(version.version) for version in versions] == [1]


def test_the_model_holds_no_pickle_and_its_own_code(model: str) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(model))
    described = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert described["loader_module"] == "ecdctr_spark.serving.pyfunc"
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert not endings & {".pkl", ".pickle", ".pyc", ".pth", ".bin"}
    assert (folder / described["code"] / "ecdctr_spark" / "serving" / "predictor.py").exists()
    assert "torch==" in (folder / "requirements.txt").read_text()


def test_a_damaged_model_is_refused(root: Root, tmp_path: Path) -> None:
    root.at("export").fetch(tmp_path / "export")
    with (tmp_path / "export" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"?")
    with pytest.raises(ConfigError, match="missing, truncated or changed"):
        _load_pyfunc(str(tmp_path / "export"))
