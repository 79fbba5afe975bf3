"""What is due between two days, and from which inputs. Pure: dates, methods and what exists in, steps out.

Chains of models are anchored at the clocks, so that a model depends on its date and configuration, not on the days that
one run was asked for. A clock strikes on the days on which its level is due:

- a level that starts from another level begins a new chain with each new model of that level, at the first strike of
  its own clock from the parent's date, and continues from strike to strike until the next new parent;
- a level without a parent begins at its first strike from `starts_on`.

Levels are asynchronous. A model that could not be made (`unavailable`), or would be trained on no samples (`void`), is
skipped: what would have been made from it is made from the one before it, up to an age limit, under another identity,
since an identity covers the parents.

A command may be limited to levels of some `clocks`, so that each clock has a job of its own. It trains no model of
another clock and judges none: those are taken as they stand in the registry (see `standing`), which is the newest model
that was made on each date. One that is late is replaced like one that could not be made.

What was made and is no longer current is due again, whichever day it is of: late rows and clicks reach the predictions
of days that were asked for before.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ecdctr_spark.methods.currency import Slice
from ecdctr_spark.methods.identity import MODEL_FORMAT, identity
from ecdctr_spark.methods.method import CLOCKS, DAY, Continue, Every, Fresh, From, How, Level, Method, Policy, Start
from ecdctr_spark.settings.base import ConfigError, plain

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
    how: How
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

    @property
    def reads(self) -> tuple[Slice, ...]:
        """The slices that it reads, in order."""
        read = days(self.first, self.date)
        return tuple((domain, day) for day in read for domain in sorted(self.level.reads.domains))

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


class Registered(NamedTuple):
    """A model of the registry, as far as its identity covers it: the first day that it read, and the parents' ids."""

    model: Model
    first: dt.date
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Existing:
    """What exists.

    `ingested` and `built` days; `empty` days, whose logs were looked for and are not there; `void` slices, known to
    hold no samples. The ids of the `models` that need not be made, and of those that are `outdated`: there, but to be
    made again. Of both, those that were `removed`: they are made again where another is to be made from them. By day
    and method identity the model whose predictions are there: None where they are no longer current, "" where the day
    was asked for and nothing was predicted. All models of the registry, `registered` the oldest first.
    """

    ingested: frozenset[dt.date] = frozenset()
    built: frozenset[dt.date] = frozenset()
    empty: frozenset[dt.date] = frozenset()
    void: frozenset[Slice] = frozenset()
    models: frozenset[str] = frozenset()
    outdated: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    evaluated: Mapping[tuple[dt.date, str], str | None] = field(default_factory=dict)
    registered: tuple[Registered, ...] = ()


_Key = tuple[str, str, dt.date]  # method, level and date of a model


@dataclass
class _Struck:
    """The dates up to `until` on which a level of a method has a model, ascending."""

    until: dt.date
    dates: list[dt.date]


