"""Ranks as threads of this process: what Horovod does between processes, for tests that need no Horovod."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from ecdctr_spark.models.exchange import ALONE, Arrival

Result = TypeVar("Result")


class ThreadWorld:
    """One of `size` ranks that share a board, and a GPU where there is one, and meet at a barrier before and after they
    read it.

    `calls` are those it has made, by name; "arrival" stands for the end of an all_to_all. `sent` counts their bytes.
    """

    def __init__(self, rank: int, size: int, board: list[Any], meeting: threading.Barrier) -> None:
        self.rank, self.size, self.device = rank, size, ALONE.device
        self._board, self._meeting = board, meeting
        self.calls: list[str] = []
        self.sent = 0

    def all_to_all(self, tensor: Tensor, splits: list[int], expected: list[int] | None = None) -> Arrival:
        self.calls.append("all_to_all")
        self.sent += tensor.numel() * tensor.element_size()
        assert sum(splits) == len(tensor)
        sent = self._share(torch.split(tensor, splits))
        pieces = [each[self.rank] for each in sent]
        received, counts = torch.cat(pieces), [len(piece) for piece in pieces]
        assert expected in (None, counts)

        def arrived() -> tuple[Tensor, list[int]]:
            self.calls.append("arrival")
            return received, counts

        return arrived

    def all_reduce(self, tensor: Tensor) -> Tensor:
        self.calls.append("all_reduce")
        return tensor.copy_(torch.stack(self._share(tensor.clone())).sum(0))

    def barrier(self) -> None:
        self._share(None)

    def _share(self, mine: Any) -> list[Any]:
        self._board[self.rank] = mine
        self._meeting.wait()
        everyone = list(self._board)
        self._meeting.wait()
        return everyone


def on_ranks(size: int, work: Callable[[ThreadWorld], Result]) -> list[Result]:
    """work(world) on each of `size` ranks at once; a rank that fails ends the others, and its error is raised."""
    meeting = threading.Barrier(size, timeout=30)
    board: list[Any] = [None] * size

    def run(rank: int) -> Result:
        try:
            return work(ThreadWorld(rank, size, board, meeting))
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(size) as threads:
        started = [threads.submit(run, rank) for rank in range(size)]
    errors = [error for future in started if (error := future.exception())]
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [future.result() for future in started]


def whole(shares: list[Tensor]) -> Tensor:
    """The table whose rows are spread over ranks as these shares."""
    table = torch.empty(sum(len(share) for share in shares), *shares[0].shape[1:])
    for rank, share in enumerate(shares):
        table[rank :: len(shares)] = share
    return table
