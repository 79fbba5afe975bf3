"""The loop: the step of the whole batch on any number of ranks, batch norm, fillers, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from msgspec import structs
from torch import Tensor, nn
from torch.testing import assert_close

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.training.adamw import AdamW
from ecdctr_spark.training.step import average_batch_norm, evaluate, start_state, step
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.world import World
from tests.made_up import CTR_CONTRACT, TINY_CONTRACT, TRAIN, batch, built, ctr_spec, fitted, network, part, tiny_spec
from tests.thread_ranks import ThreadWorld, on_ranks, whole

FULL_STEP = structs.replace(TRAIN, dense_learning_rate=1.0)
# Batch norm sees a rank's own rows only; without it the number of ranks may change rounding, nothing else.
WITHOUT_BATCH_NORM = {
    "tpm": tiny_spec(hidden=[]),
    "ctr": ctr_spec(
        hidden=(),
        contract=structs.replace(CTR_CONTRACT, numbers=()),
        memory="attention",
        months=("2000-05",),
    ),
}


class Descent(AdamW):
    """An update that is easily foreseen: by the gradient times the rate."""

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """See AdamW."""
        self._values.sub_(gradient * learning_rate)


def trained(spec: ModelSpec, batches: list[Batch], world: World = ALONE) -> nn.Module:
    """A model after one update per batch."""
    return fitted(built(spec, world), batches, world).model


def silent(rows: int, loss: float) -> None:
    """No progress."""


def everything(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a model, optimiser state of the rows included."""
    return {**dense_tensors(model), **row_tensors(model)}


def filler(like: Batch) -> Batch:
    """One row of weight zero."""
    one = part(like, [0])
    return replace(one, ids=torch.zeros_like(one.ids), weights=torch.zeros(1))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("spec", WITHOUT_BATCH_NORM.values(), ids=WITHOUT_BATCH_NORM.keys())
def test_the_same_global_batches_give_the_same_model_on_any_number_of_ranks(spec: ModelSpec, size: int) -> None:
    batches = [batch(30, seed, spec.contract) for seed in range(4)]
    alone = trained(spec, batches)
    cuts = [0, 4, 30] if size == 2 else [0, 4, 29, 30]

    def own(world: World) -> dict[str, Tensor]:
        rows = slice(cuts[world.rank], cuts[world.rank + 1])
        return everything(trained(spec, [part(each, rows) for each in batches], world))

    ranks = on_ranks(size, own)
    for name, tensor in dense_tensors(alone).items():
        for rank in ranks:
            assert_close(rank[name], tensor, rtol=1e-4, atol=1e-6)
    for name, tensor in row_tensors(alone).items():
        assert_close(whole([rank[name] for rank in ranks]), tensor, rtol=1e-4, atol=1e-6)


