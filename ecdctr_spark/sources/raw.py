"""The output of every source: raw logs as frames by the contract in the README, not yet checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pyspark.sql import DataFrame

FRAMES = ("impressions", "clicks", "users", "items")
CORRUPT = "_corrupt_record"  # the column of a row that could not be parsed: its text, null for a good row


class Described(NamedTuple):
    """What a folder or table was found to hold: the names of its files and their bytes in all (none of a table), the
    names of the files left out with the reason, the number of rows where it is known without reading them, and the
    types of each column, several where files differ. `renamed` has the names by the raw contract of columns that have
    others there."""

    place: str
    files: tuple[str, ...]
    size: int
    left_out: tuple[tuple[str, str], ...]
    rows: int | None
    columns: dict[str, str]
    renamed: Mapping[str, str] = MappingProxyType({})


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


def together(described: Sequence[Described]) -> Described:
    """What several folders hold, as that of one."""
    rows = [one.rows for one in described if one.rows is not None]
    return Described(
        place=" and ".join(one.place for one in described),
        files=tuple(name for one in described for name in one.files),
        size=sum(one.size for one in described),
        left_out=tuple(left for one in described for left in one.left_out),
        rows=sum(rows) if len(rows) == len(described) else None,
        columns={name: kind for one in described for name, kind in one.columns.items()},
        renamed={own: meant for one in described for own, meant in one.renamed.items()},
    )


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
