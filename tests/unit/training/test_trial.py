"""Two steps from the same state are compared by what they change; and how long some work takes."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch
from ecdctr_spark.models.embedding import ShardedEmbedding
from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.training.step import start_state
from ecdctr_spark.training.trial import Trial, milliseconds
from tests.made_up import ROWS, TRAIN, batch


class Tables(nn.Module):
    """A model of three tables of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.tables = nn.ModuleList(ShardedEmbedding(ROWS, 4, ALONE, seed) for seed in range(3))

    def forward(self, batch: Batch) -> Tensor:
        return self.bias + sum(table(batch.ids).sum((1, 2)) for table in self.tables)


@pytest.mark.parametrize("table", range(3))
def test_a_row_counts_by_the_root_of_its_own_squares(table: int) -> None:
    state = start_state(Tables(), TRAIN, ALONE)
    trial = Trial(state, batch(8), torch.zeros(3))
    expected = trial.after(lambda: None)
    weight = len(expected) - 2 * (3 - table)  # then its squares: each is 0, so that no difference counts
    moved = [values + 1 if place == weight else values for place, values in enumerate(expected)]
    assert trial.difference(moved, expected) == 0
    seen = [values + 1 if place == weight + 1 else values for place, values in enumerate(expected)]
    assert trial.difference(moved, seen) > 0


def test_milliseconds_are_of_one_time_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = 100.0, 0

    def work() -> None:
        nonlocal now, times
        now += 0.004 if times else 3.0
        times += 1

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert milliseconds(work) == pytest.approx(4.0)
    assert times > 2
