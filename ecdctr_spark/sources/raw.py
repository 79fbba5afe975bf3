"""The output of every source: raw logs as frames by the contract in the README, not yet checked."""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame


class Raw(NamedTuple):
    """Raw frames. Without `clicks`, impressions carry `clicked`. Users and items are None where nothing is known."""

    impressions: DataFrame
    clicks: DataFrame | None
    users: DataFrame | None
    items: DataFrame | None
