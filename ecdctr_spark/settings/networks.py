"""The networks that a level may have: the settings of each kind. Their classes are in models/, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ecdctr_spark.settings.base import NotNegative, Positive, SettingError, Settings, about, parsed


class Network(Settings, frozen=True):
    """What every network has."""

    kind: Annotated[str, about("an entry of settings.networks.NETWORKS")]
    dimension: Annotated[Positive, about("of the embedding's vectors")]
    seed: Annotated[int, about("of the initial weights")]


class TinySettings(Network, frozen=True):
    """Widths of the MLP's hidden layers."""

    hidden: tuple[int, ...]


class CtrSettings(Network, frozen=True):
    """`pooling` of behaviours: DIN's target attention, with `attention_hidden` units, or their mean."""

    hidden: tuple[int, ...]
    pooling: Literal["attention", "mean"]
    attention_hidden: Annotated[tuple[int, ...], about("of the MLP that weighs a behaviour against the item")]
    cross_layers: NotNegative


NETWORKS: dict[str, type[Network]] = {"tiny": TinySettings, "ctr": CtrSettings}


def checked(network: Mapping[str, Any], where: str = "network") -> Network:
    """The network as the settings class of its kind. Raises SettingError that names an unknown kind or key below
    `where`."""
    kind = network.get("kind")
    if kind not in NETWORKS:
        raise SettingError(f"{where}.kind: no network {kind}; expected one of {', '.join(NETWORKS)}")
    return parsed(NETWORKS[kind], network, where)
