"""A rank's job and its result: plain data that travels as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from ecdctr_spark.methods.method import How, Optimisation, Policy, Product
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.settings.base import Settings
from ecdctr_spark.settings.streaming import Reader
from ecdctr_spark.streaming.shards import Unit

WorldKind = Literal["horovod", "torch"]
BROKEN_EXCHANGE = "BrokenExchangeError"  # the name of the error that a rank raises where another one is gone


class RankDiedError(RuntimeError):
    """A rank's process ended in the middle of a job. The text names the rank and ends with its last output."""


class TaughtBy(Settings, frozen=True):
    """A teacher: the URI of its checkpoint, and its share of the loss (methods/method.py, Teacher)."""

    checkpoint: str
    share: float


class TrainingJob(Settings, frozen=True, kw_only=True):
    """One training of one model, resolved. A rank reads only the files that are named here by their URIs.

    `inputs` is a hash of the content of what the model is made from: a parent that was trained again is another one.
    `until` is the last day that the model sees: a later click does not count. `parent` is the URI of a published
    checkpoint, taken over by `how` and `policy` (training/transfer.py). `snapshots` are the Parquet files of the pinned
    snapshots table that hold the models `model.memory.snapshots`. The model is published at `output`. A checkpoint is
    written every train.checkpoint_steps steps, and the newest `keep_checkpoints` of them are kept. Every `reader` gives
    the same batches.
    """

    model_id: str
    inputs: str = ""
    model: ModelSpec
    train: Optimisation
    units: tuple[Unit, ...]
    until: dt.date
    output: str
    how: How = "fresh"
    policy: Policy = Policy()
    parent: str | None = None
    snapshots: tuple[str, ...] = ()
    teacher: TaughtBy | None = None
    keeps: tuple[Product, ...] = ()
    keep_checkpoints: int = 2
    reader: Reader = "auto"


class Cursor(Settings, frozen=True):
    """The position of a training: its `epoch`; the batches `made` of each shard in it (empty: none); the `steps` of all
    epochs and their `totals` (training/step.py, Totals); the validation loss of each epoch that has ended."""

    epoch: int = 0
    made: tuple[int, ...] = ()
    steps: int = 0
    totals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    losses: tuple[float, ...] = ()

    @property
    def since_best(self) -> int:
        """Epochs since the one with the lowest validation loss; 0 where there is none."""
        return len(self.losses) - 1 - self.losses.index(min(self.losses)) if self.losses else 0


class TrainingResult(Settings, frozen=True):
    """The figures of a training. `rows` are counted once per epoch over all ranks; `loss` is the weighted mean over all
    steps, each before its update; `waiting` is the share of the time spent on input, 0 to 1. The first `resumed` steps
    were made by attempts that were killed; `seconds` and `waiting` are of the last one. `held_out` is the mean loss
    after each epoch on the files that were not trained on. `ranks` is the number that ended the training."""

    rows: int
    steps: int
    seconds: float
    loss: float
    waiting: float
    resumed: int = 0
    held_out: tuple[float, ...] = ()
    ranks: int = 1
