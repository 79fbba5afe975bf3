"""What a model is built from, besides its weights: plain data, kept in jobs, checkpoints and exports."""

from __future__ import annotations

from typing import Any, Literal

from ecdctr_spark.contract import Contract
from ecdctr_spark.settings.base import Settings


class MemorySpec(Settings, frozen=True):
    """A memory of users and items, from snapshots of vectors of `dimension` (methods/method.py, Memory).

    `snapshots` are the ids of the models whose vectors are pooled (attention, mean, last), the oldest first; a merged
    memory has none.
    """

    pooling: Literal["attention", "mean", "last", "merged"]
    dimension: int
    snapshots: tuple[str, ...] = ()


class ModelSpec(Settings, frozen=True):
    """How to build a model. The embedding has `rows` rows, each a vector of `dimension`. The network's settings are
    those of its kind (settings/networks.py)."""

    network: dict[str, Any]
    contract: Contract
    rows: int
    memory: MemorySpec | None = None

    @property
    def dimension(self) -> int:
        """The width of the embedding's vectors."""
        return int(self.network["dimension"])
