"""What a rank is told to do and what it answers: plain data that travels as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from ecdctr_spark.methods.method import Optimisation, Policy, Product
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import Settings
from ecdctr_spark.streaming.shards import Unit


class RankDiedError(RuntimeError):
    """A rank's process ended in the middle of a job; its text says which, and what it said last."""


class TaughtBy(Settings):
    """A teacher: the place of its checkpoint, and its share of the loss (methods/method.py, Teacher)."""

    checkpoint: str
    share: float


class TrainingJob(Settings):
    """One training of one model, resolved: nothing else is read but the files named here by their URIs.

    `until` is the last day that the model sees: a click after it counts as none. `parent` is the place of a published
    checkpoint, taken over as `how` and the `policy` say (training/transfer.py); `snapshots` are the Parquet files of
    the pinned snapshots table that hold the models `model.memory.snapshots`. A checkpoint is written every
    train.checkpoint_steps steps, and the newest `keep_checkpoints` of them are kept.
    """

    model_id: str
    model: ModelSpec
    train: Optimisation
    units: tuple[Unit, ...]
    until: dt.date
    output: str
    how: Literal["fresh", "continue", "from"] = "fresh"
    policy: Policy = Policy()
    parent: str | None = None
    snapshots: tuple[str, ...] = ()
    teacher: TaughtBy | None = None
    keeps: tuple[Product, ...] = ()
    keep_checkpoints: int = 2


class Cursor(Settings):
    """Where a training stands: in epoch `epoch`, `made` batches of each shard (none where empty); `steps` of all
    epochs and what they came to (training/step.py, Totals); and each epoch's loss on what is held out."""

    epoch: int = 0
    made: tuple[int, ...] = ()
    steps: int = 0
    totals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    losses: tuple[float, ...] = ()

    @property
    def since_best(self) -> int:
        """Epochs since the one of the least loss; 0 where none was judged."""
        return len(self.losses) - 1 - self.losses.index(min(self.losses)) if self.losses else 0


class TrainingResult(Settings):
    """Rows are counted once an epoch over all ranks; waiting is the share of the time spent on input. The first
    `resumed` of the steps were made by an attempt that was killed; seconds and waiting are of the last one. `held_out`
    is the mean loss, after each epoch, on the files that were not trained on."""

    rows: int
    steps: int
    seconds: float
    loss: float
    waiting: float
    resumed: int = 0
    held_out: tuple[float, ...] = ()
