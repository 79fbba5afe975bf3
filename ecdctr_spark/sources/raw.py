"""What every source gives: the raw logs as frames, by the contract of the README, not yet checked."""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame


class Raw(NamedTuple):
    """Raw frames. Without `clicks` the impressions carry `clicked` themselves; users and items may be unknown."""

    impressions: DataFrame
    clicks: DataFrame | None
    users: DataFrame | None
    items: DataFrame | None
