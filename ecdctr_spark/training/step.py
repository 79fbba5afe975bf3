"""One update of a model from the batches of all ranks.

A step is that of the whole batch, however many ranks and passes share it. The loss is the weighted sum over all rows;
one all-reduce carries the dense gradient and the sum of weights together, and turns it into a mean. Only batch norm
sees no more than its own rank's rows.

What ranks exchange takes them longer to wait for than to send, so no exchange is waited for that something else can be
done beside. The rows of a batch are asked for before the pass before it (asked_ahead), and are there when it ends. The
gradients of rows are sent before the all-reduce, and are there when the dense weights are updated. Only the answers,
which need the tables of the step before, come while nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ecdctr_spark.methods.method import Optimisation
from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.fields import Asks
from ecdctr_spark.models.rowwise_adagrad import UPDATES, Number
from ecdctr_spark.training.adamw import AdamW
from ecdctr_spark.training.objective import CLICKS, Objective
from ecdctr_spark.training.world import World


class Totals(NamedTuple):
    """Sums over all ranks: the weighted losses, each before its update; the weights; the rows."""

    loss: float = 0.0
    weight: float = 0.0
    rows: float = 0.0

    def plus(self, other: Totals) -> Totals:
        """The totals of both."""
        return Totals(self.loss + other.loss, self.weight + other.weight, self.rows + other.rows)

    @property
    def mean_loss(self) -> float:
        """The weighted mean loss; 0 where there is no weight."""
        return self.loss / self.weight if self.weight else 0.0


class TrainState(NamedTuple):
    """A model and what updates it. `gradient` is one vector; every parameter's gradient is a view of it, so that it is
    reduced and clipped as a whole without a copy. Its last elements hold a step's Totals. `norms` and `embeddings` are
    the model's, found once."""

    model: nn.Module
    optimiser: AdamW
    gradient: Tensor
    train: Optimisation
    world: World
    norms: tuple[nn.BatchNorm1d, ...]
    embeddings: tuple[ShardedEmbedding, ...]
    objective: Objective = CLICKS


def start_state(model: nn.Module, train: Optimisation, world: World, objective: Objective = CLICKS) -> TrainState:
    """Moves the model to this rank's device and sets up Adam with decoupled weight decay for its parameters. Tables are
    no parameters and bring their own optimiser."""
    optimiser = AdamW(model.to(world.device), train.weight_decay)
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    gradient = torch.zeros(sum(sizes) + len(Totals()), device=world.device)
    for parameter, piece in zip(parameters, torch.split(gradient, [*sizes, len(Totals())]), strict=False):
        parameter.grad = piece.view_as(parameter)
    embeddings = tuple(module for module in model.modules() if isinstance(module, ShardedEmbedding))
    return TrainState(model, optimiser, gradient, train, world, tuple(_batch_norms(model)), embeddings, objective)


def step(state: TrainState, batch: Batch, number: int) -> Totals:
    """Step number `number`, counted from 0, on each rank's batch. All ranks call it together; the totals are of all."""
    train = state.train
    dense, own = cleared(state)
    for part in asked_ahead(state, batch.parts(train.accumulation_steps)):
        own += _pass(state, part)
    state.world.all_reduce(state.gradient)
    totals = Totals(*own.tolist())
    scale = 1.0 / totals.weight
    clip(dense, train.gradient_clip, scale)
    rates = rates_of(train, number)
    state.optimiser.step(dense, rates.dense)
    for embedding in state.embeddings:
        embedding.step(rates.tables, scale, UPDATES[train.kernel])
    return totals


