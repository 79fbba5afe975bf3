"""Carries a plan out, in the order of time, and enters each finished step in the ledger."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console

from ecdctr_spark import tracking
from ecdctr_spark.config import Config, Level
from ecdctr_spark.launching.launch import Ranks, open_ranks
from ecdctr_spark.pipeline import registry, steps
from ecdctr_spark.pipeline.calendar import Model, Plan, Prediction, Training, due, plan
from ecdctr_spark.pipeline.checking import check, refuse
from ecdctr_spark.pipeline.steps import Counts
from ecdctr_spark.progress import Reporter, Update
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.job import TrainingJob, TrainingResult


def run(store: Store, config: Config, first: dt.date, last: dt.date, console: Console) -> Plan:
    """Does what is due for the days first..last, and nothing else; returns the plan that it carried out.

    Raises ConfigError for days that cannot be planned, and RuntimeError, after all that could be done is done, where
    a training failed.
    """
    planned = planned_for(store, config, first, last)
    if not len(planned):
        console.print(f"nothing is due from {first} to {last}: every model and prediction exists")
        return planned
    failed: list[str] = []
    with Reporter(console, len(planned)) as reporter, open_ranks(config.training, store.spark) as ranks:
        for begin, end in planned.ingest:
            with reporter.step(f"ingest {begin}..{end}") as update:
                counted = partial(steps.ingest, store, config, begin, end)
                keep_count(store, "ingest", registry.LOGS, (begin, end), counted, update)
        for begin, end in planned.build:
            with reporter.step(f"build {begin}..{end}") as update:
                counted = partial(build_checked, store, config, begin, end)
                keep_count(store, "build", config.samples_fingerprint(), (begin, end), counted, update)
        models = set(registry.done(store, config).models)
        for step in planned.by_day():
            if isinstance(step, Prediction):
                _predict(store, config, step, reporter)
            elif (error := _train(store, config, step, models, ranks, reporter)) is not None:
                failed.append(error)
        steps.evaluate_overall(store)
    if failed:
        raise RuntimeError("; ".join(failed))
    return planned


def planned_for(store: Store, config: Config, first: dt.date, last: dt.date) -> Plan:
    """The plan of the days first..last on what exists; raises ConfigError where the days make no sense."""
    if last < first:
        raise ConfigError(f"--from {first} --to {last}: the first day comes after the last")
    if first <= config.calendar.first_day:
        raise ConfigError(
            f"--from {first}: there are no logs before it (calendar.first_day is {config.calendar.first_day})"
        )
    return plan(config, first, last, registry.done(store, config))


def run_counted(store: Store, config: Config, step: str, first: dt.date, last: dt.date, console: Console) -> Counts:
    """`ecdctr ingest` and `ecdctr build`: the days first..last again, whether or not they were done before."""
    if last < first:
        raise ConfigError(f"--from {first} --to {last}: the first day comes after the last")
    counted, subject = {
        "ingest": (steps.ingest, registry.LOGS),
        "build": (build_checked, config.samples_fingerprint()),
    }[step]
    with Reporter(console, 1) as reporter, reporter.step(f"{step} {first}..{last}") as update:
        return keep_count(store, step, subject, (first, last), partial(counted, store, config, first, last), update)


def build_checked(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Builds days and looks at their health: days that are not healthy do not count as built, so that nothing is
    trained on them until their logs are mended or the limits changed."""
    counts = steps.build(store, config, first, last)
    refuse(check(store, config, first, last))
    return counts


def train_alone(store: Store, config: Config, level: Level, date: dt.date, console: Console) -> dict[str, Any]:
    """`ecdctr train`: one model, from the models that exist. Training it again gives the same model."""
    others = [model for model in registry.done(store, config).models if (model.level, model.date) != (level, date)]
    training = due(config, level, date, others)
    with Reporter(console, 1) as reporter, open_ranks(config.training, store.spark) as ranks:
        return train_one(store, config, training, ranks, reporter)


def keep_count(
    store: Store,
    step: str,
    subject: str,
    days: tuple[dt.date, dt.date],
    counted: Callable[[], Counts],
    update: Update,
) -> Counts:
    """Runs a counted step and enters it in the ledger."""
    started = time.monotonic()
    counts = counted()
    entry = {"step": step, "subject": subject, "from_day": days[0], "to_day": days[1]}
    registry.record(store, [{**entry, **asdict(counts), "seconds": time.monotonic() - started}])
    update(
        counts.rows_read,
        f"{counts.duplicates:,} duplicates, {counts.quarantined:,} quarantined" if step == "ingest" else "",
    )
    return counts


def train_one(store: Store, config: Config, training: Training, ranks: Ranks, reporter: Reporter) -> dict[str, Any]:
    """One training, shown as it goes, registered and tracked."""
    results: list[TrainingResult] = []
    with reporter.step(f"train {training.level} {training.date}") as update:

        def trained(job: TrainingJob) -> TrainingResult:
            total = sum(unit.rows for unit in job.units) * job.train.epochs
            results.append(ranks.train(job, lambda rows, loss: update(rows, f"of {total:,}, loss {loss:.4f}")))
            return results[-1]

        row = steps.train(store, config, training, trained)
        result = results[-1]
        update(result.rows, f"loss {result.loss:.4f}")
    figures = {"rows": result.rows, "seconds": result.seconds, "loss": result.loss, "waiting": result.waiting}
    tracking.log_model(config, row, figures)
    return row


def _train(
    store: Store, config: Config, planned: Training, models: set[Model], ranks: Ranks, reporter: Reporter
) -> str | None:
    """Trains from the models that exist by now. A failed TPM or CPM is told and passed over: the levels below go on
    with its previous model up to the age limit. A failed daily model ends the run."""
    training = due(config, planned.level, planned.date, models)
    try:
        train_one(store, config, training, ranks, reporter)
    except RuntimeError as error:
        if planned.level not in ("tpm", "cpm"):
            raise
        told = f"{planned.level} of {planned.date} failed: {error}"
        registry.record(
            store, [{"step": "failed", "subject": told, "from_day": training.first, "to_day": training.date}]
        )
        return told
    models.add(training.model)
    return None


def _predict(store: Store, config: Config, prediction: Prediction, reporter: Reporter) -> None:
    started = time.monotonic()
    day = prediction.day
    with reporter.step(f"predict {day}") as update:
        rows = steps.predict(store, config, day, prediction.levels)
        steps.evaluate(store, day, prediction.levels)
        entry = {"step": "predict", "subject": ", ".join(prediction.levels), "from_day": day, "to_day": day}
        counts = {"rows_read": rows, "rows_kept": rows, "duplicates": 0, "quarantined": 0}
        registry.record(store, [{**entry, **counts, "seconds": time.monotonic() - started}])
        update(rows, "")
