"""What a model takes over, by policy, and that anything unexpected is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch.testing import assert_close

from ecdctr_spark.methods.method import Policy
from ecdctr_spark.models.embedding import initial_vectors
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.memory import merge_memory
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import MemorySpec, ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.settings.base import ConfigError, parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.training.checkpoint import Checkpoint, Manifest, RestoreReport, publish
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from ecdctr_spark.training.step import TrainState, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.transfer import restore
from ecdctr_spark.training.world import World
from tests.made_up import ROWS, TRAIN, batch, built, ctr_spec, fitted, network
from tests.thread_ranks import on_ranks, whole

CPM = ctr_spec(memory="attention", months=("2000-05",))
ACTR = ctr_spec(memory="merged", rows=ROWS + 7)
RESULT = TrainingResult(rows=1, steps=1, seconds=1.0, loss=0.5, waiting=0.0)


def published(folder: Path, spec: ModelSpec) -> nn.Module:
    """A trained model published at `folder`; its memory, if any, is filled with numbers."""
    model = build(spec, ALONE)
    for name, tensor in row_tensors(model).items():
        if name.startswith("memory"):
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)).round(decimals=2))
            tensor[:, -1] = torch.arange(len(tensor)) % 2
    state = fitted(model, [batch(64, 1), batch(64, 2)])
    manifest = Manifest(
        model_id="parent", spec=spec, train=TRAIN, how="fresh", ranks=1, restored=RestoreReport(), result=RESULT
    )
    publish(Root.parse(folder), model, state.optimiser, manifest, ALONE)
    return model


def job(spec: ModelSpec, parent: Path | None, how: str, **changes: Any) -> TrainingJob:
    """A training that starts from a parent."""
    return parsed(
        TrainingJob,
        {
            "model_id": "child",
            "model": spec,
            "train": TRAIN,
            "units": (),
            "until": "2024-01-01",
            "output": "nowhere",
            "parent": parent and str(parent),
            "how": how,
            **changes,
        },
    )


def restored(task: TrainingJob, world: World = ALONE) -> tuple[nn.Module, TrainState, RestoreReport]:
    """The model as its training starts."""
    model = built(task.model, world)
    state = start_state(model, task.train, world)
    return model, state, restore(model, state.optimiser, task, world)


def test_fresh_takes_over_nothing() -> None:
    model, _, report = restored(job(ctr_spec(), None, "fresh"))
    assert set(report.new) == {*dense_tensors(model), *row_tensors(model)}
    assert report == RestoreReport(new=report.new)


@pytest.mark.parametrize("size", [1, 2])
def test_continue_takes_over_everything_and_tables_grow(tmp_path: Path, size: int) -> None:
    parent = published(tmp_path / "parent", ctr_spec(memory="merged"))
    results = on_ranks(size, lambda world: restored(job(ACTR, tmp_path / "parent", "continue"), world))
    report = results[0][2]
    assert report.parent == "parent"
    assert set(report.taken_over) == set(dense_tensors(parent))
    assert set(report.grown) == {"fields.embedding.weight", "fields.embedding.state", "memory.table.weight"}
    assert not report.new and not report.reset and not report.left
    for name, tensor in dense_tensors(parent).items():
        assert torch.equal(dense_tensors(results[0][0])[name], tensor)
    for name, tensor in row_tensors(parent).items():
        assert torch.equal(whole([row_tensors(model)[name] for model, _, _ in results])[:ROWS], tensor)
    grown = whole([row_tensors(model)["fields.embedding.weight"] for model, _, _ in results])
    assert torch.equal(grown[ROWS:], initial_vectors(torch.arange(ROWS, ROWS + 7), 4, ACTR.network["seed"]))


def test_a_training_in_two_halves_is_the_training_in_one(tmp_path: Path) -> None:
    whole_model = build(ctr_spec(), ALONE)
    state = start_state(whole_model, TRAIN, ALONE)
    batches = [batch(64, seed) for seed in (1, 2, 3)]
    for half in (batches[:2], batches[2:]):
        fit(state, half, lambda rows, loss: None)
    published(tmp_path / "parent", ctr_spec())
    model, state, _ = restored(job(ctr_spec(), tmp_path / "parent", "continue"))
    fit(state, batches[2:], lambda rows, loss: None)
    for name, tensor in {**dense_tensors(whole_model), **row_tensors(whole_model)}.items():
        assert torch.equal({**dense_tensors(model), **row_tensors(model)}[name], tensor), name


def test_actr_takes_everything_from_cpm_but_batch_norm_and_the_attention(tmp_path: Path) -> None:
    cpm = published(tmp_path / "cpm", CPM)
    model, state, report = restored(job(ACTR, tmp_path / "cpm", "from"))
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d)
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert len(norms) == 15
    assert set(report.reset) == norms
    assert set(report.merged) == {"memory.table.weight"}
    assert set(report.grown) == {"fields.embedding.weight", "fields.embedding.state"}
    attention = [f"{entity}.{part}" for entity in ("user", "item") for part in ("query", "key", "value")]
    assert set(report.left) == {f"memory.{name}.weight" for name in attention}
    assert set(report.taken_over) == set(dense_tensors(model)) - norms
    assert not report.new
    for name in report.taken_over:
        assert torch.equal(dense_tensors(model)[name], dense_tensors(cpm)[name])
    untrained = dense_tensors(build(ACTR, ALONE))
    for name in norms:
        assert torch.equal(dense_tensors(model)[name], untrained[name])
        assert not torch.equal(dense_tensors(cpm)[name], untrained[name])
    for name in report.grown:
        assert torch.equal(row_tensors(model)[name][:ROWS], row_tensors(cpm)[name])
    assert not state.optimiser.tensors()


@pytest.mark.parametrize("size", [1, 2])
def test_actr_knows_of_each_entity_what_the_attention_of_cpm_made_of_it(tmp_path: Path, size: int) -> None:
    cpm = published(tmp_path / "cpm", CPM)
    models = on_ranks(size, lambda world: restored(job(ACTR, tmp_path / "cpm", "from"), world)[0])
    table = whole([row_tensors(model)["memory.table.weight"] for model in models])
    users, items = torch.arange(4, 20, 2), torch.arange(23, 39, 2)  # even rows are users', odd ones items', as filled
    with torch.no_grad():
        alive = cpm.memory(cpm.memory.table(torch.stack([users, items], 1)))  # type: ignore[operator, union-attr]
    assert_close(torch.cat([table[users], table[items]], 1), alive, rtol=1e-5, atol=1e-5)
    assert (table[ROWS:] == 0).all()


def test_merging_the_memory_of_a_model_does_not_change_its_predictions(tmp_path: Path) -> None:
    cpm = published(tmp_path / "cpm", CPM).eval()
    samples = batch(16, 5)
    samples.ids[:, 0] = samples.ids[:, 0] // 2 * 2
    samples.ids[:, 1] = samples.ids[:, 1] // 2 * 2 + 1
    samples.ids.clamp_(max=ROWS - 1)
    with torch.no_grad():
        before = cpm(samples)
        spec = merge_memory(CPM, cpm)
        assert_close(cpm(samples), before, rtol=1e-5, atol=1e-5)
    assert spec.memory == MemorySpec(pooling="merged", dimension=4)
    build(spec, ALONE).load_state_dict(cpm.state_dict())
    assert merge_memory(spec, cpm) == spec


@pytest.mark.parametrize(
    ("parent", "child", "how", "said"),
    [
        (ctr_spec(), ctr_spec(hidden=[16, 4]), "continue", "differs in network"),
        (ctr_spec(rows=ROWS + 1), ctr_spec(), "continue", "would shrink"),
        (ctr_spec(dimension=8), ctr_spec(), "from", "network.dimension"),
        (ctr_spec(), ctr_spec(dimension=8), "from", "network.dimension"),
        (ctr_spec(), ctr_spec(memory="merged"), "continue", "differs in memory"),
        (ctr_spec(), ACTR, "from", "cross.layers.0.weight"),
        (CPM, ctr_spec(), "from", "cross.layers.0.weight"),
        (ctr_spec(), ctr_spec(contract=replace(ctr_spec().contract, numbers=())), "continue", "contract"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(
    tmp_path: Path, parent: ModelSpec, child: ModelSpec, how: str, said: str
) -> None:
    published(tmp_path / "parent", parent)
    with pytest.raises(ConfigError, match=said):
        restored(job(child, tmp_path / "parent", how))


def test_a_job_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a parent"):
        restored(job(ctr_spec(), None, "continue"))
    with pytest.raises(ConfigError, match="has no memory for them"):
        restored(job(ctr_spec(), None, "fresh", snapshots=("model_id=tpm/entity=user_id/part.parquet",)))


def policy(**settings: object) -> dict[str, Policy]:
    return {"policy": parsed(Policy, settings)}


def test_what_is_excluded_is_new_and_what_is_reset_begins_afresh(tmp_path: Path) -> None:
    parent = published(tmp_path / "cpm", CPM)
    chosen = policy(exclude=["mlp.*"], reset=["output.*", "fields.embedding.*"], batch_norm="copied")
    model, _, report = restored(job(ACTR, tmp_path / "cpm", "from", **chosen))
    untrained = {**dense_tensors(build(ACTR, ALONE)), **row_tensors(build(ACTR, ALONE))}
    found = {**dense_tensors(model), **row_tensors(model)}
    assert report.new and all(name.startswith("mlp.") for name in report.new)
    assert set(report.reset) == {"output.weight", "output.bias", "fields.embedding.weight", "fields.embedding.state"}
    assert all(torch.equal(found[name], untrained[name]) for name in (*report.new, *report.reset))
    assert "numbers.running_mean" in report.taken_over
    assert torch.equal(found["numbers.running_mean"], dense_tensors(parent)["numbers.running_mean"])


def test_a_network_of_another_shape_is_taken_over_but_for_what_is_excluded(tmp_path: Path) -> None:
    published(tmp_path / "cpm", CPM)
    wider = network(ACTR, hidden=[16, 4])
    with pytest.raises(ConfigError, match=r"mlp\.0\.weight"):
        restored(job(wider, tmp_path / "cpm", "from"))
    _, _, report = restored(job(wider, tmp_path / "cpm", "from", **policy(exclude=["mlp.*", "output.*"])))
    assert "cross.layers.0.weight" in report.taken_over and "mlp.0.weight" in report.new


def test_a_renamed_tensor_is_found_by_its_new_name(tmp_path: Path) -> None:
    published(tmp_path / "cpm", CPM)
    with pytest.raises(ConfigError, match="interests"):
        restored(job(ACTR, tmp_path / "cpm", "from", **policy(rename={"interests.": "tastes."})))
    rename = {"interests.0.of_key.": "interests.0.of_product.", "interests.0.of_product.": "interests.0.of_key."}
    model, _, _ = restored(job(ACTR, tmp_path / "cpm", "from", **policy(rename=rename)))
    cpm = Checkpoint.open(Root.parse(tmp_path / "cpm")).tensors("dense.safetensors")
    assert torch.equal(dense_tensors(model)["interests.0.of_key.weight"], cpm["interests.0.of_product.weight"])


def test_renamed_rows_are_found_by_their_new_name(tmp_path: Path) -> None:
    parent = published(tmp_path / "actr", ACTR)
    swapped = {"memory.table.weight": "fields.embedding.weight", "fields.embedding.weight": "memory.table.weight"}
    model, _, report = restored(job(ACTR, tmp_path / "actr", "from", **policy(rename=swapped)))
    found, theirs = row_tensors(model), row_tensors(parent)
    assert all(torch.equal(found[ours], theirs[name]) for name, ours in swapped.items())
    assert not torch.equal(*(theirs[name] for name in swapped))
    assert set(report.taken_over) >= {*swapped}


def test_the_optimiser_is_kept_where_the_policy_says_so(tmp_path: Path) -> None:
    published(tmp_path / "cpm", CPM)
    model, state, _ = restored(job(ACTR, tmp_path / "cpm", "from", **policy(optimiser="kept")))
    kept = {key.rsplit("/", 1)[0] for key in state.optimiser.tensors()}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    assert kept == {name for name, _ in model.named_parameters() if name.rsplit(".", 1)[0] not in norms}


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "cpm", CPM)
    with pytest.raises(ConfigError, match=r"no tensor matches 'mpl\.\*'"):
        restored(job(ACTR, tmp_path / "cpm", "from", **policy(exclude=["mpl.*"])))
