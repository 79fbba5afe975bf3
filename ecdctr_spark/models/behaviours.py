"""The behaviours of a batch's samples, without their padding.

Histories are of different lengths, and what is padded to the longest is looked up, multiplied and trained for nothing.
So behaviours are one list, sample after sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ecdctr_spark.models.groups import gather, sum_runs


class Owners(NamedTuple):
    """Whose behaviours a list of P is: `sample` [P] int64 ascending, the sample of each; `starts` [B] int64, where each
    sample's begin; `counts` [B] int64, how many each has."""

    sample: Tensor
    starts: Tensor
    counts: Tensor


class Behaviours(NamedTuple):
    """The behaviours that are present: their vectors [P, D], and whose they are."""

    vectors: Tensor
    owners: Owners


def present(rows: Tensor, room: float | None = None) -> tuple[Tensor, Owners]:
    """The rows [P] other than padding of sequences [B, L], in their order, and whose they are.

    With `room` (Batch.room) P is that share of B * L, whatever the values, which must be no more. The last sample then
    also owns what is left, rows of padding: their vectors are zero, so they add nothing to a sum or to a gradient.
    """
    here = rows != 0
    counts = here.sum(1)
    starts = counts.cumsum(0) - counts
    if room is not None:
        listed, sample = _listed(rows, here, round(rows.numel() * room))
        return listed, Owners(sample, starts, counts)
    positions = here.view(-1).nonzero().squeeze(1)
    return rows.reshape(-1).index_select(0, positions), Owners(positions // rows.shape[1], starts, counts)


def summed(values: Tensor, owners: Owners) -> Tensor:
    """[B, N]: the sums of values [P, N] over the behaviours of each sample, in their order; zero where it has none."""
    sums: Tensor = _Summed.apply(values, owners.sample, owners.starts)  # type: ignore[no-untyped-call]
    return sums


def _listed(rows: Tensor, here: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """The rows [places] of sequences [B, L] where they are `here`, then padding, and the sample of each."""
    samples, length = rows.shape
    here, position = here.flatten(), torch.arange(rows.numel(), device=rows.device)
    place = (here.cumsum(0) - 1).masked_fill_(~here, places)  # padding goes to one more place, which is dropped
    listed = rows.new_zeros(places + 1).scatter_(0, place, rows.flatten())
    sample = position.new_full((places + 1,), samples - 1).scatter_(0, place, position // length)
    return listed[:places], sample[:places]


class _Summed(torch.autograd.Function):
    """The gradient of a sum, repeated: autograd's own would be a table of all that could be summed."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sample: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(sample)
        return sum_runs(values.contiguous(), starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gather(gradients[0].contiguous(), *ctx.saved_tensors), None, None
