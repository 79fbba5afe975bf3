"""Captured steps for tests: taken whatever they take, and counted; and a training with them that is killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from msgspec import structs

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import parsed
from ecdctr_spark.storage import Root
from ecdctr_spark.training.captured import Captured, Record
from ecdctr_spark.training.checkpoint import load
from ecdctr_spark.training.job import TrainingJob
from ecdctr_spark.training.step import TrainState
from ecdctr_spark.training.trainer import train
from ecdctr_spark.training.trial import Work
from tests.made_up import TRAIN, batch, write_samples


def done_again(work: Work) -> Work:
    """Records nothing: a replay is the work itself. It is done once before, as a graph's is."""
    work()
    return work


class Recorder:
    """Records at most `most` times, and counts the replays."""

    def __init__(self, record: Record = done_again, most: int = 9) -> None:
        self._record, self._most = record, most
        self.recorded = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        """See captured.Record."""
        if self.recorded == self._most:
            raise RuntimeError("out of memory")
        self.recorded += 1
        recorded = self._record(work)

        def replay() -> None:
            self.replayed += 1
            recorded()

        return replay

    @property
    def made(self) -> int:
        """The steps of a training that were replays: one more of each recording is compared with the eager step."""
        return self.replayed - self.recorded


def captured(state: TrainState, record: Record | None = None, milliseconds: Sequence[float] = (1.0, 2.0)) -> Captured:
    """Captured steps, said to take the first of these milliseconds, and eager ones the second."""
    times = iter(milliseconds)
    return Captured(state, record or Recorder(), lambda work: next(times))


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of the trainer's runs after it."""


def check_resumes(folder: Path, spec: ModelSpec) -> None:
    """A training of 9 steps that is killed at the sixth, and run again, ends with the same result and weights as one
    that was not, bit for bit."""
    units = [write_samples(folder / f"part-{number}.parquet", batch(90, number)) for number in range(3)]
    how = structs.replace(TRAIN, epochs=3, shuffle_rows=150, checkpoint_steps=3, validation_share=0.3, weight_decay=0.1)
    given = {"model_id": "m", "model": spec, "train": how, "units": units, "until": "2024-01-01"}
    jobs = {name: parsed(TrainingJob, {**given, "output": str(folder / name)}) for name in ("whole", "killed")}

    def dies(rows: int, loss: float) -> None:
        if rows >= 6 * 60:
            raise KilledError

    results = [train(jobs["whole"], ALONE, lambda rows, loss: None)]
    with pytest.raises(KilledError):
        train(jobs["killed"], ALONE, dies)
    results.append(train(jobs["killed"], ALONE, lambda rows, loss: None))
    assert results[0].steps == 9 and results[1].resumed == 3
    first, second = (structs.replace(each, seconds=0.0, waiting=0.0, resumed=0) for each in results)
    assert first == second
    models = [load(Root.parse(folder / name), ALONE)[1].state_dict() for name in jobs]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
