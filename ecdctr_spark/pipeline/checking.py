"""Checks the health of built days, and stops a run before it trains on bad ones."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import reduce
from operator import itemgetter
from typing import Any

from pyspark.sql import DataFrame

from ecdctr_spark.config import Config
from ecdctr_spark.evaluation import health
from ecdctr_spark.methods.method import DAY
from ecdctr_spark.pipeline.steps import between, vocabulary_of
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Number
from ecdctr_spark.tables.schemas import (
    HEALTH,
    LABELLED,
    QUARANTINE,
    STEPS,
    VOCABULARY,
    samples_table,
)
from ecdctr_spark.tables.small import Row, read_rows, replace_rows
from ecdctr_spark.tables.store import Store

_SHOWN = 3  # broken limits that an error names


def check(store: Store, config: Config, first: dt.date, last: dt.date) -> list[dict[str, Any]]:
    """Measures the built days first..last into the table HEALTH; returns the rows outside their limits."""
    here = between(first, last)
    measured = reduce(DataFrame.unionByName, _measures(store, config, first, last)).where(here)
    rows = [row.asDict() for row in health.judged(measured, config.check).collect()]
    replace_rows(store.home("data_set"), HEALTH, rows, here)
    broken = [row for row in rows if row["ok"] is False]
    return sorted(broken, key=lambda row: (row["ds"], row["domain"], row["measure"], row["feature"] or ""))


def refuse(broken: list[dict[str, Any]]) -> None:
    """Raises ConfigError that names the first rows outside their limits, if there are any."""
    if broken:
        named = "; ".join(_named(row) for row in broken[:_SHOWN])
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise ConfigError(
            f"the data are not healthy: {named}{more}. Fix the logs or what reads them, or change check.limits"
        )


def verdict(found: Sequence[dict[str, Any]]) -> str:
    """The rows of a `summary` without any outside its limits, in one line."""
    few = sum(row["judged"] < row["days"] for row in found)
    unjudged = f"; {few} had days of too few rows to be judged (check.least_rows)" if few else ""
    return f"none of {len(found)} measures is outside its limits{unjudged}"


def summary(store: Store, first: dt.date = dt.date.min, last: dt.date = dt.date.max) -> list[dict[str, Any]]:
    """One row per (domain, measure, feature) of the days first..last: days measured, least and greatest value, limits,
    days with enough rows to judge by, days outside the limits."""
    measured: dict[tuple[str, str, str | None], list[Row]] = defaultdict(list)
    for row in read_rows(store.home("data_set"), HEALTH):
        if first <= row["ds"] <= last:
            measured[row["measure"], row["domain"], row["feature"]].append(row)
    return [
        {"domain": domain, "measure": measure, "feature": feature, **_ends(measured[measure, domain, feature])}
        for measure, domain, feature in sorted(measured, key=lambda key: tuple(part or "" for part in key))
    ]


def _ends(rows: Sequence[Row]) -> dict[str, Any]:
    def of(column: str, chosen: Callable[[list[float]], float]) -> float | None:
        values = [row[column] for row in rows if row[column] is not None]
        return chosen(values) if values else None

    return {
        "least": of("value", min),
        "greatest": of("value", max),
        "low": of("low", max),
        "high": of("high", max),
        "days": len(rows),
        "judged": sum(row["ok"] is not None for row in rows),
        "outside": sum(row["ok"] is False for row in rows),
    }


def _measures(store: Store, config: Config, first: dt.date, last: dt.date) -> list[DataFrame]:
    labelled, samples = store.read(LABELLED), store.read(samples_table(config.features))
    here, timezone = labelled.where(between(first, last)), config.calendar.timezone
    back = labelled.where(between(first - config.check.known_days * DAY, last))
    a_week_more = samples.where(between(first - health.WEEK * DAY, last))
    numbers = [feature for feature in config.features.fields if isinstance(feature, Number)]
    return [
        *([health.null_numbers(here, numbers)] if numbers else []),
        health.traffic(here, str(first), str(last)),
        health.known(here, back, config),
        health.encoded(a_week_more, vocabulary_of(store, config), config.features),
        health.sampled(here, samples.where(between(first, last)), config.sampling, timezone),
        health.grown(store.read(VOCABULARY), str(first), str(last), timezone),
        health.logged(here, store.read(QUARANTINE), _newest_ingest(store, config, first, last)),
    ]


def _newest_ingest(store: Store, config: Config, first: dt.date, last: dt.date) -> DataFrame:
    """The newest of the ledger's ingests that ended on one of the days; one row or none."""
    ingests = [
        row
        for row in read_rows(store.root, STEPS)
        if row["step"] == "ingest" and row["subject"] == config.logs_id and first <= row["to_day"] <= last
    ]
    newest = sorted(ingests, key=itemgetter("finished"))[-1:]
    read = [(row["to_day"], row["rows_read"], row["duplicates"]) for row in newest]
    return store.spark.createDataFrame(read, "to_day date, rows_read bigint, duplicates bigint")


def _named(row: dict[str, Any]) -> str:
    what = f"{row['measure']} of {row['feature']}" if row["feature"] else row["measure"]
    limit = (
        f"at least {row['low']:g}"
        if row["low"] is not None and row["value"] < row["low"]
        else f"at most {row['high']:g}"
    )
    hint = " (no row has a value: is its source right?)" if (row["measure"], row["value"]) == ("null_rate", 1) else ""
    return f"{row['ds']} {row['domain']}: {what} is {row['value']:.4g}, expected {limit}{hint}"
