"""Whether what was made is still current. Pure: by the content of what it was made from, never by time alone.

A model records its `inputs`, a hash of the content of the slices that it read and of the digests of its parents, and
its own `digest`. It is current while its parents are, and while its inputs, computed again, are those recorded. A model
that is trained again on other samples and gets the same weights has the same digest: nothing else is due through it.

So what comes late restates what was made from it. Each run also ingests and builds the days before those asked for that
are not mature yet (`labels.maturity_days`, `labels.attribution_hours`). Where late rows or clicks changed a day's
samples, models that were trained on them are trained again, from there on, and predictions and metrics with them
(`training.restated: keep` only names such models in `ecdctr plan`). Nights one by one end with the metrics that one run
at the end gives. An id that is seen first in a late row is the one exception: its embedding starts from another random
row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ecdctr_spark.methods.identity import identity

Slice = tuple[str, dt.date]  # the samples of a domain and day
_FORMAT = 1


class Made(NamedTuple):
    """A finished model: the slices it read, its parents, the hash of both then, and that of its own weights.

    A version that did not record `inputs` and `digest` left them None. Such a model counts as current.
    """

    reads: tuple[Slice, ...]
    parents: tuple[str, ...]
    inputs: str | None
    digest: str | None


def inputs(
    reads: Iterable[Slice],
    parents: Iterable[str],
    checksums: Mapping[Slice, int],
    digests: Mapping[str, str | None],
) -> str:
    """The hash of what a model or a prediction is made from: the slices it reads, in order, by their checksums (none
    where they hold nothing), and its parents by their digests."""
    return identity(
        _FORMAT,
        slices=[checksums.get(each, 0) for each in reads],
        parents=[digests.get(parent) for parent in parents],
    )


def current(models: Mapping[str, Made], checksums: Mapping[Slice, int]) -> frozenset[str]:
    """The models that are current, by identity."""
    digests = {name: model.digest for name, model in models.items()}
    children: dict[str, list[str]] = {}
    for name, model in models.items():
        for parent in model.parents:
            children.setdefault(parent, []).append(name)
    changed = [name for name, model in models.items() if _differs(model, checksums, digests)]
    outdated: set[str] = set()
    while changed:
        name = changed.pop()
        if name not in outdated:
            outdated.add(name)
            changed += children.get(name, [])
    return frozenset(models.keys() - outdated)


def with_maturity(
    metrics: Iterable[Mapping[str, Any]], built: Collection[dt.date], maturing: dt.timedelta
) -> list[dict[str, Any]]:
    """Rows of METRICS with their maturity.

    Of a day: whether it and all days of the time `maturing` after it are `built`, so that every row and click that
    counts could have been there. Over all days (a null date): whether all of the method's and domain's days are mature.
    """
    rows = [{**row, "mature": row["date"] and _all_built(row["date"], built, maturing)} for row in metrics]
    immature = {(row["method"], row["domain"]) for row in rows if row["mature"] is False}
    for row in rows:
        if row["date"] is None:
            row["mature"] = (row["method"], row["domain"]) not in immature
    return rows


def _all_built(day: dt.date, built: Collection[dt.date], maturing: dt.timedelta) -> bool:
    return all(day + dt.timedelta(offset) in built for offset in range(maturing.days + 1))


def _differs(model: Made, checksums: Mapping[Slice, int], digests: Mapping[str, str | None]) -> bool:
    if model.inputs is None:
        return False
    return model.inputs != inputs(model.reads, model.parents, checksums, digests)
