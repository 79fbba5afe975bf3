"""An exported model predicts as the trained one does, and refuses what it cannot answer for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ecdctr_spark.models.batch import to_batch
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.serving.export import current, export
from ecdctr_spark.serving.predictor import Predictor
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sealed, unsealed
from tests.published import ACTR, ADS_ONLY, CPM, ROWS, TPM, publish_model, sample_columns


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    publish_model(tmp_path / "checkpoint", ACTR, "actr-2024-03-01")
    export(Root.parse(tmp_path / "checkpoint"), Root.parse(tmp_path / "export"))
    return tmp_path / "export"


@pytest.mark.parametrize("spec", [TPM, ADS_ONLY, CPM, ACTR], ids=["tpm", "ads_only", "cpm", "actr"])
def test_the_export_predicts_as_the_trained_model(spec: ModelSpec, tmp_path: Path) -> None:
    trained = publish_model(tmp_path / "checkpoint", spec)
    export(Root.parse(tmp_path / "checkpoint"), Root.parse(tmp_path / "export"))
    with torch.no_grad():
        expected = torch.sigmoid(trained(to_batch(sample_columns(), spec.contract))).numpy()
    predicted = Predictor.open(Root.parse(tmp_path / "export")).predict(sample_columns())
    assert predicted.dtype == np.float32
    assert len(set(predicted)) > 1
    np.testing.assert_allclose(predicted, expected, rtol=1e-6)


def test_a_prediction_does_not_depend_on_the_rows_beside_it(exported: Path) -> None:
    predictor, columns = Predictor.open(Root.parse(exported)), sample_columns()
    alone = predictor.predict({name: column[3:4] for name, column in columns.items()})
    np.testing.assert_allclose(alone, predictor.predict(columns)[3:4], rtol=1e-6)


def test_an_export_holds_no_optimiser_state_and_names_its_model(exported: Path) -> None:
    with safe_open(exported / "model.safetensors", framework="pt") as tensors:
        names = set(tensors.keys())
        assert tensors.get_slice("fields.embedding.weight").get_shape() == [ROWS, ACTR.dimension]
    assert not any("state" in name for name in names)
    assert Predictor.open(Root.parse(exported)).signature.model_id == "actr-2024-03-01"


def test_attention_over_snapshots_is_merged(tmp_path: Path) -> None:
    publish_model(tmp_path / "checkpoint", CPM)
    export(Root.parse(tmp_path / "checkpoint"), Root.parse(tmp_path / "export"))
    assert Predictor.open(Root.parse(tmp_path / "export")).signature.spec.memory == ACTR.memory


def test_exporting_again_replaces_the_older_export(exported: Path, tmp_path: Path) -> None:
    publish_model(tmp_path / "newer", ADS_ONLY, "newer")
    export(Root.parse(tmp_path / "newer"), Root.parse(exported))
    assert Predictor.open(Root.parse(exported)).signature.model_id == "newer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "export", "newer"]


def test_an_export_is_current_until_its_model_is_trained_again(exported: Path, tmp_path: Path) -> None:
    checkpoint, place = Root.parse(tmp_path / "checkpoint"), Root.parse(exported)
    assert current(place, checkpoint)
    assert not current(Root.parse(tmp_path / "no export"), checkpoint)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        publish_model(tmp_path / "checkpoint", ADS_ONLY, "actr-2024-03-01")
    assert not current(place, checkpoint)
    export(checkpoint, place)
    assert current(place, checkpoint)
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        current(place, Root.parse(tmp_path / "no checkpoint"))


def test_a_folder_of_something_else_is_left_alone(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(ConfigError, match="mine: holds something other than an export"):
        export(Root.parse(tmp_path / "checkpoint"), Root.parse(tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_damaged_weights_are_named(exported: Path) -> None:
    weights = exported / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors: missing, truncated or changed"):
        Predictor.open(Root.parse(exported))


def test_a_folder_without_a_signature_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no signature\.json"):
        Predictor.open(Root.parse(tmp_path))


def test_a_signature_of_another_version_is_refused(exported: Path) -> None:
    signature = exported / "signature.json"
    members = json.loads(unsealed(Root.parse(signature)))
    signature.write_bytes(sealed({**members, "format": 3}))
    with pytest.raises(ConfigError, match=r"signature\.json: it was not written by this version"):
        Predictor.open(Root.parse(exported))


def test_a_missing_column_is_named(exported: Path) -> None:
    columns = sample_columns()
    del columns["item_rate"]
    with pytest.raises(ConfigError, match="lacks the columns item_rate"):
        Predictor.open(Root.parse(exported)).predict(columns)


def test_a_prediction_that_is_not_finite_is_not_served(exported: Path) -> None:
    columns = sample_columns()
    columns["item_rate"][2] = np.nan
    with pytest.raises(RuntimeError, match="actr-2024-03-01: a prediction is not finite"):
        Predictor.open(Root.parse(exported)).predict(columns)
