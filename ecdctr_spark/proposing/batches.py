"""Smaller batches for small logs, as `ecdctr init` proposes them. Pure.

A training that makes a dozen steps has learned next to nothing. conf/movielens.yaml, whose batches were chosen by their
results, makes about a hundred in each training; the same is proposed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

from ecdctr_spark.methods.method import Level, Method
from ecdctr_spark.proposing.evidence import Guess
from ecdctr_spark.settings.features import Domain
from ecdctr_spark.sources.excerpts import Excerpt
from ecdctr_spark.sources.times import Time

_STEPS = 100  # of a training
_LEAST = 64  # rows of a batch: fewer are too few for batch norm
_BETWEEN = {"day": 1, "week": 7, "month": 30}  # days from a model to the next


def proposed_batches(
    method: Method,
    found: Mapping[str, Excerpt],
    columns: Mapping[str, Mapping[str, Guess]],
    domains: Mapping[str, Guess],
    shown: Sequence[Time],
) -> dict[str, Guess]:
    """The batch size of each level whose trainings would make fewer than _STEPS steps, a power of two.

    `shown` are the times of impressions. Empty where domains or times are not known yet.
    """
    rows = _impressions(found, columns, domains)
    if not rows or not shown:
        return {}
    days = (max(time.at for time in shown).date() - min(time.at for time in shown).date()).days + 1
    batches = {}
    for level in method.levels.values():
        read = sum(rows[domain] for domain in level.reads.domains) / days * _days_read(level)
        size = max(_LEAST, 1 << max(0, int(read / _STEPS).bit_length() - 1))
        if size < level.train.batch_size:
            few = f"{level.train.batch_size:,} would be {ceil(read / level.train.batch_size)} of {_STEPS} steps"
            batches[level.name] = Guess(
                size, False, f"a training reads about {read:,.0f} impressions, less what sampling drops: {few}"
            )
    return batches


def _days_read(level: Level) -> int:
    """The number of days that its trainings read, at a start where these differ."""
    return level.reads.days or _BETWEEN[level.clock.every]


def _impressions(
    found: Mapping[str, Excerpt], columns: Mapping[str, Mapping[str, Guess]], domains: Mapping[str, Guess]
) -> dict[Domain, float]:
    """The number of impressions in each domain, in all files."""
    everything = float(found["impressions"].total)
    if "ads" in found:
        return {"natural": everything, "ad": float(found["ads"].total)}
    column = columns["impressions"]["domain"].value
    if column is None or any(guess.value is None for guess in domains.values()):
        return {}
    values = Counter(filter(None, found["impressions"].columns[column].values))
    ads = sum(values[value] for value in ("ad", *(domains["ad"].value if domains else ())))
    return {"natural": everything * (1 - ads / values.total()), "ad": everything * ads / values.total()}
