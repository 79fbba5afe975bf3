"""Bytes that a rank receives in one training step, by the sharded embedding and by Horovod's default for sparse
gradients: an all-gather of every rank's indices and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import Arrival, Wire, on_wire
from ecdctr_spark.training.step import start_state, step
from ecdctr_spark.training.world import World
from tests.benchmarks.ours import TRAIN, Deep, batch_of
from tests.benchmarks.turns import DIMENSION, FIELDS, Workload
from tests.thread_ranks import ThreadWorld, on_ranks

_INDEX, _VECTOR = 4, 4 * DIMENSION
_GATHERED = 8 + _VECTOR  # a sparse gradient holds an int64 index and a vector for each position


class Counting:
    """A rank that counts what the others send it through the embedding's exchange."""

    def __init__(self, world: ThreadWorld) -> None:
        self.rank, self.size, self.device = world.rank, world.size, world.device
        self.all_reduce, self.barrier = world.all_reduce, world.barrier
        self.received = 0
        self._world = world

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """See Exchange."""
        arrival = self._world.all_to_all(tensor, splits, expected)

        def arrived() -> tuple[Tensor, list[int]]:
            got, counts = arrival()
            self.received += (len(got) - counts[self.rank]) * got[:1].numel() * got.element_size()
            return got, counts

        return arrived


def measured(rows: int, size: int, wire: Wire = "float32") -> float:
    """Bytes that a rank received on average in one step of the sharded embedding on that many simulated ranks, between
    which vectors and gradients travel so."""
    ids, labels = Workload(rows).batches()[0]

    def one_step(world: World) -> int:
        counting = Counting(world)  # type: ignore[arg-type]
        state = start_state(Deep(rows, on_wire(counting, wire)), TRAIN, counting)
        own = slice(world.rank, None, world.size)
        step(state, batch_of(ids[own], labels[own], rows), 0)
        return counting.received

    return sum(on_ranks(size, one_step)) / size


def worked_out(rows: int, size: int) -> float:
    """The same from the distinct rows of each rank's share alone: an index comes to the owner, a vector goes back, a
    gradient comes; what a rank owns itself stays."""
    ids, labels = Workload(rows).batches()[0]
    total = 0
    for rank in range(size):
        distinct = torch.unique(batch_of(ids[rank::size], labels[rank::size], rows).ids)
        total += int((distinct % size != rank).sum()) * (_INDEX + 2 * _VECTOR)
    return total / size


def gathered(size: int, batch: int) -> float:
    """Bytes that a rank receives by the all-gather: every other rank's indices and gradients, position by position."""
    return (size - 1) / size * batch * FIELDS * _GATHERED
