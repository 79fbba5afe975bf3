"""What a table needs of the ranks that share it, and the one rank that shares with none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Exchange(Protocol):
    """What a table needs of the ranks."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_to_all(self, tensor: Tensor, splits: list[int]) -> tuple[Tensor, list[int]]:
        """Sends the first splits[0] rows to rank 0, the next splits[1] to rank 1, and so on; what was received, in
        the order of ranks, and how many rows from each."""


@dataclass(frozen=True)
class Alone:
    """One process: what is sent comes back. It serves as a world of one rank too (training/world.py)."""

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
    """A GPU for each rank of a machine where it has that many, else the CPU."""
    return torch.device("cuda", local_rank) if local_rank < torch.cuda.device_count() else torch.device("cpu")


ALONE = Alone()