@dataclass(frozen=True)
class Planner:
    """Plans the methods on one data set, whose first day is `first_day`, without the models that are `unavailable` and
    those that would read `void` slices only. Levels of `clocks` are trained; of the others, the models `given` are
    there and no more."""

    methods: tuple[Method, ...]
    data_set: str
    first_day: dt.date
    void: frozenset[Slice] = frozenset()
    unavailable: frozenset[_Key] = frozenset()
    clocks: frozenset[Every] = CLOCKS
    given: Mapping[_Key, Model] = field(default_factory=dict)
    _known: dict[_Key, Training] = field(default_factory=dict, repr=False, compare=False)
    _struck: dict[tuple[str, str], _Struck] = field(default_factory=dict, repr=False, compare=False)

    def plan(self, first: dt.date, last: dt.date, existing: Existing) -> tuple[Step, ...]:
        """The steps of `run --from first --to last`, in order: predict the ads of each day with the models that served
        then, and leave the models of `last` ready. Predictions of other days that are no longer current are due too,
        and the models that all those are made from, however old. Days are ingested and built from first_day, since
        features look back; a day without logs is tried again only where it is asked for. A day without ads has
        nothing to predict. Limited to some clocks, the same without the trainings of the other levels, and without the
        predictions of methods whose serving level is among those.

        Raises ConfigError where a day cannot be planned.
        """
        named = {self.method_identity(method): method for method in self.served}
        before = {day for day, name in existing.evaluated if name in named}
        predictions = [
            step for day in sorted({*days(first, last), *before}) if (step := self._prediction(day, named, existing))
        ]
        serving = [model for step in predictions for _, model in step.models]
        wanted = [self.serving(method, day) for method in self.served for day in days(first - DAY, last)]
        struck = [
            self.training(method, level.name, date)
            for method in self.methods
            for level in method.levels.values()
            if self._trains(level)
            for date in self._due(method, level, first, last)
        ]
        there = existing.models.union(model.model_id for model in self.given.values())
        usable = there - existing.removed
        due = [model.model_id for model in serving if model.model_id not in usable]
        due += [training.model_id for training in (*wanted, *struck) if training.model_id not in there]
        missing = self._with_parents(due, usable)
        day_by_day: list[Training | Prediction] = [*missing, *predictions]
        day_by_day.sort(key=self._moment)
        return (*self._counted(first, last, existing), *day_by_day)

    @property
    def served(self) -> tuple[Method, ...]:
        """The methods whose serving level is trained, and which predict."""
        return tuple(method for method in self.methods if self._trains(method.levels[method.serves]))

    def serving(self, method: Method, day: dt.date) -> Training:
        """The training of the method's newest serving model that has seen no day after `day`. Raises ConfigError where
        there is none."""
        level = method.levels[method.serves]
        date = self._newest(method, level, day)
        if date is None:
            raise ConfigError(
                f"method {method.name}: {level.name} has no model of {day} or before: its chain starts with the"
                f" first samples of {self._anchor(level)} or later; ask for later days, or change calendar.first_day or"
                " starts_on"
            )
        return self.training(method, level.name, date)

    def training(self, method: Method, level_name: str, date: dt.date) -> Training:
        """The training of a level's model on a date at which its clock strikes.

        Raises ConfigError where the level's chain begins later, or no start applies.
        """
        level = method.levels[level_name]
        if date < self._anchor(level):
            raise ConfigError(f"{level_name} of {date}: its chain starts with the logs of {self._anchor(level)}")
        asked = (method.name, level_name, date)
        if asked not in self._known:
            for day in self._chain(method, level, date):  # parents first, however long the chain is
                key = (method.name, level_name, day)
                if key not in self._known:
                    self._known[key] = self._resolved(method, level, day)
        return self._known[asked]

    def method_identity(self, method: Method) -> str:
        """The method's name and a hash of what its predictions depend on."""
        levels = {name: plain(level, "title", "when_it_fails") for name, level in method.levels.items()}
        settings = {**plain(method, "title"), "levels": levels}
        return f"{method.name}-{identity(MODEL_FORMAT, data_set=self.data_set, method=settings)}"

    def without(self, model_id: str) -> Planner:
        """The same planner, with this model unavailable in every method."""
        missed = {key for key, training in self._known.items() if training.model_id == model_id}
        return replace(self, unavailable=self.unavailable | missed, _known={}, _struck={})

    def knowing(self, void: frozenset[Slice]) -> Planner:
        """The same planner, on samples of which these slices are void."""
        return self if void == self.void else replace(self, void=void, _known={}, _struck={})

    def _counted(self, first: dt.date, last: dt.date, existing: Existing) -> list[Ingest | Build]:
        """The ingests and the build that are due. All built days after one that is to be built are built again."""
        asked = [day for day in days(self.first_day, last) if day >= first or day not in existing.empty]
        ingests = [Ingest(*range_) for range_ in ranges(day for day in asked if day not in existing.ingested)]
        unbuilt = [day for day in asked if day not in existing.built]
        return [*ingests, *([Build(unbuilt[0], max([last, *existing.built]))] if unbuilt else [])]

    def _prediction(self, day: dt.date, named: Mapping[str, Method], existing: Existing) -> Prediction | None:
        due = []
        for name, method in named.items():
            held = existing.evaluated.get((day, name), "")
            if held == "" and ("ad", day) in self.void:
                continue
            model = self.serving(method, day - DAY).model
            if held != model.model_id or model.model_id not in existing.models:
                due.append((name, model))
        return Prediction(day, tuple(due)) if due else None

    def _with_parents(self, due: Iterable[str], models: Collection[str]) -> list[Training]:
        """The trainings of the models that are due, and of those they need that are not among `models`, each once.
        Raises ConfigError for one that was removed and that a job of another clock trains."""
        known = {training.model_id: training for training in self._known.values()}
        missing: dict[str, Training] = {}
        left = list(due)
        while left:
            name = left.pop()
            if name not in known:
                raise ConfigError(
                    f"{name} was removed (storage.keep_models_days) and is needed again: run without training.clocks,"
                    " which trains it too"
                )
            training = known[name]
            if training.model_id not in missing:
                missing[training.model_id] = training
                left += [parent.model_id for parent in training.parents if parent.model_id not in models]
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
                    snapshot_dimension=method.levels[level.memory.of].dimension if level.memory else 0,
                    teacher=self._teacher(method, level, date),
                )
                parents = [model.model_id for model in unnamed.parents]
                return replace(unnamed, model_id=_model_id(self.data_set, unnamed, parents))
        raise ConfigError(f"{level.name} of {date} cannot start: {self._why_not(method, level, date)}")

    def _started(
        self, method: Method, level: Level, date: dt.date, start: Start
    ) -> tuple[How, Model | None, Policy | None] | None:
        """How the start begins the model of the date, and from which parent; None where it does not apply."""
        if isinstance(start, Fresh):
            return "fresh", None, None
        if isinstance(start, From):
            parent = self._parent(method, level, date)
            return ("from", self._model(method, start.level, parent), start.policy) if parent else None
        before = self._chain(method, level, date)[:-1]
        return ("continue", self._model(method, level.name, before[-1]), EVERYTHING) if before else None

    def _chain(self, method: Method, level: Level, date: dt.date) -> Sequence[dt.date]:
        """The dates of the chain of the model of `date`, up to it."""
        parent = self._parent(method, level, date)
        if not level.continues or (level.parent and not parent):
            return [date]
        return [*self._strikes(method, level, parent or self.first_day, date - DAY), date]

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
        return tuple(self._model(method, of.name, day) for day in there[-memory.snapshots :])

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
        return self._model(method, teacher.name, newest)

    def _first_read(self, level: Level, date: dt.date, continued: Model | None) -> dt.date:
        if continued:
            return continued.date + DAY
        since = (
            level.clock.newest(date - DAY) + DAY if level.reads.days is None else date - (level.reads.days - 1) * DAY
        )
        return max(since, self.first_day)

    def _trains(self, level: Level) -> bool:
        return level.clock.every in self.clocks

    def _model(self, method: Method, level_name: str, date: dt.date) -> Model:
        """The model of a date in `_strikes`."""
        return self.given.get((method.name, level_name, date)) or self.training(method, level_name, date).model

    def _due(self, method: Method, level: Level, first: dt.date, last: dt.date) -> list[dt.date]:
        """The dates from `first` to `last` on which the level is due. Limited to some clocks, also the newest before
        them, which no serving model may ask for."""
        struck = self._strikes(method, level, first, last)
        before = self._newest(method, level, first - DAY) if self.clocks != CLOCKS else None
        return [before, *struck] if before else struck

    def _newest(self, method: Method, level: Level, day: dt.date, max_age_days: int | None = None) -> dt.date | None:
        """The newest date up to `day` on which the level has a model, None where there is none or it is too old."""
        oldest = self.first_day if max_age_days is None else day - max_age_days * DAY
        there = self._strikes(method, level, oldest, day)
        return there[-1] if there else None

    def _strikes(self, method: Method, level: Level, first: dt.date, last: dt.date) -> list[dt.date]:
        """The dates from `first` to `last` on which the level has a model, ascending: its clock strikes, its chain has
        begun, and the model is available and reads samples, or is given."""
        found = self._struck.setdefault((method.name, level.name), _Struck(self._anchor(level) - DAY, []))
        date, ahead = level.clock.newest(last), []
        while date > found.until:
            ahead.append(date)
            date = level.clock.newest(date - DAY)
        for date in reversed(ahead):  # ascending: whether a model reads samples depends on those before it
            found.until = date
            if self._is_there(method, level, date):
                found.dates.append(date)
        return found.dates[bisect_left(found.dates, first) : bisect_right(found.dates, last)]

    def _is_there(self, method: Method, level: Level, date: dt.date) -> bool:
        """Whether the level has a model of a date on which its clock strikes."""
        key = (method.name, level.name, date)
        if not self._trains(level):
            return key in self.given
        return key not in self.unavailable and (not self.void or self._has_samples(method, level, date))

    def _has_samples(self, method: Method, level: Level, date: dt.date) -> bool:
        """Whether any slice that the model reads holds samples. True where it cannot start: `training` says why."""
        try:
            return not self.void.issuperset(self.training(method, level.name, date).reads)
        except ConfigError:
            return True

    def _anchor(self, level: Level) -> dt.date:
        return max(level.starts_on or self.first_day, self.first_day)

    def _why_not(self, method: Method, level: Level, date: dt.date) -> str:
        start = level.parent
        if start is None:
            return f"it only continues, and there is no model before {date}: add a start `fresh` or `from`"
        parent = method.levels[start.level]
        needed = f"it needs a model of {parent.name} of at most {start.max_age_days} days, but"
        newest = self._newest(method, parent, date)
        if newest is None:
            due = f"which is due every {parent.clock.every}"
            return f"{needed} there is none: train {parent.name}, {due}, or ask for later days"
        return (
            f"{needed} the newest is of {newest}: train {parent.name}, or raise max_age_days of its start in"
            f" methods.{method.name}.levels.{level.name}"
        )


