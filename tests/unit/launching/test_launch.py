"""training.ranks auto: how many ranks a training gets."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from ecdctr_spark.launching.launch import Elastic, Fitting, fitting
from ecdctr_spark.launching.local import Progress
from ecdctr_spark.streaming.shards import Unit
from ecdctr_spark.training.job import RankDiedError, TrainingJob, TrainingResult
from tests.made_up import TRAIN, ctr_spec

JOB = TrainingJob(
    model_id="m",
    model=ctr_spec(),
    train=replace(TRAIN, batch_size=8192, epochs=2),
    units=(Unit(path="a", rows=900_000), Unit(path="b", rows=100_000)),
    until=dt.date(2024, 1, 1),
    output="nowhere",
)


@dataclass
class Asked:
    """Ranks that note how many are asked for; the first `dying` trainings die."""

    dying: int = 0
    numbers: list[int | None] = field(default_factory=list)

    def train(self, job: TrainingJob, progress: Progress, ranks: int | None = None) -> TrainingResult:
        self.numbers.append(ranks)
        if len(self.numbers) <= self.dying:
            raise RankDiedError("rank 1 died")
        return TrainingResult(rows=0, steps=0, seconds=0.0, loss=0.0, waiting=0.0)


def nothing(rows: int, loss: float) -> None:
    """No progress is looked at."""


def test_small_batches_and_small_trainings_get_one_rank() -> None:
    assert fitting(rows=100_000_000, batch_size=512, most=8) == 1
    assert fitting(rows=100_000, batch_size=8192, most=8) == 1
    assert fitting(rows=0, batch_size=8192, most=8) == 1


def test_large_ones_get_more_but_no_more_than_there_are_cores_for() -> None:
    assert [fitting(rows=100_000_000, batch_size=8192, most=most) for most in (1, 2, 3, 64)] == [1, 2, 3, 4]
    numbers = [fitting(rows=100_000_000, batch_size=size, most=16) for size in range(1, 65_537, 511)]
    assert numbers == sorted(numbers)


def test_each_training_gets_its_own_number_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    ranks = Fitting(asked, 3)
    with caplog.at_level(logging.INFO, "ecdctr_spark"):
        ranks.train(JOB, nothing)
        ranks.train(replace(JOB, train=TRAIN), nothing)
        ranks.train(JOB, nothing)
    assert asked.numbers == [3, 1, 3]
    chosen = [record.fields for record in caplog.records if record.message == "ranks chosen"]  # type: ignore[attr-defined]
    assert chosen[0] == {"model": "m", "ranks": 3, "rows": 2_000_000, "batch_size": 8192}


def test_a_training_that_resumes_gets_as_many_as_have_begun_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecdctr_spark.training.resume.begun_by", lambda job: 2)
    asked = Asked()
    Fitting(asked, 8).train(JOB, nothing)
    assert asked.numbers == [2]


def test_the_remaining_ranks_of_those_chosen_resume() -> None:
    asked = Asked(dying=2)
    Fitting(Elastic(asked, 4, 1), 4).train(JOB, nothing)
    assert asked.numbers == [4, 3, 2]
    alone = Asked(dying=1)
    with pytest.raises(RankDiedError):
        Fitting(Elastic(alone, 4, 2), 4).train(replace(JOB, train=TRAIN), nothing)
    assert alone.numbers == [1]
