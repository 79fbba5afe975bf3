"""What a model is built from, besides its weights: plain data, kept in jobs, checkpoints and exports."""

from __future__ import annotations

from typing import Literal

from ecdctr_spark.contract import Contract
from ecdctr_spark.methods.method import Network
from ecdctr_spark.settings.base import Settings


class MemorySpec(Settings):
    """What a model knows of users and items from snapshots of vectors of `dimension` (methods/method.py, Memory).

    `snapshots` are the models whose vectors attention, mean or last pools, the oldest first; merged has none.
    """

    pooling: Literal["attention", "mean", "last", "merged"]
    dimension: int
    snapshots: tuple[str, ...] = ()


class ModelSpec(Settings):
    """`rows` is the embedding's number of rows, one vector of network.dimension each."""

    network: Network
    contract: Contract
    rows: int
    memory: MemorySpec | None = None
