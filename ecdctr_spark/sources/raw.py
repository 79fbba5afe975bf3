"""The output of every source: raw logs as frames by the contract in the README, not yet checked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pyspark.sql import DataFrame

FRAMES = ("impressions", "clicks", "users", "items")
CORRUPT = "_corrupt_record"  # the column of a row that could not be parsed: its text, null for a good row


class Described(NamedTuple):
    """What a folder or table was found to hold: the names of its files and their bytes in all (none of a table), the
    names of the files left out with the reason, the number of rows where it is known without reading them, and the
    types of each column, several where files differ."""

    place: str
    files: tuple[str, ...]
    size: int
    left_out: tuple[tuple[str, str], ...]
    rows: int | None
    columns: dict[str, str]


class Raw(NamedTuple):
    """Raw frames. Without `clicks`, impressions carry `clicked`. Users and items are None where nothing is known.

    `described` says what was found of those that come from files or tables, by name: impressions, clicks, users, items.
    """

    impressions: DataFrame
    clicks: DataFrame | None
    users: DataFrame | None
    items: DataFrame | None
    described: Mapping[str, Described] = MappingProxyType({})


class Frames(NamedTuple):
    """The frames of one folder, one for each kind of file, and the number of rows in the files where it is known."""

    frames: list[DataFrame]
    rows: int | None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
