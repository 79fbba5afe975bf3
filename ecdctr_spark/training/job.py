"""What a rank is told to do and what it answers: plain data that travels as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from ecdctr_spark.config import Optimiser, Settings
from ecdctr_spark.models.spec import ModelSpec


class Unit(Settings):
    """The smallest portion of samples that is handed to a rank: one Parquet file of one row group."""

    path: str
    rows: int


class TrainingJob(Settings):
    """One training of one model, resolved: nothing else is read but the files named here.

    `until` is the last day that the model sees: a click after it counts as none. `parent` is the folder of a published
    checkpoint that is taken over by the policy `transfer` (training/transfer.py); `snapshots` are the Parquet files of
    the pinned snapshots table that hold the months `model.months`.
    """

    model_id: str
    model: ModelSpec
    train: Optimiser
    units: tuple[Unit, ...]
    shuffle_rows: int
    until: dt.date
    output: str
    parent: str | None = None
    transfer: Literal["fresh", "continue", "from_cpm"] = "fresh"
    snapshots: tuple[str, ...] = ()


class TrainingResult(Settings):
    """Rows are counted once an epoch over all ranks; waiting is the share of the time spent on input."""

    rows: int
    steps: int
    seconds: float
    loss: float
    waiting: float
