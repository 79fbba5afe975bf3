"""On a GPU the step gives the same model as on a CPU, repeatably, and ranks share it (`make test-device`)."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.testing import assert_close

from ecdctr_spark.models.exchange import ALONE, Alone
from ecdctr_spark.models.rowwise_adagrad import Rows, by_fbgemm, by_torch
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.training.step import evaluate, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.world import World
from tests.made_up import TRAIN, batch, built, ctr_spec, part, tiny_spec
from tests.thread_ranks import on_ranks, whole

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CPU = Alone(device=torch.device("cpu"))
SPECS = [tiny_spec(), ctr_spec(memory="attention", months=("2000-05",))]


def trained(spec: ModelSpec, world: World, rows: slice = slice(None)) -> dict[str, Tensor]:
    """Every tensor of a model, optimiser state of the rows included, after a few updates."""
    model = built(spec, world)
    batches = [part(batch(64, seed, spec.contract), rows) for seed in range(5)]
    fit(start_state(model, TRAIN, world), batches, lambda rows, loss: None)
    tensors = {**dense_tensors(model), **row_tensors(model)}
    assert {tensor.device.type for tensor in tensors.values()} == {world.device.type}
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def test_a_rank_that_sees_a_gpu_takes_it() -> None:
    assert ALONE.device == torch.device("cuda", 0)


@pytest.mark.parametrize("spec", SPECS, ids=["tpm", "ctr"])
def test_a_gpu_learns_what_a_cpu_learns(spec: ModelSpec) -> None:
    expected, found = trained(spec, CPU), trained(spec, ALONE)
    for name in row_tensors(built(spec, CPU)):  # Adam makes much of the rounding in a bias that batch norm undoes
        assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS, ids=["tpm", "ctr"])
def test_a_training_repeated_is_the_same_bit_for_bit(spec: ModelSpec) -> None:
    first, second = trained(spec, ALONE), trained(spec, ALONE)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ranks_share_a_batch_as_they_do_on_a_cpu() -> None:
    spec = tiny_spec(hidden=[])  # batch norm sees a rank's own rows only
    expected = trained(spec, CPU)
    ranks = on_ranks(2, lambda world: trained(spec, world, slice(0, 20) if world.rank == 0 else slice(20, 64)))
    for name in row_tensors(built(spec, CPU)):
        assert_close(whole([rank[name] for rank in ranks]), expected[name], rtol=1e-3, atol=1e-4)


def test_bfloat16_learns_and_leaves_the_tables_as_they_are_kept() -> None:
    half, samples, model = replace(TRAIN, precision="bfloat16"), batch(256), built(ctr_spec(), ALONE)
    fit(start_state(model, half, ALONE), [samples] * 150, lambda rows, loss: None)
    tensors = {**dense_tensors(model), **row_tensors(model)}
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    assert evaluate(model, iter([samples]), ALONE).mean_loss < 0.2


def test_fbgemm_updates_a_table_on_the_gpu_as_torch_does() -> None:
    try:
        importlib.metadata.version("fbgemm-gpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("FBGEMM is not here, or its CPU build")
    expected, found = (Rows(torch.zeros(1000, 16).cuda(), torch.zeros(1000).cuda()) for _ in range(2))
    for seed in range(3):
        chance = torch.Generator().manual_seed(seed)
        rows = torch.randint(1000, (5000,), generator=chance, dtype=torch.int32).cuda()
        gradients = torch.randn(5000, 16, generator=chance).cuda()
        by_torch(expected, rows, gradients, 0.5, 0.1)
        by_fbgemm(found, rows, gradients, 0.5, 0.1)
    assert_close(found.weight, expected.weight, rtol=1e-4, atol=1e-5)
    assert_close(found.state, expected.state, rtol=1e-4, atol=1e-5)
