"""What a model is built from, besides its weights: plain data, kept in jobs, checkpoints and exports."""

from __future__ import annotations

from typing import Literal

from ecdctr_spark.contract import Contract
from ecdctr_spark.settings.base import Settings


class ModelSpec(Settings):
    """`model` names an entry of MODELS; `rows` is the embedding's number of rows, one vector of `dimension` each.

    `pooling` of behaviours is DIN's target attention, with `attention_hidden` units, or their mean.
    `memory` says what is known from the monthly snapshots of TPM: none (TPM itself, the ads-only baseline),
    snapshots (CPM: attention over `months`, trained), or merged (A-CTR: one frozen vector an entity).
    """

    model: str
    contract: Contract
    rows: int
    dimension: int
    hidden: tuple[int, ...]
    pooling: Literal["attention", "mean"] = "attention"
    attention_hidden: tuple[int, ...] = ()
    cross_layers: int = 0
    memory: Literal["none", "snapshots", "merged"] = "none"
    memory_dimension: int = 0
    months: tuple[str, ...] = ()
    seed: int = 0
