"""What a sharded table needs of the ranks that share it, and the one rank of a process on its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Exchange(Protocol):
    """What a sharded table needs of the ranks. All of them make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """The number of this rank, from 0."""

    @property
    def size(self) -> int:
        """The number of ranks."""

    def all_to_all(self, tensor: Tensor, splits: list[int]) -> tuple[Tensor, list[int]]:
        """Sends the first splits[0] rows of the tensor to rank 0, the next splits[1] to rank 1, and so on. Returns the
        rows received, in the order of ranks, and how many came from each."""


@dataclass(frozen=True)
class Alone:
    """One process: what is sent comes back. Also a world of one rank (training/world.py)."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: own_device(0))

    def all_to_all(self, tensor: Tensor, splits: list[int]) -> tuple[Tensor, list[int]]:
        """See Exchange."""
        return tensor, splits

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """A sum over one rank."""
        return tensor

    def barrier(self) -> None:
        """See World."""


def own_device(local_rank: int) -> torch.device:
    """The GPU of this rank where the machine has one for it, else the CPU."""
    return torch.device("cuda", local_rank) if local_rank < torch.cuda.device_count() else torch.device("cpu")


ALONE = Alone()