def test_a_training_repeated_is_the_same_bit_for_bit() -> None:
    batches = [batch(64, seed) for seed in range(5)]
    first, second = (everything(trained(ctr_spec(memory="merged"), batches)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("spec", [tiny_spec(), ctr_spec()], ids=["tpm", "ctr"])
def test_a_model_learns_what_can_be_learnt(spec: ModelSpec) -> None:
    samples = batch(256, contract=spec.contract)
    model = trained(spec, [samples] * 150).eval()
    with torch.no_grad():
        right = (model(samples) > 0) == (samples.labels > 0)
    assert right.float().mean() > 0.97


def test_a_sample_of_weight_two_counts_as_two() -> None:
    spec = tiny_spec(hidden=[])
    samples = batch(8, contract=TINY_CONTRACT)
    twice = part(samples, [row for row in range(8) for _ in range(int(samples.weights[row]))])
    weighted, repeated = (
        everything(trained(spec, [each])) for each in (samples, replace(twice, weights=torch.ones(len(twice))))
    )
    for name, tensor in weighted.items():
        assert_close(repeated[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_filler_changes_nothing_but_the_number_of_steps() -> None:
    def one_rank_runs_out(world: World) -> nn.Module:
        batches = [batch(16, 1), batch(16, 2)]
        return trained(ctr_spec(), batches if world.rank == 0 else [filler(each) for each in batches], world)

    ranks = on_ranks(2, one_rank_runs_out)
    alone = trained(ctr_spec(), [batch(16, 1), batch(16, 2)])
    for name, tensor in row_tensors(alone).items():
        assert_close(whole([row_tensors(rank)[name] for rank in ranks]), tensor, rtol=1e-4, atol=1e-6)
    for rank in ranks:  # the statistics too: a rank that saw no row has none to add
        for name, tensor in dense_tensors(alone).items():
            if "num_batches" not in name:
                assert_close(dense_tensors(rank)[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_batch_of_one_row_is_trained_on() -> None:
    model = trained(ctr_spec(), [batch(32, 1), batch(1, 2)])
    assert all(tensor.isfinite().all() for tensor in everything(model).values())


def test_batch_norm_statistics_are_those_of_all_rows_together() -> None:
    samples = torch.randn(30, 2) * 3 + 1
    parts = {0: samples[:20], 1: samples[20:]}

    def averaged(world: World) -> nn.BatchNorm1d:
        norm = nn.BatchNorm1d(2)
        norm.running_mean = parts[world.rank].mean(0)
        norm.running_var = parts[world.rank].var(0, correction=0)
        average_batch_norm(nn.Sequential(norm), len(parts[world.rank]), world)
        return norm

    for norm in on_ranks(2, averaged):
        assert norm.running_mean is not None and norm.running_var is not None
        assert_close(norm.running_mean, samples.mean(0))
        assert_close(norm.running_var, samples.var(0, correction=0))


def test_batch_norm_statistics_of_a_single_row_are_those_of_the_rank_that_saw_it() -> None:
    def averaged(world: World) -> nn.BatchNorm1d:
        norm = nn.BatchNorm1d(2)
        assert norm.running_mean is not None
        norm.running_mean.fill_(world.rank + 3)
        average_batch_norm(nn.Sequential(norm), 1 - world.rank, world)
        return norm

    for norm in on_ranks(2, averaged):
        assert norm.running_mean is not None and norm.running_mean.tolist() == [3.0, 3.0]


def test_a_step_follows_the_weighted_mean_of_the_losses() -> None:
    samples = batch(16, contract=TINY_CONTRACT)
    model, same = build(tiny_spec(), ALONE), build(tiny_spec(), ALONE)
    losses = F.binary_cross_entropy_with_logits(same(samples), samples.labels, reduction="none")
    ((losses * samples.weights).sum() / samples.weights.sum()).backward()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    state = start_state(model, FULL_STEP, ALONE)
    step(state._replace(optimiser=Descent(model, weight_decay=0.0)), samples, 0)
    for (name, parameter), other in zip(model.named_parameters(), same.parameters(), strict=True):
        assert_close(before[name] - parameter, other.grad, rtol=1e-4, atol=1e-6)
    doubled = trained(tiny_spec(), [part(samples, [*range(16), *range(16)])])  # Adagrad's state knows the scale
    assert_close(row_tensors(doubled)["fields.embedding.state"], row_tensors(model)["fields.embedding.state"])


def test_the_dense_gradient_is_clipped_as_a_whole() -> None:
    model = build(tiny_spec(), ALONE)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    state = start_state(model, structs.replace(FULL_STEP, gradient_clip=1e-3), ALONE)
    step(state._replace(optimiser=Descent(model, weight_decay=0.0)), batch(16, contract=TINY_CONTRACT), 0)
    moved = nn.utils.parameters_to_vector(model.parameters()) - before
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_totals_and_progress_count_the_rows_of_all_ranks_and_their_weighted_loss() -> None:
    def totals(world: World) -> tuple[float, int, float, list[tuple[int, float]]]:
        heard: list[tuple[int, float]] = []
        model = built(tiny_spec(), world)
        own = [batch(10 + world.rank, 1, TINY_CONTRACT), batch(5, 2, TINY_CONTRACT)]
        steps, totals = fit(start_state(model, TRAIN, world), own, lambda rows, loss: heard.append((rows, loss)))
        return totals.rows, steps, totals.mean_loss, heard

    first, second = on_ranks(2, totals)
    assert first[:3] == second[:3]
    assert first[:2] == (31, 2)
    assert first[2] == pytest.approx(0.69, abs=0.15)  # hardly trained: about log 2
    assert first[3][-1] == (31, first[2])
    assert second[3] == []


def test_no_rows_make_no_step_and_leave_the_model_as_it_was() -> None:
    built, unchanged = build(ctr_spec(), ALONE), everything(trained(ctr_spec(), []))
    assert all(torch.equal(tensor, unchanged[name]) for name, tensor in everything(built).items())


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    samples = batch(8)
    with pytest.raises(RuntimeError, match="not finite at step 1"):
        trained(ctr_spec(), [replace(samples, numbers=torch.full_like(samples.numbers, float("nan")))])


@pytest.mark.parametrize(
    ("spec", "passes", "exchanges"),
    [
        (tiny_spec(), 1, 3),
        (ctr_spec(), 1, 3),
        (ctr_spec(memory="attention", months=("2000-05",)), 1, 3),
        (ctr_spec(memory="merged"), 2, 6),
    ],
    ids=["tpm", "without a memory", "cpm", "two passes"],
)
def test_a_pass_asks_once_for_all_its_rows_and_a_step_sums_once(spec: ModelSpec, passes: int, exchanges: int) -> None:
    def called(world: ThreadWorld) -> list[str]:
        state = start_state(built(spec, world), structs.replace(TRAIN, accumulation_steps=passes), world)
        step(state, batch(16, world.rank, spec.contract), 0)
        return world.calls

    for calls in on_ranks(2, called):
        assert sorted(calls) == ["all_reduce"] + ["all_to_all"] * exchanges + ["arrival"] * exchanges
    assert on_ranks(1, called) == [["all_reduce"]]


def test_rows_are_asked_for_while_the_pass_before_computes_and_gradients_travel_beside_the_sum() -> None:
    def called(passes: int, world: ThreadWorld) -> str:
        model = built(tiny_spec(hidden=[]), world)
        model.register_forward_pre_hook(lambda module, inputs: world.calls.append("pass"))
        state = start_state(model, structs.replace(TRAIN, accumulation_steps=passes), world)
        fit(state, [batch(8, seed, TINY_CONTRACT) for seed in range(2)], lambda rows, loss: None)
        return (
            " ".join(world.calls).replace("all_to_all", "send").replace("arrival", "wait").replace("all_reduce", "sum")
        )

    answered = "pass wait send wait"  # for the question; the answer, which is waited for at once
    one = f"{answered} send sum wait"  # the gradients, beside the sum
    assert set(on_ranks(2, partial(called, 1))) == {f"send send {one} {one}"}
    # A step asks for its own passes alone: of the batch after it the rows are asked for when that comes.
    assert set(on_ranks(2, partial(called, 2))) == {
        " ".join([f"send send {answered} send {answered} send sum wait wait"] * 2)
    }


class Mute(nn.Module):
    """A network that cannot ask ahead."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.network(batch)
        return logits


@pytest.mark.parametrize("passes", [1, 3])
def test_asking_ahead_changes_no_bit(passes: int) -> None:
    train = structs.replace(TRAIN, accumulation_steps=passes)
    batches = [batch(20, seed) for seed in range(4)]

    def fitted_on(world: World) -> None:
        ahead, late = (built(ctr_spec(memory="merged"), world) for _ in range(2))
        for model in (ahead, Mute(late)):
            fit(start_state(model, train, world), [part(each, [world.rank, *range(4, 20)]) for each in batches], silent)
        expected = everything(late)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in everything(ahead).items())

    on_ranks(2, fitted_on)


def test_a_look_up_begun_by_another_model_is_not_taken() -> None:
    samples = batch(9)

    def predicted(world: World) -> bool:
        model, teacher = built(ctr_spec(), world), built(network(ctr_spec(), seed=8), world)
        asked = replace(samples, asked=model.ask(samples))  # type: ignore[operator]
        with torch.no_grad():
            model.eval(), teacher.eval()
            return torch.equal(teacher(asked), teacher(samples)) and torch.equal(model(asked), model(samples))

    assert all(on_ranks(2, predicted))


def test_rates_rise_over_the_first_steps() -> None:
    slow = structs.replace(FULL_STEP, warmup_steps=3)
    samples = batch(16, contract=TINY_CONTRACT)
    moved = []
    for train, number in ((FULL_STEP, 0), (slow, 0), (slow, 2), (slow, 9)):
        model = build(tiny_spec(), ALONE)
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        state = start_state(model, train, ALONE)
        step(state._replace(optimiser=Descent(model, weight_decay=0.0)), samples, number)
        moved.append((nn.utils.parameters_to_vector(model.parameters()) - before).norm().item())
    assert [move / moved[0] for move in moved] == pytest.approx([1.0, 0.25, 0.75, 1.0], rel=1e-4)


# Sums in another order are rounded otherwise, more so in more parts.
@pytest.mark.parametrize(("passes", "rounding"), [(2, 1e-6), (3, 1e-6), (40, 1e-5)])
def test_a_batch_in_several_passes_is_the_step_of_the_whole(passes: int, rounding: float) -> None:
    spec, batches = WITHOUT_BATCH_NORM["ctr"], [batch(30, seed, WITHOUT_BATCH_NORM["ctr"].contract) for seed in (1, 2)]
    whole = everything(trained(spec, batches))
    model = built(spec, ALONE)
    in_parts = structs.replace(TRAIN, accumulation_steps=passes)
    steps, totals = fit(start_state(model, in_parts, ALONE), batches, lambda rows, loss: None)
    assert (steps, totals.rows) == (2, 60)
    for name, tensor in everything(model).items():
        assert_close(tensor, whole[name], rtol=1e-4, atol=rounding)


def test_bfloat16_is_of_the_network_alone_and_learns_as_well() -> None:
    samples = batch(256)
    model = build(ctr_spec(), ALONE)
    half = structs.replace(TRAIN, precision="bfloat16")
    fit(start_state(model, half, ALONE), [samples] * 150, lambda rows, loss: None)
    assert {tensor.dtype for tensor in everything(model).values() if tensor.is_floating_point()} == {torch.float32}
    with torch.no_grad():
        right = (model.eval()(samples) > 0) == (samples.labels > 0)
    assert right.float().mean() > 0.95


def test_evaluation_gives_the_loss_of_all_ranks_and_leaves_the_model_as_it_was() -> None:
    parts = [batch(40, 1), batch(10, 2)]

    def evaluated(world: World) -> tuple[float, bool]:
        model = trained(ctr_spec(), [batch(32, 3)], world)
        before = {name: tensor.clone() for name, tensor in everything(model).items()}
        totals = evaluate(model, iter([parts[world.rank]]), world)
        unchanged = all(torch.equal(before[name], tensor) for name, tensor in everything(model).items())
        return totals.mean_loss, unchanged and model.training

    model = trained(ctr_spec(), [batch(32, 3), batch(32, 3)][:1])
    both = on_ranks(2, evaluated)
    assert both[0] == both[1] and both[0][1]
    alone = evaluate(trained(ctr_spec(), [part(batch(32, 3), [*range(32)] * 2)]), iter(parts), ALONE)
    assert both[0][0] == pytest.approx(alone.mean_loss, rel=0.05)
    assert evaluate(model, iter([]), ALONE).mean_loss == 0.0
