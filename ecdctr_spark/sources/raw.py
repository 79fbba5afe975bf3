"""The output of every source: raw logs as frames by the contract in the README, not yet checked."""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import DataFrame

CORRUPT = "_corrupt_record"  # the column of a row that could not be parsed: its text, null for a good row


class Raw(NamedTuple):
    """Raw frames. Without `clicks`, impressions carry `clicked`. Users and items are None where nothing is known."""

    impressions: DataFrame
    clicks: DataFrame | None
    users: DataFrame | None
    items: DataFrame | None


class Frames(NamedTuple):
    """The frames of one folder, one for each kind of file, and the number of rows in the files where it is known."""

    frames: list[DataFrame]
    rows: int | None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
