"""What predicts, is served and is trained from is the model as it is now, wherever its root lies now."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Model
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.registry import checkpoint
from ecdctr_spark.pipeline.steps import exported, is_exported, score_samples, train
from ecdctr_spark.serving.predictor import SIGNATURE, Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import MODELS
from ecdctr_spark.tables.small import literal, replace_rows
from ecdctr_spark.training.manifests import digest
from tests.published import ACTR, ADS_ONLY, publish_model, sample_columns

DAY = dt.date(2024, 3, 12)


def trained(root: Root, spec: ModelSpec, name: str = "m") -> Root:
    """A model that was trained and registered; its checkpoint."""
    place = checkpoint(root, name)
    publish_model(place, spec, name)
    row = {"model_id": name, "level": "actr", "date": DAY, "digest": digest(place)}
    replace_rows(root, MODELS, [row], f"model_id = {literal(name)}")
    return place


def predicted(root: Root) -> list[float]:
    """What the export of the model m predicts."""
    return Predictor.open(exported(root, "m")).predict(sample_columns()).tolist()


def test_a_model_that_was_trained_again_is_exported_again(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    trained(root, ACTR)
    before = predicted(root)
    trained(root, ADS_ONLY)
    assert not np.allclose(predicted(root), before)


def test_an_export_of_the_checkpoint_that_is_there_is_left_alone(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    trained(root, ACTR)
    written = [path.stat().st_mtime_ns for path in Path(exported(root, "m").uri).iterdir()]
    assert [path.stat().st_mtime_ns for path in Path(exported(root, "m").uri).iterdir()] == written


def test_what_a_killed_export_has_left_is_replaced(tmp_path: Path) -> None:
    """On an object store the weights are there before the signature."""
    root = Root.parse(tmp_path)
    trained(root, ACTR)
    before = predicted(root)
    root.at("exports", "m", SIGNATURE).remove()
    assert not is_exported(root, "m")
    assert predicted(root) == before and is_exported(root, "m")


@pytest.mark.parametrize("held", ["tables/models/_delta_log/0.json", "model.safetensors", "part.txt"])
def test_predictions_replace_nothing_but_predictions(tmp_path: Path, held: str) -> None:
    samples, output = Root.parse(tmp_path / "samples"), Root.parse(tmp_path / "output")
    samples.at("part-0.parquet").write_bytes(b"")
    output.at(held).write_bytes(b"kept")
    with pytest.raises(ConfigError, match=rf"output: holds something other than predictions \({held}\)"):
        score_samples(cast(Any, None), "m", samples, output)
    with pytest.raises(ConfigError, match="samples: is --input"):
        score_samples(cast(Any, None), "m", samples, samples)
    assert output.at(held).read_bytes() == b"kept"


def test_a_moved_root_exports_what_lies_there_now(tmp_path: Path) -> None:
    trained(Root.parse(tmp_path / "here"), ACTR)
    (tmp_path / "here").rename(tmp_path / "there")
    trained(Root.parse(tmp_path / "here"), ADS_ONLY)
    there = predicted(Root.parse(tmp_path / "there"))
    assert not np.allclose(predicted(Root.parse(tmp_path / "here")), there)


def test_without_the_model_there_is_nothing_to_export(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    with pytest.raises(ConfigError, match="--model m: no such model"):
        exported(root, "m")
    trained(root, ACTR).remove()
    with pytest.raises(ConfigError, match=r"models/m: the model is not there: .*train --level actr --date 2024-03-12`"):
        exported(root, "m")


@pytest.mark.parametrize("of", ["before", "another"])
def test_weights_that_are_not_those_registered_are_neither_exported_nor_predict(tmp_path: Path, of: str) -> None:
    root = Root.parse(tmp_path)
    other = trained(root, ADS_ONLY, "m" if of == "before" else "another")
    shutil.copytree(other.uri, tmp_path / "copy")
    place = trained(root, ACTR)
    predicted(root)
    place.remove()
    shutil.copytree(tmp_path / "copy", place.uri)
    with pytest.raises(ConfigError, match=r"models/m: its weights are not those .*train --level actr --date 2024"):
        exported(root, "m")


@pytest.mark.parametrize("role", ["parent", "teacher"])
def test_nothing_is_trained_from_weights_that_are_not_those_registered(
    tmp_path: Path, config: Config, role: str
) -> None:
    root, plans = Root.parse(tmp_path), registry.planner(config)
    trained(root, ACTR)
    publish_model(checkpoint(root, "m"), ADS_ONLY, "m")
    training = plans.training(plans.methods[0], "actr", DAY)
    made_from = {"parent": None, "teacher": None} | {role: Model("m", "actr", DAY)}
    store = cast(Any, SimpleNamespace(root=root))
    with pytest.raises(ConfigError, match=r"models/m: its weights are not those that were registered"):
        train(store, config, replace(training, **made_from), pytest.fail)
