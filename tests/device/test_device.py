"""On a GPU the step gives the same model as on a CPU, repeatably, also as a graph, and ranks share it (`make
test-device`)."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.testing import assert_close

from ecdctr_spark.events import passed_on
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE, Alone
from ecdctr_spark.models.rowwise_adagrad import Rows, by_fbgemm, by_torch
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.training.captured import LEAST_STEPS, Graphs, steps_of
from ecdctr_spark.training.step import Steps, TrainState, evaluate, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.trial import Work
from ecdctr_spark.training.world import World
from tests.made_up import TRAIN, batch, built, ctr_spec, part, tiny_spec
from tests.replays import Recorder, captured, check_resumes
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


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    """What the events said."""
    heard: list[dict[str, Any]] = []
    with passed_on(lambda name, fields: heard.append(fields)):
        yield heard


def mixed(spec: ModelSpec) -> list[Batch]:
    """A graph has room for 64 rows, and is not for a few: 1, 2 and 65 rows are for the eager step."""
    return [batch(rows, seed, spec.contract) for seed, rows in enumerate([64, 40, 1, 64, 2, 63, 64, 64, 65, 50])]


def by_graphs(spec: ModelSpec, how: Optimisation = TRAIN) -> dict[str, Tensor]:
    """As `trained`, on batches of several sizes, by graphs wherever they fit."""
    state, recorder = start_state(built(spec, ALONE), how, ALONE), Recorder(Graphs())
    fit(state, mixed(spec), lambda rows, loss: None, steps=captured(state, recorder))
    assert recorder.made == len(mixed(spec)) - 3
    return {name: tensor.cpu() for name, tensor in {**dense_tensors(state.model), **row_tensors(state.model)}.items()}


@pytest.mark.parametrize("spec", SPECS, ids=["tpm", "ctr"])
def test_graphs_learn_what_eager_steps_do_whatever_the_rows_of_a_batch(spec: ModelSpec) -> None:
    model, found = built(spec, ALONE), by_graphs(spec)
    fit(start_state(model, TRAIN, ALONE), mixed(spec), lambda rows, loss: None)
    for name, expected in row_tensors(model).items():
        assert_close(found[name], expected.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS, ids=["tpm", "ctr"])
def test_graphs_repeated_are_the_same_bit_for_bit(spec: ModelSpec, precision: Any) -> None:
    first, second = (by_graphs(spec, replace(TRAIN, precision=precision)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_by_graphs_that_was_killed_ends_the_same_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def steps(state: TrainState, planned: int) -> Steps:
        made.append(Recorder(Graphs()))
        return captured(state, made[-1])

    monkeypatch.setattr("ecdctr_spark.training.trainer.steps_of", steps)
    check_resumes(tmp_path, SPECS[1])
    assert [recorder.made for recorder in made] == [9, 6, 6]


def test_a_training_takes_the_faster_step_by_itself_and_says_which(said: list[dict[str, Any]]) -> None:
    state = start_state(built(SPECS[1], ALONE), TRAIN, ALONE)
    steps = steps_of(state, LEAST_STEPS)
    made = fit(state, [batch(64, seed) for seed in range(40)], lambda rows, loss: None, steps=steps)
    assert (made.steps, made.totals.rows) == (40, 40 * 64)
    assert {line["choice"] for line in said} == {"captured"}, said
    assert said[0]["captured_ms"] < said[0]["eager_ms"]


def test_a_capture_that_waits_for_the_gpu_fails_and_leaves_the_eager_step(said: list[dict[str, Any]]) -> None:
    state = start_state(built(SPECS[1], ALONE), TRAIN, ALONE)

    def waits(work: Work) -> Work:
        return Graphs()(lambda: (work(), state.gradient.sum().item()))

    fit(state, [batch(64, seed) for seed in range(5)], lambda rows, loss: None, steps=captured(state, waits))
    assert [line["choice"] for line in said] == ["eager"]
    found = {**dense_tensors(state.model), **row_tensors(state.model)}
    assert all(torch.equal(found[name].cpu(), tensor) for name, tensor in trained(SPECS[1], ALONE).items())


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
