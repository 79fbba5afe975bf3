"""A guess, and the values of a column in a few words, as its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ecdctr_spark.proposing.words import CLICKED
from ecdctr_spark.sources.excerpts import Values

_EXAMPLES = 3
_MOST = 8
_LONGEST = 40
VAGUE = "; the name could mean something else"


class Guess(NamedTuple):
    """A proposed value with its evidence; None: it must be given by hand. `among` has the columns that it may be one
    of."""

    value: Any
    sure: bool
    why: str
    among: tuple[str, ...] = ()


def is_flag(values: Values) -> bool:
    """Whether values say of each row whether it was clicked."""
    return bool(there := {value.lower() for value in values.values if value}) and there <= CLICKED


def examples(values: Values) -> str:
    """The first value, one in the middle and the last, of the distinct ones."""
    return ", ".join(_cut(value) for value in spread(list(dict.fromkeys(value for value in values.values if value))))


def common(values: Values) -> str:
    """The most frequent values, each with its number of rows."""
    counts = Counter(value for value in values.values if value)
    return ", ".join(
        f"{_cut(value)} ({rows:,})"
        for value, rows in sorted(counts.most_common(_MOST), key=lambda one: (-one[1], one[0]))
    )


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."


def spread(several: Sequence[Any]) -> list[Any]:
    """The first, one in the middle and the last of several."""
    if len(several) <= _EXAMPLES:
        return list(several)
    return [several[0], several[len(several) // 2], several[-1]]
