"""What predicts and is served is the model as it is now, wherever its root lies now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecdctr_spark.pipeline.jobs import checkpoint
from ecdctr_spark.pipeline.steps import exported
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from tests.published import ACTR, ADS_ONLY, publish_model, sample_columns


def predicted(root: Root) -> list[float]:
    """What the export of the model m predicts."""
    return Predictor.open(exported(root, "m")).predict(sample_columns()).tolist()


def test_a_model_that_was_trained_again_is_exported_again(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    publish_model(checkpoint(root, "m"), ACTR, "m")
    before = predicted(root)
    publish_model(checkpoint(root, "m"), ADS_ONLY, "m")
    assert not np.allclose(predicted(root), before)


def test_an_export_of_the_checkpoint_that_is_there_is_left_alone(tmp_path: Path) -> None:
    root = Root.parse(tmp_path)
    publish_model(checkpoint(root, "m"), ACTR, "m")
    written = [path.stat().st_mtime_ns for path in Path(exported(root, "m").uri).iterdir()]
    assert [path.stat().st_mtime_ns for path in Path(exported(root, "m").uri).iterdir()] == written


def test_a_moved_root_exports_what_lies_there_now(tmp_path: Path) -> None:
    publish_model(checkpoint(Root.parse(tmp_path / "here"), "m"), ACTR, "m")
    (tmp_path / "here").rename(tmp_path / "there")
    publish_model(checkpoint(Root.parse(tmp_path / "here"), "m"), ADS_ONLY, "m")
    there = predicted(Root.parse(tmp_path / "there"))
    assert not np.allclose(predicted(Root.parse(tmp_path / "here")), there)


def test_without_the_model_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models/m"):
        exported(Root.parse(tmp_path), "m")
