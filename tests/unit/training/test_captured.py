"""The step of fixed shapes gives what the eager step gives, and is taken only where it does so and is faster.

Nothing is captured here: a replay is the recorded work itself, on the CPU. tests/device has the graphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from ecdctr_spark.events import passed_on
from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models import groups
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.exchange import ALONE, Alone
from ecdctr_spark.models.networks import build
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tensors import dense_tensors, row_tensors
from ecdctr_spark.training.captured import LEAST_STEPS, Captured, steps_of, update
from ecdctr_spark.training.inputs import laid_out, room_of
from ecdctr_spark.training.objective import CLICKS, Objective, Teaching
from ecdctr_spark.training.step import Eager, Steps, Totals, TrainState, start_state
from ecdctr_spark.training.trainer import fit
from ecdctr_spark.training.trial import Work
from tests.made_up import LENGTH, ROWS, TINY_CONTRACT, TRAIN, batch, built, ctr_spec, tiny_spec
from tests.replays import Recorder, captured, check_resumes

SPECS = {
    "tpm": tiny_spec(),
    "cpm": ctr_spec(memory="attention", months=("2000-05", "2000-06")),
    "actr": ctr_spec(memory="merged", pooling="mean"),
    "linear": ctr_spec(hidden=[], attention_hidden=[], cross_layers=0),
}
HOW = structs.replace(TRAIN, warmup_steps=5, weight_decay=1.0, gradient_clip=0.05)
FULL, SHORT = batch(TRAIN.batch_size, 1), batch(TRAIN.batch_size // 2, 2)
ONE = batch(1, 3)
OF_TINY = batch(TRAIN.batch_size, 1, TINY_CONTRACT)


Said = list[dict[str, Any]]


def started(spec: ModelSpec, how: Optimisation = HOW, objective: Objective = CLICKS) -> TrainState:
    """A training at its start, whose memory is filled."""
    model = built(spec, ALONE)
    if spec.memory:
        table = row_tensors(model)["memory.table.weight"]
        table[1:].normal_(generator=torch.Generator().manual_seed(5))
    return start_state(model, how, ALONE, objective)


def everything(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of a training, the optimisers' included."""
    tensors = {**dense_tensors(state.model), **row_tensors(state.model), **state.optimiser.tensors()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(found: TrainState, expected: TrainState) -> bool:
    """Bit for bit."""
    ours, theirs = everything(found), everything(expected)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def check_alike(found: TrainState, expected: TrainState) -> None:
    """But for rounding."""
    ours, theirs = everything(found), everything(expected)
    assert ours.keys() == theirs.keys()
    # Adam makes much of the rounding in a bias that batch norm undoes, and the mean of what is normed follows it.
    undone = {name for name in ours if re.fullmatch(r"mlp\.\d\.(bias|running_mean)", name)}
    for name in ours.keys() - undone:
        assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def fitted(state: TrainState, batches: Sequence[Batch], steps: Steps | None = None) -> Totals:
    return fit(state, batches, lambda rows, loss: None, steps=steps).totals


def check(batches: Sequence[Batch], replays: int, spec: ModelSpec = SPECS["cpm"]) -> TrainState:
    """The training by both steps is the same, and so many steps are replays. Returns that of fixed shapes."""
    expected, found, recorder = started(spec), started(spec), Recorder()
    totals = fitted(expected, batches), fitted(found, batches, captured(found, recorder))
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)
    assert recorder.made == replays
    check_alike(found, expected)
    return found


@pytest.fixture
def said() -> Iterator[Said]:
    """What the events `training step chosen` said, so far."""
    heard: Said = []
    with passed_on(lambda name, fields: heard.append(fields)):
        yield heard


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_batches_of_any_number_of_rows_make_the_model_of_the_eager_step(spec: ModelSpec) -> None:
    rows = [64, 40, 64, 33, 63, 50, 32]
    check([batch(number, seed, spec.contract) for seed, number in enumerate(rows)], len(rows), spec)


