"""Executes a plan, in order, and enters each finished step in the ledger."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from rich.console import Console

from ecdctr_spark.config import Config
from ecdctr_spark.events import event
from ecdctr_spark.launching.launch import Ranks, open_ranks
from ecdctr_spark.methods.planning import Build, Existing, Ingest, Planner, Prediction, Step, Training, days, ranges
from ecdctr_spark.pipeline import registry, steps, tracked
from ecdctr_spark.pipeline.checking import check, refuse
from ecdctr_spark.pipeline.comparing import compare
from ecdctr_spark.pipeline.ingesting import Counts, Ingested, ingest
from ecdctr_spark.pipeline.offering import offer
from ecdctr_spark.pipeline.plans import in_order, plan
from ecdctr_spark.progress import Reporter
from ecdctr_spark.session import watching
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.tables.schemas import METRICS, PREDICTIONS
from ecdctr_spark.tables.small import Row, read_rows
from ecdctr_spark.tables.store import Store
from ecdctr_spark.tracking.tracker import Tracker, open_tracker
from ecdctr_spark.training.job import TrainingJob, TrainingResult

_NAMED = 3  # files left out that are named


@dataclass
class Run:
    """A run under way: the steps carried out so far, what exists by then, and the errors of trainings that were
    skipped, by model."""

    store: Store
    config: Config
    first: dt.date
    last: dt.date
    planner: Planner
    ranks: Ranks
    reporter: Reporter
    tracker: Tracker
    existing: Existing = field(default_factory=Existing)
    done: list[Step] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def due(self, *kinds: type) -> list[Step]:
        """The steps of these kinds that are due on what exists now, without those that were carried out. All kinds are
        reported as expected."""
        self.existing = registry.existing(self.store.root, self.config)
        self.planner = self.planner.knowing(self.existing.void)
        planned = self.planner.plan(self.first, self.last, self.existing)
        left = [step for step in planned if step not in self.done]
        self.reporter.expect(len(left))
        return [step for step in left if isinstance(step, kinds)]


def run(store: Store, config: Config, first: dt.date, last: dt.date, console: Console) -> tuple[Step, ...]:
    """Executes what is due for the days first..last, and nothing else; returns what was carried out.

    What is due depends on what the steps before it have changed: it is planned anew after ingesting, after building,
    and where a model was trained again. A training that fails may be skipped (Level.when_it_fails): the levels that
    refer to it are then planned on its previous model.

    Raises ConfigError for days that cannot be planned and, after all that is possible is done, for days without logs.
    Raises RuntimeError where a training failed, after everything else is done where it was skipped.
    """
    with open_tracker(config, partial(console.print, markup=False, soft_wrap=True)) as tracker:
        return _run(store, config, first, last, console, tracker)


def _run(
    store: Store, config: Config, first: dt.date, last: dt.date, console: Console, tracker: Tracker
) -> tuple[Step, ...]:
    existing = registry.existing(store.root, config)
    planner = registry.planner(config, existing)
    methods = [planner.method_identity(method) for method in planner.served]
    planned = plan(planner, config, first, last, existing)
    if not planned:
        console.print(f"nothing is due from {first} to {last}: every model and prediction exists")
        event("nothing is due", first=first, last=last)
        registry.record_without_ads(store.root, methods, days(first, last), existing)
        _conclude(store, config, methods, existing.built, tracker)
        return planned
    with (
        Reporter(console, len(planned), watching(store.session)) as reporter,
        open_ranks(config.training, store.session) as ranks,
    ):
        under_way = Run(store, config, first, last, planner, ranks, reporter, tracker)
        _carry_out(under_way, Ingest)
        try:
            _carry_out(under_way, Build)
            _carry_out(under_way, Training, Prediction)
        except ConfigError as error:  # it may be due to days without logs, or to a level that failed and has no other
            said = "; ".join(filter(None, (_no_logs(under_way), *under_way.failed.values(), str(error))))
            raise (RuntimeError if under_way.failed else ConfigError)(said) from error
        registry.record_without_ads(store.root, methods, days(first, last), under_way.existing)
        _conclude(store, config, methods, under_way.existing.built, tracker)
    if under_way.failed:
        raise RuntimeError("; ".join(under_way.failed.values()))
    if without := _no_logs(under_way):
        raise ConfigError(without)
    return tuple(under_way.done)


def run_counted(store: Store, config: Config, step: Ingest | Build, console: Console) -> Counts:
    """`ecdctr ingest` and `ecdctr build`: the days of the step, whether or not they were done before. An ingest reports
    days without logs. Raises ConfigError where there is nothing to do for any of the days."""
    in_order(step.first, step.last)
    with Reporter(console, 1, watching(store.session)) as reporter:
        if isinstance(step, Build):
            registry.existing(store.root, config)  # what was ingested may be lost
            counts = _build(store, config, step, reporter)
            if not counts.rows_read:
                raise ConfigError(
                    f"nothing is ingested of {step.first}..{step.last} with this source and calendar: run"
                    " `ecdctr ingest` for these days first"
                )
            return counts
        ingested = _ingest(store, config, step, reporter)
    asked = frozenset(days(step.first, step.last))
    if asked <= ingested.missing and (without := no_logs(config, asked)):
        raise ConfigError(without)
    return ingested.counts


def no_logs(config: Config, missing: Collection[dt.date]) -> str:
    """What is wrong where days have no logs, unless they are known to have none; empty where nothing is."""
    unknown = sorted(set(missing).difference(config.check.without_logs))
    if not unknown:
        return ""
    source = config.source.impressions or config.source.folder or config.source.kind
    them = "it" if len(unknown) == 1 else "them"
    return (
        f"no logs of {_named(unknown)} in {source}, or no good row in them: nothing was done for {them}; run it again"
        f" when they are there, or add {them} to check.without_logs"
    )


def build_checked(store: Store, config: Config, first: dt.date, last: dt.date) -> Counts:
    """Builds days and checks their health. Unhealthy days do not count as built: nothing is trained on them until the
    logs are fixed or the limits changed. Raises ConfigError that names what is outside its limits."""
    counts = steps.build(store, config, first, last)
    refuse(check(store, config, first, last))
    return counts


def train_alone(store: Store, config: Config, training: Training, console: Console) -> Row:
    """`ecdctr train`: one model (see training_of), from those that it is made from. One that exists is replaced, which
    is reported: on as many ranks it is the same bit for bit, on another number of them sums are rounded otherwise.

    Raises ConfigError where a model that it is made from is missing.
    """
    existing = registry.existing(store.root, config)
    usable = existing.models - existing.removed
    missing = [model.model_id for model in training.parents if model.model_id not in usable]
    if missing:
        raise ConfigError(
            f"{training.model_id} is made from {', '.join(missing)}: train those first, or use `ecdctr run`"
        )
    if training.model_id in usable:
        console.print(f"{training.model_id} exists: it is trained again and replaced", soft_wrap=True, highlight=False)
    with (
        open_tracker(config, partial(console.print, markup=False, soft_wrap=True)) as tracker,
        Reporter(console, 1, watching(store.session)) as reporter,
        open_ranks(config.training, store.session) as ranks,
    ):
        return train_one(store, config, training, ranks, reporter, tracker)


def train_one(
    store: Store, config: Config, training: Training, ranks: Ranks, reporter: Reporter, tracker: Tracker
) -> Row:
    """One training, with its progress shown and tracked, and registered."""
    with (
        reporter.step(f"train {training.model_id}") as update,
        tracker.training(training.model_id, tracked.opened(config, training)) as track,
    ):

        def trained(job: TrainingJob) -> TrainingResult:
            total = sum(unit.rows for unit in job.units) * job.train.epochs

            def progress(rows: int, loss: float) -> None:
                update(rows, f"loss {loss:.4f}", total)
                track(rows, loss)

            return ranks.train(job, progress)

        row, result = steps.train(store, config, training, trained)
        ranks_used = "1 rank" if result.ranks == 1 else f"{result.ranks} ranks"
        update(result.rows, f"loss {result.loss:.4f}, {ranks_used}")
        tracker.record(training.model_id, *tracked.trained(store, config, row, result))
    return row


def _carry_out(run: Run, *kinds: type) -> None:
    due = run.due(*kinds)
    while due:
        step, *due = due
        changed = STEPS[type(step)](run, step)
        run.done.append(step)
        if changed:
            due = run.due(*kinds)


def _conclude(
    store: Store, config: Config, methods: Sequence[str], built: Collection[dt.date], tracker: Tracker
) -> None:
    """What follows from all steps: the metrics and the comparison of methods over all days, where there are newer
    predictions, their maturity, and the model to serve. Nothing else may be due: a run may have been killed just before
    this."""
    if methods and store.exists(PREDICTIONS):
        compare(store, methods, config.evaluation.bootstrap)
    steps.update_maturity(store.root, config, methods, built)
    offer(store.root, config, tracker)


def _no_logs(run: Run) -> str:
    return no_logs(run.config, run.existing.empty.intersection(days(run.first, run.last)))


def _named(chosen: Iterable[dt.date]) -> str:
    """Ascending days in words."""
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in ranges(chosen))


def _ingest(store: Store, config: Config, step: Ingest, reporter: Reporter) -> Ingested:
    """Ingests days and enters them in the ledger."""
    started = time.monotonic()
    with reporter.step(f"ingest {step.first}..{step.last}") as update:
        ingested = ingest(store, config, step.first, step.last)
        done = {**asdict(ingested.counts), "seconds": time.monotonic() - started}
        tried = ingested.missing.union(days(step.first, step.last))
        registry.record_ingest(store.root, config, ingested.covered, tried, **done)
        update(ingested.counts.rows_read, _reported(ingested))
    return ingested


def _reported(ingested: Ingested) -> str:
    """What a user should know of an ingest, beside the number of rows."""
    counts = ingested.counts
    outside = counts.outside_asked + counts.outside_any
    reported = [f"{counts.duplicates:,} duplicates, {counts.quarantined:,} quarantined, {outside:,} of other days"]
    reported += [f"{table} of {day} has {rows:,} rows fewer than before" for table, day, rows in ingested.fewer]
    reported += [f"no logs of {_named(sorted(ingested.missing))}"] if ingested.missing else []
    reported += [f"left out: {', '.join(ingested.left_out[:_NAMED])}"] if ingested.left_out else []
    more = len(ingested.left_out) - _NAMED
    return ", ".join([*reported, *([f"{more:,} more"] if more > 0 else [])])


def _build(store: Store, config: Config, step: Build, reporter: Reporter) -> Counts:
    """Builds days and enters them in the ledger."""
    started = time.monotonic()
    with reporter.step(f"build {step.first}..{step.last}") as update:
        counts = build_checked(store, config, step.first, step.last)
        entry = {"step": "build", "subject": config.data_set_id, "from_day": step.first, "to_day": step.last}
        tables = registry.written(store.root, config, "build")
        done = {**asdict(counts), "seconds": time.monotonic() - started, "tables": tables}
        registry.record(store.root, [{**entry, **done}])
        update(counts.rows_read, "")
    return counts


def _count(run: Run, step: Ingest | Build) -> bool:
    if isinstance(step, Ingest):
        _ingest(run.store, run.config, step, run.reporter)
    else:
        _build(run.store, run.config, step, run.reporter)
    return False


def _train(run: Run, step: Training) -> bool:
    """Returns whether the rest must be planned anew: a model that was trained again may be as it was, and one that
    failed and may be skipped is not there."""
    try:
        train_one(run.store, run.config, step, run.ranks, run.reporter, run.tracker)
    except RuntimeError as error:
        if step.level.when_it_fails == "stop":
            raise
        run.failed[step.model_id] = f"{step.level.name} of {step.date} failed: {error}"
        entry = {"step": "failed", "subject": run.config.data_set_id, "detail": run.failed[step.model_id]}
        registry.record(run.store.root, [{**entry, "from_day": step.first, "to_day": step.date}])
        run.planner = run.planner.without(step.model_id)
        return True
    return step.model_id in run.existing.outdated


def _predict(run: Run, step: Prediction) -> bool:
    started = time.monotonic()
    ads = [("ad", step.day)]
    with run.reporter.step(f"predict {step.day}") as update:
        made_from = [registry.inputs(run.store.root, run.config, ads, [model.model_id]) for _, model in step.models]
        rows = steps.predict(run.store, run.config, step)
        counts = {"rows_read": rows, "rows_kept": rows, "duplicates": 0, "quarantined": 0}
        # The methods are predicted together: each is charged an equal share of the seconds.
        tables = registry.written(run.store.root, run.config, "predict")
        entry = {"step": "predict", "from_day": step.day, "to_day": step.day, "tables": tables, **counts}
        seconds = (time.monotonic() - started) / len(step.models)
        entries = [
            {**entry, "subject": method, "detail": model.model_id, "inputs": inputs, "seconds": seconds}
            for (method, model), inputs in zip(step.models, made_from, strict=True)
        ]
        rated = [row for row in read_rows(run.store.root, METRICS) if row["date"] == step.day]
        for model_id, record in tracked.judged(rated, {method for method, _ in step.models}).items():
            run.tracker.record(model_id, record)  # before the ledger says that it is done
        registry.record(run.store.root, entries)
        update(rows, "")
    return False


# The function of each kind of step. It returns whether the rest must be planned anew.
STEPS: dict[type, Callable[[Run, Any], bool]] = {
    Ingest: _count,
    Build: _count,
    Training: _train,
    Prediction: _predict,
}
