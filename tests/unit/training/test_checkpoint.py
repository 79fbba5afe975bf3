"""Checkpoints: any number of ranks writes and reads them, and nothing but a complete one is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sealed, unsealed
from ecdctr_spark.training.checkpoint import (
    DENSE,
    Checkpoint,
    Manifest,
    RestoreReport,
    load,
    publish,
)
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.training.world import World
from tests.made_up import TINY_CONTRACT, TRAIN, batch, built, ctr_spec, fitted, tiny_spec
from tests.thread_ranks import on_ranks, whole

RESULT = TrainingResult(rows=20, steps=2, seconds=1.0, loss=0.5, waiting=0.0)


def published(folder: Path, spec: ModelSpec, world: World = ALONE) -> nn.Module:
    """A model after two steps, published at `folder`."""
    model = built(spec, world)
    if "memory.table.weight" in row_tensors(model):
        row_tensors(model)["memory.table.weight"].normal_()
    state = fitted(model, [batch(10, seed, spec.contract) for seed in range(2)], world)
    report = RestoreReport(new=("everything",))
    manifest = Manifest(
        model_id="m",
        spec=spec,
        train=TRAIN,
        how="fresh",
        keeps=("snapshot",),
        ranks=world.size,
        restored=report,
        result=RESULT,
    )
    publish(Root.parse(folder), model, state.optimiser, manifest, world)
    return model


def changed(manifest: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Writes a manifest as another version would have."""
    members = json.loads(unsealed(Root.parse(manifest)))
    change(members)
    manifest.write_bytes(sealed(members))


@pytest.mark.parametrize(("writers", "readers"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_what_some_ranks_wrote_any_number_reads(tmp_path: Path, writers: int, readers: int) -> None:
    spec = ctr_spec(memory="merged")
    written = on_ranks(writers, lambda world: published(tmp_path / "model", spec, world))
    read = on_ranks(readers, lambda world: load(Root.parse(tmp_path / "model"), world))
    assert all(loaded == spec for loaded, _ in read)
    for name, tensor in dense_tensors(written[0]).items():
        assert all(torch.equal(dense_tensors(model)[name], tensor) for _, model in read)
    for name in row_tensors(written[0]):
        before = whole([row_tensors(model)[name] for model in written])
        after = whole([row_tensors(model)[name] for _, model in read])
        assert torch.equal(after, before) and after.any()


def test_the_manifest_says_what_the_model_is_and_hashes_every_file(tmp_path: Path) -> None:
    published(tmp_path / "model", tiny_spec())
    manifest = Checkpoint.open(Root.parse(tmp_path / "model")).manifest
    assert (manifest.model_id, manifest.spec, manifest.result) == ("m", tiny_spec(), RESULT)
    assert set(manifest.files) == {
        "dense.safetensors",
        "dense_optimiser.safetensors",
        "rows-0-of-1.safetensors",
        "snapshots/part-0.parquet",
    }


def test_the_tiny_model_leaves_a_vector_for_every_row_that_it_trained(tmp_path: Path) -> None:
    models = on_ranks(2, lambda world: published(tmp_path / "model", tiny_spec(), world))
    embeddings = [module for model in models for module in model.modules() if isinstance(module, ShardedEmbedding)]
    parts = pq.read_table(tmp_path / "model" / "snapshots")
    assert str(parts.schema.field("index").type) == "int32"
    trained = whole([embedding.state for embedding in embeddings]).nonzero().squeeze(1)
    seen = torch.cat([batch(10, seed, TINY_CONTRACT).ids.flatten() for seed in range(2)]).unique()
    assert sorted(parts["index"].to_pylist()) == trained.tolist() == seen.tolist()
    table = whole([embedding.weight for embedding in embeddings])
    for index, vector in zip(parts["index"].to_pylist(), parts["vector"].to_pylist(), strict=True):
        assert vector == table[index].tolist()


def test_publishing_again_replaces_the_model_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model.writing" / "half").mkdir(parents=True)  # of a run that was killed
    published(tmp_path / "model", tiny_spec())
    assert not (tmp_path / "model" / "half").exists()
    published(tmp_path / "model", ctr_spec())
    assert load(Root.parse(tmp_path / "model"), ALONE)[0] == ctr_spec()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_training_that_was_killed_while_writing_has_published_nothing(tmp_path: Path) -> None:
    published(tmp_path / "model", tiny_spec())
    (tmp_path / "model" / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        load(Root.parse(tmp_path / "model"), ALONE)


@pytest.mark.parametrize("file", ["dense.safetensors", "dense_optimiser.safetensors", "rows-0-of-1.safetensors"])
@pytest.mark.parametrize("harm", ["truncated", "tampered", "missing"])
def test_a_file_that_was_harmed_is_refused_by_name(tmp_path: Path, file: str, harm: str) -> None:
    published(tmp_path / "model", ctr_spec())
    path = tmp_path / "model" / file
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=file):
        load(Root.parse(tmp_path / "model"), ALONE)


@pytest.mark.parametrize(
    ("change", "reported"),
    [({"format": 1}, "format"), ({"ranks": "many"}, "ranks"), ({"pickle": True}, "unknown key pickle")],
)
def test_a_foreign_manifest_is_refused_by_its_key(tmp_path: Path, change: dict[str, object], reported: str) -> None:
    published(tmp_path / "model", tiny_spec())
    path = tmp_path / "model" / "manifest.json"
    changed(path, lambda members: members.update(change))
    with pytest.raises(ConfigError, match=f"manifest.json: {reported}"):
        load(Root.parse(tmp_path / "model"), ALONE)


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    published(tmp_path / "model", ctr_spec())
    path = tmp_path / "model" / "manifest.json"
    changed(path, lambda members: members["spec"]["network"].update(hidden=[16, 4]))
    with pytest.raises(ConfigError, match="another shape"):
        load(Root.parse(tmp_path / "model"), ALONE)


def test_a_pickle_is_not_opened_even_where_the_manifest_lists_it(tmp_path: Path) -> None:
    published(tmp_path / "model", ctr_spec())
    path = tmp_path / "model" / DENSE
    torch.save({}, path)
    listed = {DENSE: {"size": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}}
    changed(tmp_path / "model" / "manifest.json", lambda members: members["files"].update(listed))
    with pytest.raises(ConfigError, match=f"{DENSE}: not a safetensors file"):
        load(Root.parse(tmp_path / "model"), ALONE)
