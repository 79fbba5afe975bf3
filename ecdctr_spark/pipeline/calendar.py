"""The three clocks: what is due between two days, from which inputs. Pure: dates and records in, steps out.

A model's date is the last day that it has seen; it may serve from the day after. TPM is dated the last day of a
month, CPM every `cpm.weekday`, A-CTR (and the ads-only baseline) every day. Levels are asynchronous: each uses the
newest finished model of the level above, up to an age limit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ecdctr_spark.config import Config, Level
from ecdctr_spark.settings.base import ConfigError

DAY = dt.timedelta(days=1)
Transfer = Literal["fresh", "continue", "from_cpm"]


@dataclass(frozen=True)
class Model:
    """A model that exists or is planned: its level, the last day it saw, and the CPM at its root (A-CTR only)."""

    level: Level
    date: dt.date
    cpm: dt.date | None = None


@dataclass(frozen=True)
class Training:
    """A training that is due: read the days `first`..`date`, start from `parent` by the policy `transfer`.

    `snapshots` are the months (YYYY-MM) whose TPM snapshots CPM attends over, `cpm` is the CPM date at an A-CTR's
    root.
    """

    level: Level
    date: dt.date
    first: dt.date
    transfer: Transfer = "fresh"
    parent: Model | None = None
    snapshots: tuple[str, ...] = ()
    cpm: dt.date | None = None

    @property
    def model(self) -> Model:
        """The model that this training leaves."""
        return Model(self.level, self.date, self.cpm)


@dataclass(frozen=True)
class Prediction:
    """The ads of `day` are due to be predicted by the models `levels` of the day before, then evaluated."""

    day: dt.date
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Plan:
    """What is due, in order: days whose logs to ingest and build, then trainings and predictions day by day."""

    ingest: tuple[tuple[dt.date, dt.date], ...]
    build: tuple[tuple[dt.date, dt.date], ...]
    trainings: tuple[Training, ...]
    predictions: tuple[Prediction, ...]

    def __len__(self) -> int:
        return len(self.ingest) + len(self.build) + len(self.trainings) + len(self.predictions)

    def by_day(self) -> Iterator[Training | Prediction]:
        """Trainings and predictions in the order of time: a day is predicted before any model reads it."""
        steps: list[Training | Prediction] = [*self.trainings, *self.predictions]
        return iter(sorted(steps, key=_moment))


@dataclass(frozen=True)
class Done:
    """What exists: models, days ingested and built, and for each evaluated day the levels that predicted it."""

    models: frozenset[Model] = frozenset()
    ingested: frozenset[dt.date] = frozenset()
    built: frozenset[dt.date] = frozenset()
    evaluated: frozenset[tuple[dt.date, Level]] = frozenset()


def plan(config: Config, first: dt.date, last: dt.date, done: Done) -> Plan:
    """What `run --from first --to last` has to do: predict and evaluate the ads of each day with the models of the day
    before, and leave the models of `last` ready. Models that those need are due too, however far back.
    """
    trainings: list[Training] = []
    models = {(model.level, model.date): model for model in done.models}
    for level, day in _clocks(config, first, last):
        if (level, day) not in models:
            trainings.append(due(config, level, day, models.values()))
            models[level, day] = trainings[-1].model
    levels: tuple[Level, ...] = ("actr", *config.evaluation.baselines)
    predictions = [
        Prediction(day, missing)
        for day in days(first, last)
        if (missing := tuple(level for level in levels if (day, level) not in done.evaluated))
    ]
    start = _first_day_read(config, first)
    return Plan(
        ingest=_ranges(day for day in days(start, last) if day not in done.ingested),
        build=_ranges(day for day in days(start, last) if day not in done.built),
        trainings=tuple(trainings),
        predictions=tuple(predictions),
    )


def due(config: Config, level: Level, date: dt.date, models: Iterable[Model]) -> Training:
    """The training of one level that leaves the model of `date`, from the models that exist by then.

    Raises ConfigError where A-CTR finds no CPM young enough.
    """
    known = [model for model in models if model.date <= date]
    if level == "tpm":
        return _tpm(config, date, known)
    if level == "cpm":
        return _cpm(config, date, known)
    return _daily(config, level, date, known)


def days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """Every day from first to last, both included."""
    return (first + offset * DAY for offset in range((last - first).days + 1))


def month_end(day: dt.date) -> dt.date:
    """The last day of the day's month."""
    return (day.replace(day=28) + 4 * DAY).replace(day=1) - DAY