def asked_ahead(state: TrainState, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of passes. Each one's rows are asked of their owners before it comes, and the next one's too: while
    this one's pass computes. On one rank, or for a network that cannot ask ahead, the batches as they are."""
    model, device = state.model, state.world.device
    if state.world.size == 1 or not isinstance(model, Asks):
        yield from batches
        return
    asked = (each if each.asked else replace(each, asked=model.ask(each.to(device))) for each in batches)
    present = next(asked, None)
    while present is not None:
        following = next(asked, None)
        yield present
        present = following


class Steps(Protocol):
    """How a training makes its steps. All ranks call it together."""

    def make(self, batch: Batch, number: int) -> Totals:
        """Step `number`, counted from 0. The totals that are known with it: its own, those of earlier steps too, or
        none."""

    def rest(self) -> Totals:
        """The totals of the steps that are not known yet."""


class Eager:
    """Each step by `step`, one operation after the other."""

    def __init__(self, state: TrainState) -> None:
        self._state = state

    def make(self, batch: Batch, number: int) -> Totals:
        """See Steps."""
        return step(self._state, batch, number)

    def rest(self) -> Totals:
        """See Steps."""
        return Totals()


class Rates(NamedTuple):
    """The learning rates of a step: of Adam, and of row-wise Adagrad."""

    dense: float
    tables: float


def rates_of(train: Optimisation, number: int) -> Rates:
    """The rates of step `number`, counted from 0."""
    warm = min(1.0, (number + 1) / (train.warmup_steps + 1))
    return Rates(train.dense_learning_rate * warm, train.embedding_learning_rate * warm)


def cleared(state: TrainState) -> tuple[Tensor, Tensor]:
    """The dense gradient and the Totals of a step that begins: the two parts of state.gradient, all zero."""
    state.gradient.zero_()
    dense, own = torch.split(state.gradient, [len(state.gradient) - len(Totals()), len(Totals())])
    return dense, own


def clip(dense: Tensor, most: float, scale: Number) -> None:
    """Multiplies the dense gradient by `scale`, or by less where its norm would be above `most`."""
    dense.mul_((most / dense.norm().clamp(min=1e-12)).clamp(max=scale))


def loss_of(model: nn.Module, batch: Batch, precision: str, objective: Objective) -> Tensor:
    """The weighted sum of the losses of a batch on the model's device, a scalar."""
    with torch.autocast(batch.labels.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(batch)
    return objective.loss(logits.float(), batch)


@torch.no_grad()
def average_batch_norm(model: nn.Module, rows: int, world: World) -> None:
    """Replaces the ranks' running statistics by their mean, weighted by the `rows` each rank has seen. The variance of
    the whole is the mean of the variances plus the variance of the means. All ranks call it together."""
    for norm in _batch_norms(model):
        assert norm.running_mean is not None and norm.running_var is not None  # all of ours keep statistics
        mean, var = norm.running_mean.double(), norm.running_var.double()
        sums = torch.cat([mean * rows, (var + mean.square()) * rows, mean.new_tensor([float(rows)])])
        world.all_reduce(sums)
        if sums[-1] > 0:
            mean, square = (sums[:-1] / sums[-1]).chunk(2)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(square - mean.square())


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterator[Batch], world: World) -> Totals:
    """The totals of all ranks' batches, with float32 and without a teacher. Every rank must bring the same number of
    batches. The model is not changed."""
    training = model.training
    model.eval()
    sums = torch.zeros(len(Totals()), dtype=torch.float64, device=world.device)
    for batch in batches:
        sums += _totals(loss_of(model, batch.to(world.device), "float32", CLICKS), batch, rows_of(batch))
    model.train(training)
    return Totals(*world.all_reduce(sums).tolist())


def rows_of(batch: Batch) -> int:
    """The number of rows that are no padding."""
    return int((batch.weights > 0).sum())


def _pass(state: TrainState, part: Batch) -> Tensor:
    rows = rows_of(part)
    for norm in state.norms:
        # By the batch's own statistics or the running ones: a single row has no variance, and a filler is no data.
        norm.training = rows > 1
    loss = loss_of(state.model, part.to(state.world.device), state.train.precision, state.objective)
    loss.backward()  # type: ignore[no-untyped-call]
    for embedding in state.embeddings:
        embedding.send()
    return _totals(loss.detach(), part, rows)


def _totals(loss: Tensor, batch: Batch, rows: int) -> Tensor:
    """Totals of a batch on the CPU, as a tensor on the loss's device: so a GPU is not waited for here."""
    totals = torch.tensor(Totals(0.0, batch.weights.sum().item(), rows)).to(loss.device)
    totals[0] = loss
    return totals


def _batch_norms(model: nn.Module) -> Iterator[nn.BatchNorm1d]:
    return (module for module in model.modules() if isinstance(module, nn.BatchNorm1d))