def test_histories_may_be_empty_full_and_of_the_same_rows_and_rows_unknown() -> None:
    clicks = FULL.sequences["clicks"]
    batches = [
        replace(FULL, sequences={"clicks": torch.zeros_like(clicks)}),
        replace(FULL, sequences={"clicks": torch.full_like(clicks, 30)}),
        replace(FULL, ids=FULL.ids[:1].expand_as(FULL.ids)),
        replace(FULL, ids=FULL.ids + ROWS, sequences={"clicks": torch.where(clicks > 0, clicks + ROWS, 0)}),
        SHORT,
    ]
    check(batches, len(batches))


def test_a_row_whose_gradient_is_rounding_alone_is_no_difference() -> None:
    """Batch norm undoes the effect of an id that all samples share. Adagrad then moves it by the sign of rounding."""
    shared = OF_TINY.ids.clone()
    shared[:, 0] = shared[0, 0]
    state, recorder = started(tiny_spec(hidden=[8, 4])), Recorder()
    fitted(state, [replace(OF_TINY, ids=shared)] * 3, captured(state, recorder))
    assert recorder.made == 3


def test_padding_stays_zero_in_table_and_state() -> None:
    tensors = everything(check([SHORT, FULL, SHORT], replays=3))
    assert not tensors["fields.embedding.weight"][0].any() and not tensors["fields.embedding.state"][0].any()


def test_batches_that_do_not_fit_take_the_eager_step_in_between() -> None:
    larger = batch(TRAIN.batch_size + 1, 4)
    partly = replace(FULL, weights=torch.arange(len(FULL)).clamp(max=1).float())
    few = batch(31, 5)
    check([ONE, FULL, ONE, SHORT, larger, few, FULL, partly, FULL], replays=4)


def test_a_teacher_is_listened_to() -> None:
    teacher = started(SPECS["actr"]).model.eval().requires_grad_(False)
    objective = Objective(Teaching(teacher, 0.7))
    expected, found, recorder = started(SPECS["cpm"], HOW, objective), started(SPECS["cpm"], HOW, objective), Recorder()
    for state, steps in ((expected, Eager(expected)), (found, captured(found, recorder))):
        fitted(state, [FULL, SHORT, FULL], steps)
    assert recorder.made == 3
    check_alike(found, expected)


def test_bfloat16_learns_as_the_eager_step_does() -> None:
    half = structs.replace(TRAIN, precision="bfloat16")
    losses, types, recorder = [], list[torch.dtype](), Recorder()
    for steps in (Eager, partial(captured, record=recorder)):
        state = started(SPECS["cpm"], half)
        state.model.register_forward_hook(lambda model, batch, logits: types.append(logits.dtype))
        losses.append(fitted(state, [FULL] * 60, steps(state)).mean_loss)
    assert recorder.made == 60
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert (
        types.count(torch.float32) == 1 and types.count(torch.bfloat16) > 2 * 60
    )  # one asks for the rows that are read


def test_what_was_tried_before_a_step_leaves_no_trace(said: Said) -> None:
    def fails(work: Work) -> Work:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    expected, found = started(SPECS["cpm"]), started(SPECS["cpm"])
    batches = [FULL, SHORT, FULL]
    fitted(expected, batches)
    fitted(found, batches, Captured(found, fails))
    assert same(found, expected)
    reason = "RuntimeError: operation not permitted when stream is capturing"
    assert said == [{"choice": "eager", "reason": reason}]


def test_a_step_that_failed_on_its_way_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*gradient: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ecdctr_spark.training.captured.clip", fails)
    expected, found = started(SPECS["cpm"]), started(SPECS["cpm"])
    fitted(expected, [FULL, SHORT])
    fitted(found, [FULL, SHORT], captured(found))
    assert same(found, expected)


def test_a_replay_of_another_result_is_not_taken(said: Said) -> None:
    expected, found = started(SPECS["cpm"]), started(SPECS["cpm"])
    fitted(expected, [FULL, SHORT])
    fitted(found, [FULL, SHORT], Captured(found, lambda work: lambda: None, lambda work: 1.0))
    assert same(found, expected)
    assert len(said) == 1 and "captured, it differs by 1 of what a step changes" in said[0]["reason"]


