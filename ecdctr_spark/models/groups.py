"""Vectors looked up by row, and equal rows of a batch brought together with their gradients summed, in an order that is
the same on any machine."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Groups(NamedTuple):
    """Equal values brought together: the `distinct` ones ascending, the positions of all in that `order` (equal
    ones by position), and where in it each distinct one `starts`."""

    distinct: Tensor
    order: Tensor
    starts: Tensor


def group(values: Tensor) -> Groups:
    """Groups of a vector of integers, by a stable sort: the same values give the same order on any machine."""
    ordered, order = torch.sort(values, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=first[1:])
    starts = first.nonzero().squeeze(1)
    return Groups(ordered[starts], order, starts)


def gather(vectors: Tensor, rows: Tensor) -> Tensor:
    """[N, D], the vectors of the integer rows [N] among [R, D]."""
    if vectors.is_cuda:
        return vectors.index_select(0, rows)
    # Bags of one row: the CPU's kernel for bags fetches ahead of itself, and takes half of index_select's time.
    return F.embedding_bag(rows, vectors, _count(len(rows).bit_length(), rows.dtype)[: len(rows)], mode="sum")


def sum_groups(vectors: Tensor, groups: Groups) -> Tensor:
    """[groups, D], the sum over each group of [N, D], always in the order of positions."""
    return F.embedding_bag(groups.order, vectors, groups.starts, mode="sum")


def group_of_each(groups: Groups) -> Tensor:
    """[N], for each position the number of its group."""
    sizes = torch.diff(groups.starts, append=groups.starts.new_tensor([len(groups.order)]))
    numbers = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    return torch.empty_like(numbers).index_copy_(0, groups.order, numbers)


@lru_cache(maxsize=64)
def _count(bits: int, dtype: torch.dtype) -> Tensor:
    """0, 1, 2, ..., as far as so many bits go: counting anew at each look-up would cost as much as the look-up."""
    return torch.arange(1 << bits, dtype=dtype)
