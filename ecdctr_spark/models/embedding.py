"""Tables of row vectors sharded over the ranks, and the trained embedding with its row-wise optimiser.

Row r lives on rank r % size as local row r // size. A step asks each owner once for each distinct row of the batch
(models/look_up.py) and sends back one summed gradient for it, all by Horovod's all-to-all. The owner applies row-wise
Adagrad to the rows touched. One rank exchanges nothing.

A step waits for few exchanges. The rows of a batch are asked for while the step before it computes, and gradients
travel beside the all-reduce of the dense ones (training/step.py). What is left is to wait for the answers, and for that
all-reduce.

A step costs the same however large the table is, and N ranks hold N times the rows of one. The alternatives:

- Replicate the table, as Horovod does with a model. Each rank holds every row, and with dense gradients the cost of a
  step grows with the vocabulary: one nn.Embedding per field under dense Adam trained 38,000 samples/s with 1.2 million
  rows and 5,000 with 12 million (2 CPU threads, batch 8192).
- Replicate it and use sparse gradients. The step no longer depends on the table, but memory still does, every rank
  receives the gradients of all others (tests/benchmarks/exchanged.py), and hvd.join() fails.
- Give each rank whole fields. That balances ranks only where fields are of equal size; users and items outweigh the
  others.
- TorchRec shards tables, but on torch.distributed. Its fused CPU kernel (FBGEMM) trained 80,000 to 120,000 samples/s,
  torch's operations with exact de-duplication 101,000 to 130,000. So torch's operations are the default, and FBGEMM's
  kernel is an option (models/rowwise_adagrad.py).

What it asks of the reader:

- Vectors are buffers, not parameters. The dense optimiser never sees them and no gradient has the size of a table, so
  a training calls `ShardedEmbedding.step` itself, after the backward pass.
- A look-up is a collective call: all ranks make the same look-ups in the same order. A rank that is out of rows feeds
  batches of weight zero (streaming/batches.py).
- An initial vector depends on (seed, row, column) only, so the number of ranks and later growth change no row.
- Vectors and gradients may travel as float16 (train.wire; models/exchange.py). Then those of rows that a rank owns
  itself are rounded too, so that a row is the same to all ranks.
- A checkpoint holds one share per rank; training/checkpoint.py redistributes them to any number of ranks.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ecdctr_spark.models.exchange import Arrival, Exchange
from ecdctr_spark.models.groups import gather, group_of_each, sum_groups
from ecdctr_spark.models.look_up import Answer, LookUp, Route, Wanted
from ecdctr_spark.models.rowwise_adagrad import Number, Rows, Update, by_torch

SCALE = 0.01  # of initial vectors: a row that was never trained adds next to nothing
_CHUNK = 1 << 16  # rows initialised at a time: bounds the memory of the hash


def initial_vectors(rows: Tensor, dimension: int, seed: int) -> Tensor:
    """Initial vectors [N, dimension] float32 of rows [N] int64: uniform in +-SCALE, a pure function of (seed, row,
    column) by SplitMix64 (Steele et al. 2014). So any number of ranks and any later growth agree on every row. Row 0,
    the padding, is zero."""
    bits = rows.unsqueeze(1) * dimension + torch.arange(1, dimension + 1) + _mix(torch.tensor(seed))
    uniform = _logical_shift(_mix(bits), 40).to(torch.float32) / (1 << 23) - 1.0
    return uniform.mul_(SCALE).mul_((rows != 0).unsqueeze(1))


class ShardedTable(nn.Module):
    """Frozen vectors of `rows` rows, sharded over the ranks. `weight` [local rows, dimension] float32 is this rank's
    share, zero until it is filled."""

    weight: Tensor

    def __init__(self, rows: int, dimension: int, exchange: Exchange) -> None:
        super().__init__()
        self.rows, self.dimension, self.exchange = rows, dimension, exchange
        self.register_buffer("weight", torch.zeros(len(self.local_rows()), dimension))

    def local_rows(self) -> Tensor:
        """The rows of the table that this rank holds, in the order it holds them."""
        return torch.arange(self.exchange.rank, self.rows, self.exchange.size)

    def row_tensors(self) -> dict[str, Tensor]:
        """Every tensor with one entry per local row, by name."""
        return {"weight": self.weight}

    def forward(self, rows: Tensor, answer: Answer | None = None) -> Tensor:
        """Vectors [..., dimension] of integer rows [...], each in 0..self.rows-1: from the `answer` to a look-up of the
        rows that were begun before, or from one of their own. All ranks call it together."""
        flat = rows.flatten()
        if answer is None and self.exchange.size > 1:
            (answer,) = LookUp([Wanted(self, flat)]).answers()
        return self._vectors(flat, answer).view(*rows.shape, self.dimension)

    def _vectors(self, rows: Tensor, answer: Answer | None) -> Tensor:
        """Vectors [N, dimension] of rows [N]; one rank has no answer."""
        if answer is None:
            return gather(self.weight, rows)
        return gather(answer.vectors, group_of_each(answer.route.groups))


class ShardedEmbedding(ShardedTable):
    """Vectors trained by row-wise Adagrad. `state` [local rows] holds the sum over steps of each row's mean squared
    gradient."""

    state: Tensor

    def __init__(self, rows: int, dimension: int, exchange: Exchange, seed: int) -> None:
        super().__init__(rows, dimension, exchange)
        # Not needed to predict: it goes into checkpoints, but not into exports.
        self.register_buffer("state", torch.zeros(len(self.weight)), persistent=False)
        for chunk, local in zip(torch.split(self.weight, _CHUNK), torch.split(self.local_rows(), _CHUNK), strict=True):
            chunk.copy_(initial_vectors(local, dimension, seed))
        self._passes: list[tuple[Tensor, Route | None, Tensor]] = []
        self._sent: list[tuple[Tensor, Arrival]] = []

    def row_tensors(self) -> dict[str, Tensor]:
        """See ShardedTable."""
        return {"weight": self.weight, "state": self.state}

    def _vectors(self, rows: Tensor, answer: Answer | None) -> Tensor:
        """See ShardedTable. The gradient of a backward pass through the vectors is kept for `step`."""
        vectors = super()._vectors(rows, answer)
        if torch.is_grad_enabled():
            vectors.requires_grad_()
            keep = partial(self._keep, rows, answer and answer.route)
            vectors.register_post_accumulate_grad_hook(keep)  # type: ignore[no-untyped-call]
        return vectors

    def send(self) -> None:
        """Begins to send the gradients of the passes since the last step to the owners of their rows, and returns at
        once. All ranks call it together, after the same number of passes; `step` does for those that are left."""
        self._sent.extend(self._sending(*each) for each in self._passes)
        self._passes.clear()

    def step(self, learning_rate: Number, scale: Number, update: Update = by_torch) -> None:
        """Row-wise Adagrad on the rows of the passes since the last step, with their summed gradient times `scale`.

        A row's gradient is summed over all positions and ranks before it is squared: the result is that of the whole
        batch on one rank. All ranks call it together, after the same number of passes.
        """
        self.send()
        if not self._sent:
            return
        rows = _joined([rows for rows, _ in self._sent])
        gradients = _joined([arrival()[0] for _, arrival in self._sent])
        self._sent.clear()
        update(Rows(self.weight, self.state), rows, gradients, scale, learning_rate)
        if self.exchange.rank == 0:  # padding
            self.weight[0].zero_()
            self.state[0].zero_()

    def forget(self) -> None:
        """Forgets the passes since the last step: of a step that failed on its way."""
        self._passes.clear()
        self._sent.clear()

    def _keep(self, rows: Tensor, route: Route | None, leaf: Tensor) -> None:
        assert leaf.grad is not None  # the hook runs after it was set
        self._passes.append((rows, route, leaf.grad))

    def _sending(self, rows: Tensor, route: Route | None, gradient: Tensor) -> tuple[Tensor, Arrival]:
        """The local rows [n] that this rank updates, and the arrival of their gradients [n, dimension]; rows may
        repeat."""
        if route is None:
            return rows.to(torch.int32), lambda: (gradient, [len(rows)])
        sums = sum_groups(gradient, route.groups)
        return route.asked, self.exchange.all_to_all(sums, route.splits, route.answers)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)  # one pass per step: nothing to copy


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's output function on int64, whose arithmetic wraps around like that of uint64."""
    bits = bits * -7046029254386353131
    bits = (bits ^ _logical_shift(bits, 30)) * -4658895280553007687
    bits = (bits ^ _logical_shift(bits, 27)) * -7723592293110705685
    return bits ^ _logical_shift(bits, 31)


def _logical_shift(bits: Tensor, places: int) -> Tensor:
    return (bits >> places) & ((1 << (64 - places)) - 1)
