"""The training of any of the models on one of several ranks: one flat loop, and what stands around it.

A step is that of the whole batch, however many ranks share it: the loss is the weighted sum over all their rows,
brought to a mean by one all-reduce that carries the dense gradient and the weights together. Batch norm alone sees
its own rank's rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecdctr_spark.config import Optimiser
from ecdctr_spark.models import build
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.streaming.batch import Batch
from ecdctr_spark.streaming.batches import Stream
from ecdctr_spark.training.checkpoint import Manifest, publish
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from ecdctr_spark.training.transfer import restore
from ecdctr_spark.training.world import World

Progress = Callable[[int, float], None]  # rows trained on so far by all ranks, their mean loss

_REPORT_SECONDS = 0.25


class Totals(NamedTuple):
    """Of all ranks together: the weighted sum of losses, each before its update, the sum of weights, the rows."""

    loss: float = 0.0
    weight: float = 0.0
    rows: float = 0.0

    def plus(self, other: Totals) -> Totals:
        """The totals of both."""
        return Totals(self.loss + other.loss, self.weight + other.weight, self.rows + other.rows)

    @property
    def mean_loss(self) -> float:
        """The weighted mean loss; 0 where there was no row."""
        return self.loss / self.weight if self.weight else 0.0


def train(job: TrainingJob, world: World, progress: Progress) -> TrainingResult:
    """Carries a job out and publishes the model at job.output. All ranks call it together with the same job.

    The same job on as many ranks and threads gives the same weights bit for bit. `progress` is called on rank 0.
    """
    started = time.perf_counter()
    model = build(job.model, world)
    optimiser = dense_optimiser(model, job.train)
    restored = restore(model, optimiser, job, world)
    stream = Stream(job.units, job.model.contract, job.train, job.shuffle_rows, job.until, world.rank, world.size)
    with closing(_every_epoch(stream, job.train.epochs)) as batches:
        totals, steps = fit(model, optimiser, batches, job.train, world, progress)
    seconds = time.perf_counter() - started
    result = TrainingResult(
        rows=int(totals.rows),
        steps=steps,
        seconds=seconds,
        loss=totals.mean_loss,
        waiting=stream.waited / seconds,
    )
    manifest = Manifest(
        model_id=job.model_id,
        spec=job.model,
        train=job.train,
        transfer=job.transfer,
        ranks=world.size,
        restored=restored,
        result=result,
    )
    publish(Path(job.output), model, optimiser, manifest, world)
    return result


def dense_optimiser(model: nn.Module, train: Optimiser) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay over the parameters; tables have none and bring their own."""
    return torch.optim.AdamW(model.parameters(), lr=train.dense_learning_rate, weight_decay=train.weight_decay)


def fit(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    train: Optimiser,
    world: World,
    progress: Progress,
) -> tuple[Totals, int]:
    """Trains on this rank's batches, of which every rank must bring as many; the totals over all, and the steps.

    A filler batch weighs nothing and counts no row. Raises RuntimeError where the loss is no longer finite.
    """
    model.train()
    gradient = flat_gradient(model)
    totals, steps, own_rows, reported = Totals(), 0, 0, time.perf_counter()
    for batch in batches:
        totals = totals.plus(step(model, optimiser, gradient, batch, train, world))
        steps, own_rows = steps + 1, own_rows + _rows(batch)
        if not math.isfinite(totals.loss):
            raise RuntimeError(f"the loss is not finite at step {steps}: lower the learning rates")
        if world.rank == 0 and time.perf_counter() - reported >= _REPORT_SECONDS:
            progress(int(totals.rows), totals.mean_loss)
            reported = time.perf_counter()
    average_batch_norm(model, own_rows, world)
    if world.rank == 0:
        progress(int(totals.rows), totals.mean_loss)
    return totals, steps


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    gradient: Tensor,
    batch: Batch,
    train: Optimiser,
    world: World,
) -> Totals:
    """One update from the batches of all ranks; `gradient` is the model's flat_gradient."""
    gradient.zero_()
    _use_batch(model, _rows(batch) > 1)
    loss = F.binary_cross_entropy_with_logits(model(batch), batch.labels, batch.weights, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    own = Totals(loss.item(), batch.weights.sum().item(), _rows(batch))
    gradient[-len(own) :] = torch.tensor(own)
    world.all_reduce(gradient)
    totals = Totals(*gradient[-len(own) :].tolist())
    scale = 1.0 / totals.weight
    dense = gradient[: -len(own)].mul_(scale)
    dense.mul_((train.gradient_clip / dense.norm().clamp(min=1e-12)).clamp(max=1.0))
    optimiser.step()
    for module in model.modules():
        if isinstance(module, ShardedEmbedding):
            module.step(train.embedding_learning_rate, scale)
    return totals


def flat_gradient(model: nn.Module) -> Tensor:
    """One vector of which every parameter's gradient is a view, so that it is reduced and clipped as a whole without
    a copy, with room for a step's totals at its end."""
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    gradient = torch.zeros(sum(sizes) + len(Totals()))
    pieces = torch.split(gradient, [*sizes, len(Totals())])
    for parameter, piece in zip(parameters, pieces, strict=False):
        parameter.grad = piece.view_as(parameter)
    return gradient


@torch.no_grad()
def average_batch_norm(model: nn.Module, rows: int, world: World) -> None:
    """Brings the ranks' running statistics together, weighted by the rows each has seen. The variance of the whole is
    the mean variance plus the variance of the means."""
    for norm in _batch_norms(model):
        assert norm.running_mean is not None and norm.running_var is not None  # all of ours keep statistics
        mean, var = norm.running_mean.double(), norm.running_var.double()
        sums = torch.cat([mean * rows, (var + mean.square()) * rows, torch.tensor([float(rows)]).double()])
        world.all_reduce(sums)
        if sums[-1] > 0:
            mean, square = (sums[:-1] / sums[-1]).chunk(2)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(square - mean.square())


def _use_batch(model: nn.Module, statistics: bool) -> None:
    """A batch of one row has no variance, and a filler is no data: both are normed by the running statistics."""
    for norm in _batch_norms(model):
        norm.train(statistics)


def _batch_norms(model: nn.Module) -> Iterator[nn.BatchNorm1d]:
    return (module for module in model.modules() if isinstance(module, nn.BatchNorm1d))


def _rows(batch: Batch) -> int:
    return int((batch.weights > 0).sum())


def _every_epoch(stream: Stream, epochs: int) -> Generator[Batch, None, None]:
    for epoch in range(epochs):
        yield from stream.batches(epoch)
