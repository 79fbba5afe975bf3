"""Tables of row vectors spread over ranks, and the embedding among them with its row-wise optimiser.

Row r lives on rank r % size, there as local row r // size. A batch asks each owner once for each distinct row it
holds; one rank exchanges nothing. No cost of a step grows with a table. Vectors are buffers, not parameters: the
dense optimiser never sees them, and a gradient never has the size of a table.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.groups import Groups, gather, group, group_of_each, sum_groups
from ecdctr_spark.models.rowwise_adagrad import Rows, Update, by_torch

SCALE = 0.01  # of initial vectors: a row that was never trained says next to nothing
_CHUNK = 1 << 16  # rows initialised at a time: bounds the memory of the hash


class Route(NamedTuple):
    """How the vectors of a batch came: its positions by distinct row and the number of these asked of each rank;
    `asked` are the local rows that all ranks asked of this one, of which rank q asked `answers[q]`."""

    groups: Groups
    splits: list[int]
    asked: Tensor
    answers: list[int]


def initial_vectors(rows: Tensor, dimension: int, seed: int) -> Tensor:
    """[N, dimension] uniform in +-SCALE, a pure function of (seed, row, column) by SplitMix64 (Steele et al. 2014):
    any number of ranks and any later growth agree on every row. Row 0, the padding, is zero."""
    bits = rows.unsqueeze(1) * dimension + torch.arange(1, dimension + 1) + _mix(torch.tensor(seed))
    uniform = _logical_shift(_mix(bits), 40).to(torch.float32) / (1 << 23) - 1.0
    return uniform.mul_(SCALE).mul_((rows != 0).unsqueeze(1))


class ShardedTable(nn.Module):
    """Frozen vectors: zero until somebody fills this rank's share, `weight` [local rows, dimension]."""

    weight: Tensor

    def __init__(self, rows: int, dimension: int, exchange: Exchange) -> None:
        super().__init__()
        self.rows, self.dimension, self.exchange = rows, dimension, exchange
        self.register_buffer("weight", torch.zeros(len(self.local_rows()), dimension))

    def local_rows(self) -> Tensor:
        """The rows of the table that this rank holds, in the order it holds them."""
        return torch.arange(self.exchange.rank, self.rows, self.exchange.size)

    def row_tensors(self) -> dict[str, Tensor]:
        """Everything kept a row, by name; first dimension: local rows."""
        return {"weight": self.weight}

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [..., dimension] of integer rows [...], each in 0..self.rows-1."""
        vectors, _ = self._look_up(rows.flatten())
        return vectors.view(*rows.shape, self.dimension)

    def _look_up(self, rows: Tensor) -> tuple[Tensor, Route | None]:
        """Vectors [N, dimension] of rows [N], and the way they took between ranks (None on one rank)."""
        if self.exchange.size == 1:
            return gather(self.weight, rows), None
        route = self._route(rows)
        answers = gather(self.weight, route.asked)
        vectors, _ = self.exchange.all_to_all(answers, route.answers)
        return gather(vectors, group_of_each(route.groups)), route

    def _route(self, rows: Tensor) -> Route:
        size = self.exchange.size
        share = math.ceil(self.rows / size)
        keys = rows.to(torch.int32)  # sorts in half the time of int64
        groups = group(keys % size * share + keys // size)  # by owner, then by local row
        owners = torch.bincount(groups.distinct // share, minlength=size)
        splits: list[int] = owners.tolist()
        asked, answers = self.exchange.all_to_all(groups.distinct % share, splits)
        return Route(groups, splits, asked, answers)


class ShardedEmbedding(ShardedTable):
    """Trained vectors under row-wise Adagrad: `state` holds for each local row the sum over steps of its mean
    squared gradient."""

    state: Tensor

    def __init__(self, rows: int, dimension: int, exchange: Exchange, seed: int) -> None:
        super().__init__(rows, dimension, exchange)
        # No part of what a model computes: it goes into checkpoints, but not into exports.
        self.register_buffer("state", torch.zeros(len(self.weight)), persistent=False)
        for chunk, local in zip(torch.split(self.weight, _CHUNK), torch.split(self.local_rows(), _CHUNK), strict=True):
            chunk.copy_(initial_vectors(local, dimension, seed))
        self._pending: list[tuple[Tensor, Route | None, Tensor]] = []

    def row_tensors(self) -> dict[str, Tensor]:
        """See ShardedTable."""
        return {"weight": self.weight, "state": self.state}

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [..., dimension] of integer rows [...]; a backward pass through them is kept for `step`."""
        flat = rows.flatten()
        vectors, route = self._look_up(flat)
        if torch.is_grad_enabled():
            vectors.requires_grad_()
            keep = partial(self._keep, flat, route)
            vectors.register_post_accumulate_grad_hook(keep)  # type: ignore[no-untyped-call]
        return vectors.view(*rows.shape, self.dimension)

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float, update: Update = by_torch) -> None:
        """Row-wise Adagrad on the rows of the passes since the last step; their summed gradient times `scale`.

        A row's gradient is summed over all positions and ranks before it is squared, as if the batch had been one.
        All ranks must call it together, after the same number of passes.
        """
        received = [self._to_owners(*passed) for passed in self._pending]
        self._pending.clear()
        if not received:
            return
        rows = _joined([rows for rows, _ in received])
        gradients = _joined([gradients for _, gradients in received])
        update(Rows(self.weight, self.state), rows, gradients, scale, learning_rate)
        if self.exchange.rank == 0:  # padding
            self.weight[0].zero_()
            self.state[0].zero_()

    def _keep(self, rows: Tensor, route: Route | None, leaf: Tensor) -> None:
        assert leaf.grad is not None  # the hook runs after it was set
        self._pending.append((rows, route, leaf.grad))

    def _to_owners(self, rows: Tensor, route: Route | None, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The local rows that this rank has to update and a gradient for each; a row may come more than once."""
        if route is None:
            return rows.to(torch.int32), gradient
        received, _ = self.exchange.all_to_all(sum_groups(gradient, route.groups), route.splits)
        return route.asked, received


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)  # one pass a step: nothing to copy


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's output function on int64, whose arithmetic wraps as that of uint64 does."""
    bits = bits * -7046029254386353131
    bits = (bits ^ _logical_shift(bits, 30)) * -4658895280553007687
    bits = (bits ^ _logical_shift(bits, 27)) * -7723592293110705685
    return bits ^ _logical_shift(bits, 31)


def _logical_shift(bits: Tensor, places: int) -> Tensor:
    return (bits >> places) & ((1 << (64 - places)) - 1)
