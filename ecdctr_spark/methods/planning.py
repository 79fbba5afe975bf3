"""What is due between two days, and from which inputs. Pure: dates, methods and what exists in, steps out.

Chains of models are anchored at the clocks, so that a model depends on its date and configuration, not on the days that
one run was asked for. A clock strikes on the days on which its level is due:

- a level that starts from another level begins a new chain with each new model of that level, at the first strike of
  its own clock from the parent's date, and continues from strike to strike until the next new parent;
- a level without a parent begins at its first strike from `starts_on`.

Levels are asynchronous. A model that could not be made (`unavailable`) is skipped: what would have been made from it is
made from the one before it, up to an age limit, under another identity, since an identity covers the parents.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from ecdctr_spark.methods.identity import MODEL_FORMAT, identity
from ecdctr_spark.methods.method import DAY, Fresh, From, Level, Method, Policy, Start
from ecdctr_spark.settings.base import ConfigError

EVERYTHING = Policy(batch_norm="copied", optimiser="kept")  # what a model that continues takes over


class Model(NamedTuple):
    """A model that exists or is planned."""

    model_id: str
    level: str
    date: dt.date


@dataclass(frozen=True)
class Training:
    """One training: it starts from the `parent` by `how` and `policy`, and reads the days `first` .. `date`.

    `snapshots` are the models whose snapshots its memory holds, the oldest first.
    """

    model_id: str
    level: Level
    date: dt.date
    first: dt.date
    how: Literal["continue", "from", "fresh"]
    policy: Policy | None = None
    parent: Model | None = None
    snapshots: tuple[Model, ...] = ()
    snapshot_dimension: int = 0  # of the memory's vectors, merged ones too
    teacher: Model | None = None

    @property
    def model(self) -> Model:
        """The model that this training makes."""
        return Model(self.model_id, self.level.name, self.date)

    @property
    def parents(self) -> tuple[Model, ...]:
        """The models that it is made from, each once."""
        named = (self.parent, *self.snapshots, self.teacher)
        return tuple(dict.fromkeys(model for model in named if model))

    def __str__(self) -> str:
        parent = f", {self.how} {self.parent.model_id}" if self.parent else ", afresh"
        snapshots = f", snapshots {', '.join(model.model_id for model in self.snapshots)}" if self.snapshots else ""
        return f"train    {self.model_id} on {self.first}..{self.date}{parent}{snapshots}"


@dataclass(frozen=True)
class Ingest:
    """The raw logs of the days `first` .. `last` are due."""

    first: dt.date
    last: dt.date

    def __str__(self) -> str:
        return f"ingest   {self.first}..{self.last}"


@dataclass(frozen=True)
class Build:
    """The samples of the days `first` .. `last` are due."""

    first: dt.date
    last: dt.date

    def __str__(self) -> str:
        return f"build    {self.first}..{self.last}"


@dataclass(frozen=True)
class Prediction:
    """Predictions of the ads of `day` are due: by method identity, the model that serves then."""

    day: dt.date
    models: tuple[tuple[str, Model], ...]

    def __str__(self) -> str:
        return f"predict  {self.day} by {', '.join(model.model_id for _, model in self.models)}"


Step = Ingest | Build | Training | Prediction


@dataclass(frozen=True)
class Existing:
    """What exists: the days ingested and built, the ids of models, and (day, method, model) of predictions."""

    ingested: frozenset[dt.date] = frozenset()
    built: frozenset[dt.date] = frozenset()
    models: frozenset[str] = frozenset()
    evaluated: frozenset[tuple[dt.date, str, str]] = frozenset()


@dataclass(frozen=True)
class Planner:
    """Plans the methods on one data set, whose first day is `first_day`, without the models that are `unavailable`."""

    methods: tuple[Method, ...]
    data_set: str
    first_day: dt.date
    unavailable: frozenset[tuple[str, str, dt.date]] = frozenset()  # (method, level, date)
    _known: dict[tuple[str, str, dt.date], Training] = field(default_factory=dict, repr=False, compare=False)

    def plan(self, first: dt.date, last: dt.date, existing: Existing) -> tuple[Step, ...]:
        """The steps of `run --from first --to last`, in order: predict the ads of each day with the models that served
        then, and leave the models of `last` ready. The models that those are made from are due too, however old. Days
        are ingested and built from first_day, since features look back.

        Raises ConfigError where a day cannot be planned.
        """
        predictions = [step for day in days(first, last) if (step := self._prediction(day, existing))]
        wanted = [self.serving(method, day) for method in self.methods for day in days(first - DAY, last)]
        struck = [
            self.training(method, level.name, date)
            for method in self.methods
            for level in method.levels.values()
            for date in self._strikes(method, level, first, last)
        ]
        missing = self._with_parents([*wanted, *struck], existing.models)
        day_by_day: list[Training | Prediction] = [*missing, *predictions]
        day_by_day.sort(key=self._moment)
        asked = list(days(self.first_day, last))
        ingests = (Ingest(*range_) for range_ in ranges(day for day in asked if day not in existing.ingested))
        builds = (Build(*range_) for range_ in ranges(day for day in asked if day not in existing.built))
        return (*ingests, *builds, *day_by_day)

    def serving(self, method: Method, day: dt.date) -> Training:
        """The training of the method's newest serving model that has seen no day after `day`. Raises ConfigError where
        there is none."""
        level = method.levels[method.serves]
        date = self._newest(method, level, day)
        if date is None:
            raise ConfigError(
                f"method {method.name}: {level.name} has no model of {day} or before: its chain starts with the logs"
                f" of {self._anchor(level)}; ask for later days, or change calendar.first_day or starts_on"
            )
        return self.training(method, level.name, date)

    def training(self, method: Method, level_name: str, date: dt.date) -> Training:
        """The training of a level's model on a date at which its clock strikes.

        Raises ConfigError where the level's chain begins later, or no start applies.
        """
        level = method.levels[level_name]
        if date < self._anchor(level):
            raise ConfigError(f"{level_name} of {date}: its chain starts with the logs of {self._anchor(level)}")
        for day in self._chain(method, level, date):  # parents first, however long the chain is
            key = (method.name, level_name, day)
            if key not in self._known:
                self._known[key] = self._resolved(method, level, day)
        return self._known[method.name, level_name, date]

    def method_identity(self, method: Method) -> str:
        """The method's name and a hash of what its predictions depend on."""
        settings = method.model_dump(
            mode="json", exclude={"title": True, "levels": {"__all__": {"title", "when_it_fails"}}}
        )
        return f"{method.name}-{identity(MODEL_FORMAT, data_set=self.data_set, method=settings)}"

    def without(self, model_id: str) -> Planner:
        """The same planner, with this model unavailable in every method."""
        missed = {key for key, training in self._known.items() if training.model_id == model_id}
        return replace(self, unavailable=self.unavailable | missed, _known={})

    def _prediction(self, day: dt.date, existing: Existing) -> Prediction | None:
        served = [(self.method_identity(method), self.serving(method, day - DAY).model) for method in self.methods]
        missing = tuple(
            (method, model) for method, model in served if (day, method, model.model_id) not in existing.evaluated
        )
        return Prediction(day, missing) if missing else None

    def _with_parents(self, trainings: Iterable[Training], models: Collection[str]) -> list[Training]:
        """The trainings whose model does not exist, and those of the models they need, each once."""
        by_id = {training.model_id: training for training in trainings}
        known = {training.model_id: training for training in self._known.values()}
        missing: dict[str, Training] = {}
        asked = list(by_id.values())
        while asked:
            training = asked.pop()
            if training.model_id in models or training.model_id in missing:
                continue
            missing[training.model_id] = training
            asked += [known[parent.model_id] for parent in training.parents]
        return list(missing.values())

    def _moment(self, step: Training | Prediction) -> tuple[dt.date, int]:
        """A day is predicted before any model reads it; levels come in their order."""
        if isinstance(step, Prediction):
            return step.day, -1
        levels = [name for method in self.methods for name in method.levels]
        return step.date, levels.index(step.level.name)

    def _resolved(self, method: Method, level: Level, date: dt.date) -> Training:
        for start in level.starts:
            if (started := self._started(method, level, date, start)) is not None:
                how, parent, policy = started
                unnamed = Training(
                    model_id="",
                    level=level,
                    date=date,
                    first=self._first_read(level, date, parent if how == "continue" else None),
                    how=how,
                    policy=policy,
                    parent=parent,
                    snapshots=self._remembered(method, level, date),
                    snapshot_dimension=method.levels[level.memory.of].network.dimension if level.memory else 0,
                    teacher=self._teacher(method, level, date),
                )
                return replace(unnamed, model_id=f"{level.name}-{date}-{self._identity(unnamed)}")
        raise ConfigError(f"{level.name} of {date} cannot start: {self._why_not(method, level, date)}")

    def _identity(self, training: Training) -> str:
        level = training.level
        return identity(
            MODEL_FORMAT,
            data_set=self.data_set,
            days=[training.first, training.date],
            level=level.model_dump(mode="json", include={"network", "train", "memory", "teacher", "keeps"}),
            reads=level.reads.model_dump(mode="json", exclude={"days"}),
            how=training.how,
            policy=training.policy,
            parents=[model.model_id for model in training.parents],
        )

    def _started(
        self, method: Method, level: Level, date: dt.date, start: Start
    ) -> tuple[Literal["continue", "from", "fresh"], Model | None, Policy | None] | None:
        """How the start begins the model of the date, and from which parent; None where it does not apply."""
        if isinstance(start, Fresh):
            return "fresh", None, None
        if isinstance(start, From):
            parent = self._parent(method, level, date)
            return ("from", self.training(method, start.level, parent).model, start.policy) if parent else None
        before = self._chain(method, level, date)[:-1]
        return ("continue", self.training(method, level.name, before[-1]).model, EVERYTHING) if before else None

    def _chain(self, method: Method, level: Level, date: dt.date) -> Sequence[dt.date]:
        """The dates of the chain of the model of `date`, up to it."""
        parent = self._parent(method, level, date)
        if not level.continues or (level.parent and not parent):
            return [date]
        return self._strikes(method, level, parent or self.first_day, date)

    def _parent(self, method: Method, level: Level, date: dt.date) -> dt.date | None:
        """The date of the other level's model that the chain of `date` starts from, None where there is none."""
        start = level.parent
        return self._newest(method, method.levels[start.level], date, start.max_age_days) if start else None

    def _remembered(self, method: Method, level: Level, date: dt.date) -> tuple[Model, ...]:
        memory = level.memory
        if memory is None or memory.pooling == "merged":
            return ()
        of = method.levels[memory.of]
        there = self._strikes(method, of, date - memory.max_age_days * DAY, date)
        return tuple(self.training(method, of.name, day).model for day in there[-memory.snapshots :])

    def _teacher(self, method: Method, level: Level, date: dt.date) -> Model | None:
        if level.teacher is None:
            return None
        teacher = method.levels[level.teacher.level]
        newest = self._newest(method, teacher, date, level.teacher.max_age_days)
        if newest is None:
            raise ConfigError(
                f"{level.name} of {date}: its teacher {teacher.name} has no model of at most"
                f" {level.teacher.max_age_days} days: train {teacher.name}, or raise max_age_days of the teacher"
            )
        return self.training(method, teacher.name, newest).model

    def _first_read(self, level: Level, date: dt.date, continued: Model | None) -> dt.date:
        if continued:
            return continued.date + DAY
        since = (
            level.clock.newest(date - DAY) + DAY if level.reads.days is None else date - (level.reads.days - 1) * DAY
        )
        return max(since, self.first_day)

    def _newest(self, method: Method, level: Level, day: dt.date, max_age_days: int | None = None) -> dt.date | None:
        """The newest date up to `day` on which the level has a model, None where there is none or it is too old."""
        oldest = self.first_day if max_age_days is None else day - max_age_days * DAY
        there = self._strikes(method, level, oldest, day)
        return there[-1] if there else None

    def _strikes(self, method: Method, level: Level, first: dt.date, last: dt.date) -> list[dt.date]:
        """The dates from `first` to `last` on which the level has a model, ascending: its clock strikes, its chain has
        begun, and the model is available."""
        begin, date, found = max(first, self._anchor(level)), level.clock.newest(last), []
        while date >= begin:
            if (method.name, level.name, date) not in self.unavailable:
                found.append(date)
            date = level.clock.newest(date - DAY)
        return found[::-1]

    def _anchor(self, level: Level) -> dt.date:
        return max(level.starts_on or self.first_day, self.first_day)

    def _why_not(self, method: Method, level: Level, date: dt.date) -> str:
        start = level.parent
        if start is None:
            return f"it only continues, and there is no model before {date}: add a start `fresh` or `from`"
        newest = self._newest(method, method.levels[start.level], date)
        there = f"the newest is of {newest}" if newest else "there is none"
        return (
            f"it needs a model of {start.level} of at most {start.max_age_days} days, but {there}:"
            f" train {start.level}, or raise max_age_days of its start in methods.{method.name}.levels.{level.name}"
        )


def days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """The days from first to last, both included."""
    return (first + offset * DAY for offset in range((last - first).days + 1))


def ranges(chosen: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Ascending days as ranges (first, last) without gaps."""
    found: list[tuple[dt.date, dt.date]] = []
    for day in chosen:
        if found and found[-1][1] + DAY == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
