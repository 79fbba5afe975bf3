"""How many rows the vocabulary has given to which field, and until which day: read in batches, without Spark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned

_RESERVED = dt.date(1970, 1, 1)  # the day of reserved rows: before all logs
_OWN = ("null", "unknown")  # kinds of rows that an id field reserves for itself
_COLUMNS = ("field", "kind", "index", "since")


class Block(NamedTuple):
    """Rows of a field and kind: the unknown rows of an id field, the bucket rows of a count, or tokens."""

    first: int
    rows: int


@dataclass(frozen=True)
class Survey:
    """The block of each field and kind, and the embedding's number of rows at the end of each day on which it grew."""

    blocks: Mapping[tuple[str, str], Block]
    by_day: Mapping[dt.date, int]

    @property
    def next_index(self) -> int:
        """The first index that is free."""
        return max(self.by_day.values(), default=0)

    @property
    def starts(self) -> dict[str, int]:
        """For each id field the first of its unknown rows, for each count field the first of its bucket rows."""
        return {field: block.first for (field, kind), block in self.blocks.items() if kind in ("unknown", "bucket")}

    def held(self, field: str) -> int:
        """The number of rows that tokens of an id field own, those of forgotten users included."""
        given = (block.rows for (owner, kind), block in self.blocks.items() if owner == field and kind not in _OWN)
        return sum(given)

    def rows(self, date: dt.date) -> int:
        """The embedding's number of rows at the end of a day."""
        return max(rows for day, rows in self.by_day.items() if day <= date)

    def joined(self, other: Survey) -> Survey:
        """That of the rows of both, which have none in common."""
        blocks, by_day = dict(self.blocks), dict(self.by_day)
        for key, block in other.blocks.items():
            first, rows = blocks.get(key, block._replace(rows=0))
            blocks[key] = Block(min(first, block.first), rows + block.rows)
        for day, rows in other.by_day.items():
            by_day[day] = max(rows, by_day.get(day, 0))
        return Survey(blocks, by_day)


NOTHING = Survey({}, {})


@lru_cache(maxsize=8)
def survey(place: Root, version: int, timezone: str) -> Survey:
    """That of a version of the vocabulary. A version never changes, so the result is cached."""
    return surveyed(pinned.batches(place, version, _COLUMNS), timezone)


def surveyed(batches: Iterable[pa.RecordBatch], timezone: str) -> Survey:
    """That of batches of the columns field, kind, index and since (in UTC); a day is one of `timezone`."""
    found = NOTHING
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        since = rows["since"].cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", timezone))
        dated = rows.append_column("day", pc.fill_null(since.cast(pa.date32()), _RESERVED))
        fields = dated.group_by(["field", "kind"]).aggregate([("index", "min"), ("index", "count")])
        days = dated.group_by("day").aggregate([("index", "max")])
        blocks = {
            (row["field"], row["kind"]): Block(row["index_min"], row["index_count"]) for row in fields.to_pylist()
        }
        found = found.joined(Survey(blocks, {row["day"]: row["index_max"] + 1 for row in days.to_pylist()}))
    return found