class Mixing(nn.Module):
    """A network that reads rows of padding as samples."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Batch) -> Tensor:
        logits: Tensor = self.model(samples)
        return logits - logits.mean()


def test_a_network_that_mixes_samples_with_padding_is_trained_eagerly(said: Said) -> None:
    state = start_state(Mixing(built(tiny_spec(), ALONE)), TRAIN, ALONE)
    recorder = Recorder()
    fitted(state, [OF_TINY, OF_TINY], captured(state, recorder))
    assert recorder.recorded == 1 and recorder.made == 0
    assert len(said) == 1 and said[0]["choice"] == "eager" and "differs" in said[0]["reason"]


@pytest.mark.parametrize(("milliseconds", "replays"), [((1.0, 2.0), 3), ((2.0, 1.0), 0), ((1.0, 1.0), 0)])
def test_the_faster_step_is_taken_and_said_once(milliseconds: tuple[float, float], replays: int, said: Said) -> None:
    expected, found, recorder = started(SPECS["cpm"]), started(SPECS["cpm"]), Recorder()
    fitted(expected, [FULL, SHORT, FULL])
    fitted(found, [FULL, SHORT, FULL], captured(found, recorder, milliseconds))
    assert recorder.made == replays
    assert [line["choice"] for line in said] == ["captured" if replays else "eager"]
    assert (said[0]["captured_ms"], said[0]["eager_ms"]) == milliseconds
    check_alike(found, expected)
    assert same(found, expected) == (replays == 0)


def test_each_share_of_behaviours_is_recorded_once_and_eager_from_the_first_that_cannot_be(
    said: Said,
) -> None:
    full = replace(FULL, sequences={"clicks": torch.full((len(FULL), LENGTH), 30)})
    check([full, FULL, full, FULL], replays=4)
    recorder = Recorder(most=1)
    expected, found = started(SPECS["cpm"]), started(SPECS["cpm"])
    for state, steps in ((expected, Eager(expected)), (found, captured(found, recorder))):
        fitted(state, [full, full, FULL, full], steps)
    assert recorder.made == 2
    assert [line["choice"] for line in said] == ["captured", "captured", "eager"]
    check_alike(found, expected)


def test_room_is_the_largest_share_of_places_in_sixteenths() -> None:
    empty = replace(FULL, sequences={"clicks": torch.zeros(len(FULL), LENGTH)})
    full = replace(FULL, sequences={"clicks": torch.ones(len(FULL), LENGTH), "others": torch.zeros(len(FULL), 2)})
    assert [room_of(each, len(FULL)) for each in (empty, full)] == [1 / 16, 1.0]
    assert room_of(full, 2 * len(FULL)) == 0.5
    one_more = torch.zeros(64, 4)
    one_more.view(-1)[:17] = 1
    assert room_of(replace(FULL, sequences={"clicks": one_more}), 64) == 2 / 16
    assert room_of(batch(8, contract=tiny_spec().contract), 8) == 1.0  # nothing to make room for


def test_a_loss_that_is_not_finite_ends_the_training_before_its_checkpoint() -> None:
    state = started(SPECS["cpm"])
    steps = captured(state)
    bad = replace(FULL, numbers=torch.full_like(FULL.numbers, float("nan")))
    with pytest.raises(RuntimeError, match="not finite at step 3"):
        fitted(state, [FULL, bad, FULL], steps)


def test_totals_are_read_every_few_steps() -> None:
    state, heard = started(tiny_spec()), list[Totals]()
    steps = captured(state)
    for number in range(70):
        heard.append(steps.make(OF_TINY, number))
    rows = [totals.rows for totals in heard]
    assert [number for number, each in enumerate(rows) if each] == [31, 63]
    assert steps.rest().rows == 6 * len(OF_TINY) and steps.rest() == Totals()
    assert sum(rows) == 64 * len(OF_TINY)


def test_a_training_that_was_killed_ends_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr("ecdctr_spark.training.trainer.steps_of", lambda state, planned: captured(state, recorder))
    check_resumes(tmp_path, SPECS["actr"])
    assert recorder.made == 9 + 6 + 6


def test_a_cpu_makes_eager_steps_and_says_nothing(said: Said) -> None:
    state = started(tiny_spec())._replace(world=Alone(device=torch.device("cpu")))
    assert isinstance(steps_of(state, LEAST_STEPS), Eager)
    assert said == []


@pytest.mark.parametrize(
    ("changes", "size", "planned", "reason"),
    [
        ({}, 2, LEAST_STEPS, "a captured step is of one rank, not of 2"),
        ({"accumulation_steps": 4}, 1, LEAST_STEPS, "a captured step is one pass, not 4"),
        ({"kernel": "fbgemm"}, 1, LEAST_STEPS, "a captured step updates by torch, not by fbgemm"),
        ({}, 1, LEAST_STEPS - 1, f"{LEAST_STEPS - 1} steps are too few to be worth it"),
    ],
)
def test_what_cannot_be_captured_on_a_gpu_is_eager_and_says_why(
    changes: dict[str, object], size: int, planned: int, reason: str, said: Said
) -> None:
    world = Alone(size=size, device=torch.device("cuda"))
    state = started(tiny_spec())._replace(world=world, train=structs.replace(TRAIN, **changes))
    assert isinstance(steps_of(state, planned), Eager)
    assert said == [{"choice": "eager", "reason": reason}]


def test_a_batch_norm_that_counts_padding_is_not_captured(said: Said) -> None:
    model = nn.Sequential(built(tiny_spec(), ALONE), nn.BatchNorm1d(1))
    state = start_state(model, TRAIN, ALONE)._replace(world=Alone(device=torch.device("cuda")))
    assert isinstance(steps_of(state, LEAST_STEPS), Eager)
    assert said == [{"choice": "eager", "reason": "the model's batch norm counts padding"}]


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """A GPU that need not be there, of tensors without values. No cached tensor comes to it or stays behind."""
    device = torch.device("cuda", 0)
    groups._count.cache_clear()
    with FakeTensorMode(), device:
        try:
            torch.zeros(1)
        except RuntimeError as error:
            pytest.skip(f"this torch asks for a driver: {error}")
        yield device
    groups._count.cache_clear()


@pytest.mark.parametrize("pooling", [None, "attention", "mean", "last", "merged"])
@pytest.mark.parametrize("taught", [False, True])
def test_on_a_gpu_no_shape_depends_on_a_value_and_none_is_asked_for(
    pooling: str | None, taught: bool, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without values refuse both. The backward pass of autograd alone would need the GPU."""
    world, months = Alone(device=gpu), () if pooling == "merged" else ("2000-05", "2000-06")
    model, teacher = (build(ctr_spec(memory=pooling, months=months), world) for _ in range(2))
    monkeypatch.setattr(model, "to", lambda device: model)
    objective = Objective(Teaching(teacher.eval().requires_grad_(False), 0.5)) if taught else CLICKS
    state, looked_up = start_state(model, HOW, world, objective), list[Tensor]()
    (embedding,) = state.embeddings
    embedding.register_forward_hook(lambda module, rows, vectors: looked_up.append(vectors))

    def backward(loss: Tensor) -> None:
        (vectors,) = looked_up
        leaf = torch.zeros_like(vectors).requires_grad_()
        leaf.grad = torch.zeros_like(vectors)
        embedding._keep(torch.zeros(len(vectors), dtype=torch.int32), None, leaf)

    monkeypatch.setattr(Tensor, "backward", backward)
    inputs = laid_out(FULL, len(FULL), 1 + len(state.optimiser.factors(0.0)), gpu)
    totals = torch.zeros(3, dtype=torch.float64)
    update(state, replace(inputs.batch, room=0.5), inputs.factors, totals)
    assert totals.is_cuda and len(looked_up) == 1
