"""Executes a plan, in order, and enters each finished step in the ledger."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console

from ecdctr_spark import tracking
from ecdctr_spark.config import Config
from ecdctr_spark.launching.launch import Ranks, open_ranks
from ecdctr_spark.methods.planning import Build, Existing, Ingest, Planner, Prediction, Step, Training
from ecdctr_spark.models import checked
from ecdctr_spark.pipeline import registry, steps
from ecdctr_spark.pipeline.checking import check, refuse
from ecdctr_spark.pipeline.steps import Counts
from ecdctr_spark.progress import Reporter
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.tables.small import Row
from ecdctr_spark.tables.store import Store
from ecdctr_spark.training.job import TrainingJob, TrainingResult


@dataclass
class Run:
    """A run under way, with the errors of trainings that were skipped, by model."""

    store: Store
    config: Config
    planner: Planner
    ranks: Ranks
    reporter: Reporter
    failed: dict[str, str] = field(default_factory=dict)


def run(store: Store, config: Config, first: dt.date, last: dt.date, console: Console) -> tuple[Step, ...]:
    """Executes what is due for the days first..last, and nothing else; returns the plan.

    A training that fails may be skipped (Level.when_it_fails): the levels that refer to it are then planned on its
    previous model. Raises ConfigError for days that cannot be planned. Raises RuntimeError where a training failed,
    after everything else is done where it was skipped.
    """
    planner, existing = registry.planner(config), registry.existing(store.root, config)
    planned = plan(planner, config, first, last, existing)
    if not planned:
        console.print(f"nothing is due from {first} to {last}: every model and prediction exists")
        return planned
    with Reporter(console, len(planned)) as reporter, open_ranks(config.training, store.spark) as ranks:
        under_way, due = Run(store, config, planner, ranks, reporter), planned
        while due:
            step, *rest = due
            missed = STEPS[type(step)](under_way, step)
            if missed is None:
                due = tuple(rest)
            else:
                under_way.planner = under_way.planner.without(missed)
                due = under_way.planner.plan(first, last, registry.existing(store.root, config))
                reporter.expect(len(due))
        steps.evaluate_overall(store, method_identities(planner))
    if under_way.failed:
        raise RuntimeError("; ".join(under_way.failed.values()))
    return planned


def plan(planner: Planner, config: Config, first: dt.date, last: dt.date, existing: Existing) -> tuple[Step, ...]:
    """The plan of the days first..last on what exists. Raises ConfigError where the days are out of order or precede
    the logs."""
    in_order(first, last)
    check_kinds(config)
    if first <= config.calendar.first_day:
        raise ConfigError(
            f"--from {first}: there are no logs before it (calendar.first_day is {config.calendar.first_day})"
        )
    return planner.plan(first, last, existing)


def run_counted(store: Store, config: Config, step: Ingest | Build, console: Console) -> Counts:
    """`ecdctr ingest` and `ecdctr build`: the days of the step, whether or not they were done before."""
    in_order(step.first, step.last)
    with Reporter(console, 1) as reporter:
        return _counted(store, config, step, reporter)


def build_checked(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Builds days and checks their health. Unhealthy days do not count as built: nothing is trained on them until the
    logs are fixed or the limits changed. Raises ConfigError that names what is outside its limits."""
    counts = steps.build(store, config, first, last)
    refuse(check(store, config, first, last))
    return counts


def train_alone(store: Store, config: Config, training: Training, console: Console) -> Row:
    """`ecdctr train`: one model (see training_of), from those that it is made from. Training it again gives the same
    model.

    Raises ConfigError where a model that it is made from is missing.
    """
    existing = registry.existing(store.root, config)
    missing = [model.model_id for model in training.parents if model.model_id not in existing.models]
    if missing:
        raise ConfigError(
            f"{training.model_id} is made from {', '.join(missing)}: train those first, or use `ecdctr run`"
        )
    with Reporter(console, 1) as reporter, open_ranks(config.training, store.spark) as ranks:
        return train_one(store, config, training, ranks, reporter)


def training_of(config: Config, level: str, date: dt.date) -> Training:
    """The training of a level of a configured method on a date.

    Raises ConfigError where no method has the level, its clock does not strike then, or no start applies.
    """
    check_kinds(config)
    planner = registry.planner(config)
    for method in planner.methods:
        if level in method.levels:
            clock = method.levels[level].clock
            if clock.newest(date) != date:
                raise ConfigError(f"--date {date}: {level} is due every {clock.every}, last on {clock.newest(date)}")
            return planner.training(method, level, date)
    known = dict.fromkeys(name for method in planner.methods for name in method.levels)
    raise ConfigError(f"--level {level}: expected one of {', '.join(known)}")


