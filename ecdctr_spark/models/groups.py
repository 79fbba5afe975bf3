"""Look-up of vectors by row, and sums of gradients over equal rows of a batch, in an order that is the same on any
machine."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

_CPU = torch.device("cpu")
_SUM = 0  # torch.embedding_bag's mode
_BY_DIGITS = 1 << 15  # values from which on torch sorts by digits, several times faster than below


class Groups(NamedTuple):
    """The positions of a vector [N] grouped by value: the G `distinct` values ascending, the positions in that `order`
    [N] (equal values by position), and where each group `starts` in it [G]. Groups without positions come last: their
    value is 0, and they start at N."""

    distinct: Tensor
    order: Tensor
    starts: Tensor


def group(values: Tensor) -> Groups:
    """Groups of a vector of integers [N] in 0 .. 2^31 - 1. The sort is stable: the same values give the same order on
    any machine."""
    ordered, order = _sorted(values)
    starts = _first_of_each(ordered).nonzero().squeeze(1)
    return Groups(ordered[starts], order, starts)


def group_in_room(values: Tensor, room: int) -> Groups:
    """As `group`, with `room` groups, at least as many as values are distinct: the shapes depend on no value, and a
    GPU is not waited for."""
    ordered, order = _sorted(values)
    first = _first_of_each(ordered)
    number = (first.cumsum(0) - 1).masked_fill_(~first, room)  # what begins none goes to one more, which is dropped
    position = torch.arange(len(values), device=number.device)
    distinct = ordered.new_zeros(room + 1).scatter_(0, number, ordered)
    starts = position.new_full((room + 1,), len(values)).scatter_(0, number, position)
    return Groups(distinct[:room], order, starts[:room])


def gather(vectors: Tensor, rows: Tensor) -> Tensor:
    """The vectors [N, D] of integer rows [N] of a table [R, D], without a gradient."""
    if vectors.is_cuda:
        return vectors.detach().index_select(0, rows)
    # Bags of one row: the CPU kernel for bags prefetches, and takes half the time of index_select.
    return _bags(vectors, rows, _first(len(rows), rows.dtype))


def sum_groups(vectors: Tensor, groups: Groups) -> Tensor:
    """Sums [G, D] of vectors [N, D] over each group, added in the order of positions."""
    return _bags(vectors, groups.order, groups.starts)


def sum_runs(vectors: Tensor, starts: Tensor) -> Tensor:
    """Sums [B, D] of vectors [N, D] over runs of consecutive ones, that `starts` [B] int64 begin; of none, zero. Has no
    gradient."""
    return _bags(vectors, _first(len(vectors), starts.dtype, starts.device), starts)


def _bags(vectors: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """The sums over bags of rows, as of torch.nn.functional.embedding_bag without its checks."""
    # Where it sees a gradient, the kernel writes down what only its own backward pass needs.
    sums: Tensor = torch.embedding_bag(vectors.detach(), rows, starts, False, _SUM)[0]
    return sums


def group_of_each(groups: Groups) -> Tensor:
    """The group number of each position, int64 [N]."""
    sizes = torch.diff(groups.starts, append=groups.starts.new_tensor([len(groups.order)]))
    numbers = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    return torch.empty_like(numbers).index_copy_(0, groups.order, numbers)


def _first_of_each(ordered: Tensor) -> Tensor:
    """Whether each of the ordered values [N] is the first of its kind, [N] bool."""
    first = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=first[1:])
    return first


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values in ascending order, and the position of each; equal ones by position."""
    if values.is_cuda or len(values) >= _BY_DIGITS:
        return torch.sort(values, stable=True)
    # torch compares pairs one by one. With its position below it a value is one number, and numpy sorts those at once.
    packed = (values.to(torch.int64) << 32).bitwise_or_(_first(len(values), torch.int64))
    packed.numpy().sort()
    return (packed >> 32).to(values.dtype), packed & 0xFFFFFFFF


def _first(number: int, dtype: torch.dtype, device: torch.device = _CPU) -> Tensor:
    return _count(number.bit_length(), dtype, device)[:number]


@cache
def _count(bits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 .. 2^bits - 1, cached: to make it at each look-up would cost as much as the look-up. Cached for good: a graph
    that was captured reads it where it was."""
    return torch.arange(1 << bits, dtype=dtype, device=device)