def standing(
    methods: Iterable[Method], data_set: str, registered: Iterable[Registered], clocks: Collection[Every]
) -> dict[_Key, Model]:
    """The registered models of levels of other clocks than these, by method, level and date; the last of several.

    A model is one of the method's where the method's settings, the days that it read and its parents give its identity,
    and its parents are of the method too. So no model of another configuration is taken, whichever parents were late.
    """
    found: dict[_Key, Model] = {}
    for method in methods:
        order, own = {name: position for position, name in enumerate(method.levels)}, set[str]()
        known = [each for each in registered if each.model.level in order]
        for each in sorted(known, key=lambda each: (each.model.date, order[each.model.level])):  # after its parents
            level, date = method.levels[each.model.level], each.model.date
            if own.issuperset(each.parents) and each.model.model_id in _possible_ids(data_set, level, each):
                own.add(each.model.model_id)
                if level.clock.every not in clocks and level.clock.newest(date) == date:
                    found[method.name, level.name, date] = each.model
    return found


def _possible_ids(data_set: str, level: Level, made: Registered) -> Iterator[str]:
    """The identities that the model has by each start of the level."""
    for start in level.starts:
        policy = start.policy if isinstance(start, From) else EVERYTHING if isinstance(start, Continue) else None
        begun = Training("", level, made.model.date, made.first, start.how, policy)
        yield _model_id(data_set, begun, made.parents)


def _model_id(data_set: str, training: Training, parents: Sequence[str]) -> str:
    level = training.level
    made_from = identity(
        MODEL_FORMAT,
        data_set=data_set,
        days=[training.first, training.date],
        level={name: getattr(level, name) for name in ("network", "train", "memory", "teacher", "keeps")},
        reads=plain(level.reads, "days"),
        how=training.how,
        policy=training.policy,
        parents=parents,
    )
    return f"{level.name}-{training.date}-{made_from}"


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