def _clocks(config: Config, first: dt.date, last: dt.date) -> Iterator[tuple[Level, dt.date]]:
    """Each (level, date) from the oldest model that a prediction of `first` rests on to `last`, level by level."""
    yield from (("tpm", day) for day in _months(config, first, last))
    yield from (("cpm", day) for day in _weeks(config, first, last))
    daily: tuple[Level, ...] = ("actr", *config.evaluation.baselines)
    yield from ((level, day) for day in days(first - DAY, last) for level in daily)


def _months(config: Config, first: dt.date, last: dt.date) -> Iterator[dt.date]:
    end = month_end(_first_month(config, first))
    while end <= last:
        yield end
        end = month_end(end + DAY)


def _weeks(config: Config, first: dt.date, last: dt.date) -> Iterator[dt.date]:
    day = _first_week(config, first)
    while day <= last:
        if day >= config.calendar.first_day:
            yield day
        day += 7 * DAY


def _first_week(config: Config, first: dt.date) -> dt.date:
    """The newest CPM date that the A-CTR of the day before `first` can rest on."""
    yesterday = first - DAY
    return yesterday - ((yesterday.weekday() - config.cpm.weekday) % 7) * DAY


def _first_month(config: Config, first: dt.date) -> dt.date:
    """A day of the first month that TPM catches up on, for the CPM that the first day rests on."""
    day = _first_week(config, first).replace(day=1)
    for _ in range(config.tpm.months):
        day = (day - DAY).replace(day=1)
    return max(day, config.calendar.first_day)


def _first_day_read(config: Config, first: dt.date) -> dt.date:
    week = _first_week(config, first) - config.cpm.days * DAY
    return max(config.calendar.first_day, min(week, _first_month(config, first)))


def _tpm(config: Config, date: dt.date, known: Sequence[Model]) -> Training:
    """A month's increment on the TPM of the month before; without one, that month alone (the chain's start)."""
    parent = _newest(known, "tpm", before=date)
    first = max(date.replace(day=1), config.calendar.first_day)
    return Training("tpm", date, first, "continue" if parent else "fresh", parent)


def _cpm(config: Config, date: dt.date, known: Sequence[Model]) -> Training:
    """The last month of natural logs afresh, with the newest snapshots that are young enough."""
    oldest = date - config.cpm.max_snapshot_age_days * DAY
    months = sorted({model.date for model in known if model.level == "tpm" and model.date >= oldest})
    snapshots = tuple(month.strftime("%Y-%m") for month in months[-config.tpm.snapshots :])
    first = max(date - (config.cpm.days - 1) * DAY, config.calendar.first_day)
    return Training("cpm", date, first, snapshots=snapshots)


def _daily(config: Config, level: Level, date: dt.date, known: Sequence[Model]) -> Training:
    """One day on top of yesterday's model; from the newest CPM (or afresh) and several days where there is none."""
    yesterday = next((model for model in known if model.level == level and model.date == date - DAY), None)
    history = max(date - (config.actr.days - 1) * DAY, config.calendar.first_day)
    if level == "ads_only":
        return Training(level, date, date if yesterday else history, "continue" if yesterday else "fresh", yesterday)
    cpm = _newest(known, "cpm", before=date + DAY)
    if cpm is None or cpm.date < date - config.actr.max_cpm_age_days * DAY:
        newest = f"the newest is of {cpm.date}" if cpm else "there is none"
        raise ConfigError(
            f"A-CTR of {date} needs a CPM of at most {config.actr.max_cpm_age_days} days, but {newest}: "
            "train CPM, or raise actr.max_cpm_age_days"
        )
    if yesterday and yesterday.cpm == cpm.date:
        return Training(level, date, date, "continue", yesterday, cpm=cpm.date)
    return Training(level, date, history, "from_cpm", cpm, cpm=cpm.date)


def _newest(known: Iterable[Model], level: Level, before: dt.date) -> Model | None:
    candidates = [model for model in known if model.level == level and model.date < before]
    return max(candidates, key=lambda model: model.date, default=None)


def _moment(step: Training | Prediction) -> tuple[dt.date, int]:
    if isinstance(step, Prediction):
        return step.day, 0
    return step.date, ("tpm", "cpm", "actr", "ads_only").index(step.level) + 1


def _ranges(missing: Iterable[dt.date]) -> tuple[tuple[dt.date, dt.date], ...]:
    ranges: list[tuple[dt.date, dt.date]] = []
    for day in missing:
        if ranges and ranges[-1][1] + DAY == day:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return tuple(ranges)