def train_one(store: Store, config: Config, training: Training, ranks: Ranks, reporter: Reporter) -> Row:
    """One training, with its progress shown, registered and tracked."""
    with reporter.step(f"train {training.model_id}") as update:

        def trained(job: TrainingJob) -> TrainingResult:
            total = sum(unit.rows for unit in job.units) * job.train.epochs
            return ranks.train(job, lambda rows, loss: update(rows, f"of {total:,}, loss {loss:.4f}"))

        row, result = steps.train(store, config, training, trained)
        update(result.rows, f"loss {result.loss:.4f}")
    figures = {"rows": result.rows, "seconds": result.seconds, "loss": result.loss, "waiting": result.waiting}
    tracking.log_model(config, row, figures)
    return row


def check_kinds(config: Config) -> None:
    """Raises ConfigError that names an unknown kind of source, or the first network with an unknown kind or key, before
    anything is done."""
    if config.source.kind not in SOURCES:
        raise ConfigError(f"source.kind: no source {config.source.kind}; expected one of {', '.join(SOURCES)}")
    for method in config.chosen:
        for level in method.levels.values():
            checked(level.network, f"methods.{method.name}.levels.{level.name}.network")


def method_identities(planner: Planner) -> list[str]:
    """The identities of the planner's methods, in order."""
    return [planner.method_identity(method) for method in planner.methods]


def in_order(first: dt.date, last: dt.date) -> None:
    """Raises ConfigError where the first day comes after the last."""
    if last < first:
        raise ConfigError(f"--from {first} --to {last}: the first day comes after the last")


def _count(run: Run, step: Ingest | Build) -> None:
    _counted(run.store, run.config, step, run.reporter)


def _counted(store: Store, config: Config, step: Ingest | Build, reporter: Reporter) -> Counts:
    """Executes a counted step and enters it in the ledger."""
    name, subject, carry_out = {
        Ingest: ("ingest", config.logs_id, _ingested),
        Build: ("build", config.data_set_id, build_checked),
    }[type(step)]
    started = time.monotonic()
    with reporter.step(f"{name} {step.first}..{step.last}") as update:
        counts = carry_out(store, config, step.first, step.last)
        entry = {"step": name, "subject": subject, "from_day": step.first, "to_day": step.last}
        registry.record(store.root, [{**entry, **asdict(counts), "seconds": time.monotonic() - started}])
        lost = f"{counts.duplicates:,} duplicates, {counts.quarantined:,} quarantined"
        update(counts.rows_read, lost if name == "ingest" else "")
    return counts


def _ingested(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    return steps.ingest(store, config, first, last).counts


def _train(run: Run, step: Training) -> str | None:
    """Returns the model_id where its training failed and may be skipped."""
    try:
        train_one(run.store, run.config, step, run.ranks, run.reporter)
    except RuntimeError as error:
        if step.level.when_it_fails == "stop":
            raise
        run.failed[step.model_id] = f"{step.level.name} of {step.date} failed: {error}"
        entry = {"step": "failed", "subject": run.config.data_set_id, "detail": run.failed[step.model_id]}
        registry.record(run.store.root, [{**entry, "from_day": step.first, "to_day": step.date}])
        return step.model_id
    return None


def _predict(run: Run, step: Prediction) -> None:
    started = time.monotonic()
    with run.reporter.step(f"predict {step.day}") as update:
        rows = steps.predict(run.store, run.config, step)
        counts = {"rows_read": rows, "rows_kept": rows, "duplicates": 0, "quarantined": 0}
        # The methods are predicted together: each is charged an equal share of the seconds.
        entry = {"step": "predict", "from_day": step.day, "to_day": step.day, **counts}
        seconds = (time.monotonic() - started) / len(step.models)
        entries = [
            {**entry, "subject": method, "detail": model.model_id, "seconds": seconds} for method, model in step.models
        ]
        registry.record(run.store.root, entries)
        update(rows, "")


# The function of each kind of step. It returns the model that it could not make, without which the rest is planned.
STEPS: dict[type, Callable[[Run, Any], str | None]] = {
    Ingest: _count,
    Build: _count,
    Training: _train,
    Prediction: _predict,
}
