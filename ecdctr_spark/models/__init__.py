"""The networks: one file each, with its settings and its class, whose one public method is forward(batch) -> logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from ecdctr_spark.methods.method import Network
from ecdctr_spark.models.ctr import Ctr, CtrSettings
from ecdctr_spark.models.exchange import Exchange
from ecdctr_spark.models.spec import ModelSpec
from ecdctr_spark.models.tiny import Tiny, TinySettings
from ecdctr_spark.settings.base import ConfigError, parsed


class Kind(Protocol):
    """A network's class: built from its own settings, the spec and the ranks that share its tables."""

    def __call__(self, settings: Any, spec: ModelSpec, exchange: Exchange) -> nn.Module: ...


MODELS: dict[str, tuple[type[Network], Kind]] = {
    "tiny": (TinySettings, Tiny),
    "ctr": (CtrSettings, Ctr),
}


def checked(network: Mapping[str, Any], where: str = "network") -> Network:
    """The network as the settings class of its kind. Raises ConfigError that names an unknown kind or key below
    `where`."""
    if network["kind"] not in MODELS:
        raise ConfigError(f"{where}.kind: no network {network['kind']}; expected one of {', '.join(MODELS)}")
    return parsed(MODELS[network["kind"]][0], network, where)


def build(spec: ModelSpec, exchange: Exchange) -> nn.Module:
    """The untrained model of a spec; its dense weights are the same on every rank. Raises ConfigError for unknown kinds
    and settings."""
    settings = checked(spec.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return MODELS[settings.kind][1](settings, spec, exchange)
