"""What a sharded table needs of the ranks that share it, and the one rank of a process on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Arrival = Callable[[], tuple[Tensor, list[int]]]
"""Called once, waits for what the ranks have sent this one: the rows in the order of ranks, and how many came from
each."""


class Exchange(Protocol):
    """What a sharded table needs of the ranks. All of them make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """The number of this rank, from 0."""

    @property
    def size(self) -> int:
        """The number of ranks."""

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """Begins to send the first splits[0] rows of the tensor to rank 0, the next splits[1] to rank 1, and so on, and
        returns at once. The tensor may not change before all has arrived. `expected`: how many rows come from each
        rank, where this one knows; then nobody has to ask."""


@dataclass(frozen=True)
class Alone:
    """One process: what is sent comes back. Also a world of one rank (training/world.py)."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: own_device(0))

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """See Exchange."""
        return lambda: (tensor, splits)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """A sum over one rank."""
        return tensor

    def barrier(self) -> None:
        """See World."""


def own_device(local_rank: int) -> torch.device:
    """The GPU of this rank where the machine has one for it, else the CPU."""
    return torch.device("cuda", local_rank) if local_rank < torch.cuda.device_count() else torch.device("cpu")


ALONE = Alone()
