"""Horovod's calls by name: those under way at the same time have different ones, and few are used. A rank on its own
makes none."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.training.job import WorldKind
from ecdctr_spark.training.world import HorovodWorld, joined


class Horovod:
    """One rank of two, whose calls are done at once; `names` are theirs. Like the real one it refuses a name that is
    under way."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._under_way: dict[int, tuple[str, Tensor, Any]] = {}

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return 2

    def local_rank(self) -> int:
        return 99  # beyond the GPUs of any machine

    def alltoall_async(self, tensor: Tensor, splits: list[int], name: str) -> int:
        assert name not in [taken for taken, _, _ in self._under_way.values()], f"duplicate tensor name {name}"
        self.names.append(name)
        self._under_way[len(self.names)] = name, tensor, torch.tensor(splits)
        return len(self.names)

    def poll(self, handle: int) -> bool:
        return True

    def synchronize(self, handle: int) -> tuple[Tensor, Tensor]:
        _, received, counts = self._under_way.pop(handle)
        return received, counts


def test_exchanges_under_way_at_once_have_names_of_their_own_which_are_used_again() -> None:
    horovod = Horovod()
    world = HorovodWorld(horovod)
    rows, vectors = torch.arange(3, dtype=torch.int32), torch.rand(3, 4)
    for _ in range(5):
        first, second = (world.all_to_all(rows, [1, 2]) for _ in range(2))
        assert second() == (rows, [1, 2])
        third = world.all_to_all(vectors, [3, 0], [3, 0])
        assert first() == (rows, [1, 2]) and third() == (vectors, [3, 0])
    assert len(horovod.names) == 15 and len({*horovod.names}) == 3


def test_an_exchange_does_not_wait_before_it_is_asked_to() -> None:
    world = HorovodWorld(horovod := Horovod())
    arrivals = [world.all_to_all(torch.full((2,), number), [1, 1]) for number in range(3)]
    assert len({*horovod.names}) == 3
    assert [arrival()[0].tolist() for arrival in reversed(arrivals)] == [[2, 2], [1, 1], [0, 0]]


def test_an_exchange_is_slept_for_in_pauses_far_shorter_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    horovod, pauses = Horovod(), list[float]()
    monkeypatch.setattr(horovod, "poll", lambda handle: len(pauses) == 3)
    monkeypatch.setattr(time, "sleep", pauses.append)
    HorovodWorld(horovod).all_to_all(torch.zeros(2), [1, 1])()
    assert len(pauses) == 3 and all(0 < pause <= 0.001 for pause in pauses)


@pytest.mark.parametrize(("kind", "size"), [("horovod", "HOROVOD_SIZE"), ("torch", "WORLD_SIZE")])
def test_a_rank_on_its_own_joins_no_others(monkeypatch: pytest.MonkeyPatch, kind: WorldKind, size: str) -> None:
    monkeypatch.setenv(size, "1")
    with joined(kind) as world:
        assert world is ALONE
