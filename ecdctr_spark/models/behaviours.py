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
    """Whose behaviours a list of P is: `sample` [P] int64 ascending, the sample of each, and `starts` [B] int64, where
    each sample's begin."""

    sample: Tensor
    starts: Tensor

    def counts(self) -> Tensor:
        """The number of behaviours of each sample, [B] int64."""
        return torch.diff(self.starts, append=self.starts.new_tensor([len(self.sample)]))


class Behaviours(NamedTuple):
    """The behaviours that are present: their vectors [P, D], and whose they are."""

    vectors: Tensor
    owners: Owners


def present(rows: Tensor) -> tuple[Tensor, Owners]:
    """The rows [P] other than padding of sequences [B, L], in their order, and whose they are."""
    here = rows != 0
    positions = here.view(-1).nonzero().squeeze(1)
    counts = here.sum(1)
    return rows.reshape(-1).index_select(0, positions), Owners(positions // rows.shape[1], counts.cumsum(0) - counts)


def summed(values: Tensor, owners: Owners) -> Tensor:
    """[B, N]: the sums of values [P, N] over the behaviours of each sample, in their order; zero where it has none."""
    sums: Tensor = _Summed.apply(values, *owners)  # type: ignore[no-untyped-call]
    return sums


class _Summed(torch.autograd.Function):
    """The gradient of a sum, repeated: autograd's own would be a table of all that could be summed."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sample: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(sample)
        return sum_runs(values.contiguous(), starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gather(gradients[0].contiguous(), *ctx.saved_tensors), None, None
