"""The networks: one class a model, one method a class, forward(batch) -> logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ecdctr_spark.models.ctr import Ctr
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tpm import Tpm
from ecdctr_spark.settings.base import ConfigError

MODELS: dict[str, Callable[[ModelSpec, Exchange], nn.Module]] = {"tpm": Tpm, "ctr": Ctr}


def build(spec: ModelSpec, exchange: Exchange) -> nn.Module:
    """The untrained model of a spec, the same on every rank. Raises ConfigError for an unknown name."""
    if spec.model not in MODELS:
        raise ConfigError(f"model {spec.model}: no such model; expected one of {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return MODELS[spec.model](spec, exchange)
