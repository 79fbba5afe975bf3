"""Which class a kind of network is, and how it is built. Its public methods are forward(batch) -> logits and, where its
look-ups can be begun ahead, ask(batch) (models/fields.py, Asks)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from ecdctr_spark.models.ctr import Ctr
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tiny import Tiny
from ecdctr_spark.settings.networks import checked


class Kind(Protocol):
    """A network's class: built from its own settings, the spec and the ranks that share its tables."""

    def __call__(self, settings: Any, spec: ModelSpec, exchange: Exchange) -> nn.Module: ...


CLASSES: dict[str, Kind] = {"tiny": Tiny, "ctr": Ctr}


def build(spec: ModelSpec, exchange: Exchange) -> nn.Module:
    """The untrained model of a spec; its dense weights are the same on every rank. Raises ConfigError for unknown kinds
    and settings."""
    settings = checked(spec.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return CLASSES[settings.kind](settings, spec, exchange)
