"""What a sharded table needs of the ranks that share it, and the one rank of a process on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

Wire = Literal["float32", "float16"]  # what numbers are between ranks
_LARGEST = torch.finfo(torch.float16).max

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


class InHalf:
    """The ranks of another exchange, which send each other float32 as float16; what arrives is float32 again.

    A number that float16 cannot hold is sent as the largest that it can, 65504, with its sign: a gradient so large is
    clipped, rather than made infinite. NaN stays NaN. What is no float32, such as rows, is sent as it is.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.rank, self.size = exchange.rank, exchange.size
        self._exchange = exchange

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        """See Exchange."""
        if tensor.dtype != torch.float32:
            return self._exchange.all_to_all(tensor, splits, expected)
        half = tensor.clamp(-_LARGEST, _LARGEST).to(torch.float16)
        arrival = self._exchange.all_to_all(half, splits, expected)

        def arrived() -> tuple[Tensor, list[int]]:
            received, counts = arrival()
            return received.to(torch.float32), counts

        return arrived


def on_wire(exchange: Exchange, wire: Wire) -> Exchange:
    """The exchange for tables whose vectors and gradients travel so. One rank sends nothing, and rounds nothing."""
    return InHalf(exchange) if wire == "float16" and exchange.size > 1 else exchange


def own_device(local_rank: int) -> torch.device:
    """The GPU of this rank where the machine has one for it, else the CPU."""
    return torch.device("cuda", local_rank) if local_rank < torch.cuda.device_count() else torch.device("cpu")


ALONE = Alone()
