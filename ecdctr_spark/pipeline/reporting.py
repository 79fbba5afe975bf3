"""Gathers from the tables what the HTML report shows: the configured methods, and nothing else under the root."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ecdctr_spark.config import Config
from ecdctr_spark.evaluation import lineage
from ecdctr_spark.evaluation.report import ALL_DAYS, Report, headline, render
from ecdctr_spark.events import without_secrets
from ecdctr_spark.methods.planning import Planner
from ecdctr_spark.pipeline import registry
from ecdctr_spark.pipeline.checking import summary
from ecdctr_spark.pipeline.comparing import compare, is_compared
from ecdctr_spark.pipeline.plans import method_identities
from ecdctr_spark.pipeline.registry import read_metrics
from ecdctr_spark.pipeline.steps import update_maturity
from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import MODELS, PREDICTIONS, QUARANTINE, STEPS
from ecdctr_spark.tables.small import Row, read_rows
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tracking.spool import Record, now
from ecdctr_spark.tracking.tracker import Say, open_tracker


def is_ready(store: Store, config: Config) -> bool:
    """Whether a report shows what others have computed, and writes to no table."""
    methods = method_identities(registry.planner(config, registry.existing(store.root, config)))
    return not store.exists(PREDICTIONS) or is_compared(store, methods, config.evaluation.bootstrap)


def write_report(store: Store, config: Config) -> tuple[Root, str]:
    """Writes <storage.root>/reports/<methods>.html; returns its place and headline. Spark is needed only where the
    methods have predicted since they were last compared.

    Raises ConfigError where nothing was predicted.
    """
    existing = registry.existing(store.root, config)
    planner = registry.planner(config, existing)
    methods = method_identities(planner)
    if not read_metrics(store.root, methods):
        named = " and ".join(config.evaluation.methods)
        raise ConfigError(f"nothing has been predicted by {named} under {store.root}: run `ecdctr run` first")
    anew = not is_compared(store, methods, config.evaluation.bootstrap)
    comparison = compare(store, methods, config.evaluation.bootstrap)
    if anew:
        update_maturity(store.root, config, methods, existing.built)
    metrics = read_metrics(store.root, methods)
    models = {row["model_id"]: row for row in read_rows(store.root, MODELS)}
    report = Report(
        methods={name: method.title for name, method in zip(methods, config.chosen, strict=True)},
        against=comparison.against,
        metrics=metrics,
        reliability=comparison.reliability,
        lines=list(dict.fromkeys(lineage.lines(config.chosen).values())),
        models=lineage.members(models.values(), config.chosen, _served(planner, metrics)),
        replaced=_replaced(config, metrics, models),
        steps=_steps(store.root, {config.logs_id, config.data_set_id, *methods}),
        quarantine=_quarantined(store),
        health=summary(store),
        configuration=without_secrets(yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)),
    )
    place = store.root.at("reports", f"{'+'.join(methods)}.html")
    place.write_bytes(render(report).encode())
    return place, headline(report)


def track_report(root: Root, config: Config, report: Root, say: Say) -> None:
    """Hands the report over to MLflow, to the run of the first method's newest model that has predicted a day."""
    first = method_identities(registry.planner(config))[0]
    rows = [row for row in read_metrics(root, [first]) if row["model_id"] and row["date"] != ALL_DAYS]
    with open_tracker(config, say) as tracker:
        for row in rows[-1:]:
            tracker.record(row["model_id"], Record(time=now(), artifacts={"report.html": str(report)}))


def _served(planner: Planner, metrics: Sequence[Row]) -> dict[str, set[str]]:
    """By method, the models that predicted, and the one that serves after the last day that was evaluated."""
    last = dt.date.fromisoformat(max(row["date"] for row in metrics if row["date"] != ALL_DAYS))
    return {
        method.name: {row["model_id"] for row in metrics if row["method"] == planner.method_identity(method)}
        | {planner.serving(method, last).model_id}
        for method in planner.methods
    }


def _replaced(config: Config, metrics: Sequence[Row], models: Mapping[str, Row]) -> list[lineage.Replaced]:
    """The days that were predicted on older models than due, held against a plan in which no model is missing."""
    complete = registry.planner(config)
    by_identity = {complete.method_identity(method): method for method in complete.methods}
    return [
        each
        for row in metrics
        if row["date"] != ALL_DAYS and row["model_id"] in models
        for each in lineage.replaced(
            complete, by_identity[row["method"]], dt.date.fromisoformat(row["date"]), row["model_id"], models
        )
    ]


def _steps(root: Root, subjects: set[str]) -> list[Row]:
    rows = (row for row in read_rows(root, STEPS) if row["subject"] in subjects)
    return sorted(rows, key=lambda row: row["finished"])


def _quarantined(store: Store) -> list[dict[str, Any]]:
    """The number of rows by source and reason."""
    place = store.place(QUARANTINE)
    counts: Counter[tuple[str, str]] = Counter()
    for source in pinned.rows_by(place, "source"):
        for batch in pinned.batches(place, pinned.version(place), ["reason"], {"source": [source]}):
            for found in batch["reason"].value_counts().to_pylist():
                counts[source, found["values"]] += found["counts"]
    return [{"source": source, "reason": reason, "rows": rows} for (source, reason), rows in sorted(counts.items())]
