"""Which models a result depends on, how each was made from its parents, and where an older model replaced the one due.

Everything follows from the fields of the levels: no level is known by its name.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ecdctr_spark.methods.method import DAY, From, Level, Method
from ecdctr_spark.methods.planning import Model, Planner
from ecdctr_spark.settings.base import plain

Row = Mapping[str, Any]

How = Literal["continues", "starts", "remembers", "taught"]

_CLOCKS = ("month", "week", "day")


class Line(NamedTuple):
    """A level, as it is drawn: its title and what its clock counts (month, week or day). Methods whose levels are equal
    share a line, as they share the models."""

    title: str
    every: str


class Link(NamedTuple):
    """How a model was made from a parent: it continues, starts from, remembers the snapshot of, or is taught by it."""

    how: How
    parent: str


class Member(NamedTuple):
    """A model of the lineage: its row of MODELS, its line, and a link for each of its parents."""

    row: Row
    line: Line
    links: tuple[Link, ...]


class Replaced(NamedTuple):
    """A day that a method predicted on an older model of a line than the one `due`; `used` is None where it had no
    model of that line at all."""

    day: dt.date
    method: str
    line: Line
    due: dt.date
    used: dt.date | None


def lines(methods: Sequence[Method]) -> dict[tuple[str, str], Line]:
    """The line of each (method, level), the slowest clock first. Where lines have one title, the methods are added."""
    sharing: dict[str, list[tuple[Method, Level]]] = {}
    for method in methods:
        for level in method.levels.values():
            sharing.setdefault(_definition(method, level), []).append((method, level))
    titles = Counter(group[0][1].title for group in sharing.values())
    found = {}
    for group in sorted(sharing.values(), key=lambda group: _CLOCKS.index(group[0][1].clock.every)):
        _, level = group[0]
        users = ", ".join(method.title for method, _ in group)
        title = level.title if titles[level.title] == 1 else f"{level.title} ({users})"
        found.update({(method.name, level.name): Line(title, level.clock.every) for method, level in group})
    return found


def members(models: Iterable[Row], methods: Sequence[Method], served: Mapping[str, Collection[str]]) -> list[Member]:
    """The models that the methods depend on, the oldest first: from MODELS rows and, by method, the models that
    predicted or are to predict."""
    known, line_of = {row["model_id"]: row for row in models}, lines(methods)
    found: dict[str, Member] = {}
    for method in methods:
        for name in ancestors(served[method.name], known):
            row = known[name]
            level = method.levels[row["level"]]
            links = tuple(Link(_how(level, row, parent, known), parent) for parent in row["parents"])
            found.setdefault(name, Member(row, line_of[method.name, level.name], links))
    return sorted(found.values(), key=lambda member: (member.row["date"], member.row["model_id"]))


def ancestors(names: Collection[str], known: Mapping[str, Row]) -> set[str]:
    """The models named and all that they were made from, as far as they are known."""
    found: set[str] = set()
    left = [name for name in names if name in known]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [parent for parent in known[name]["parents"] if parent in known]
    return found


def replaced(planner: Planner, method: Method, day: dt.date, used: str, models: Mapping[str, Row]) -> list[Replaced]:
    """Where the model that predicted a day was older than due, or made from older models than due. `planner` plans as
    if every model were there."""
    due = planner.serving(method, day - DAY)
    if due.model_id == used:
        return []
    newest = _newest(_planned(planner, method, due.model))
    held = _newest((models[name]["level"], models[name]["date"]) for name in ancestors([used], models))
    line_of = lines(planner.methods)
    return [
        Replaced(day, method.title, line_of[method.name, level], date, held.get(level))
        for level, date in newest.items()
        if held.get(level, dt.date.min) < date
    ]


def _definition(method: Method, level: Level) -> str:
    """All that the models of a level are made by: equal for levels that share their models."""
    others = (_definition(method, method.levels[other]) for other in level.refers_to)
    return "".join([json.dumps(plain(level, "title", "when_it_fails")), *others])


def _how(level: Level, row: Row, parent: str, known: Mapping[str, Row]) -> How:
    """A parent outside the registry is known by its name, which begins with its level's."""
    of = known[parent]["level"] if parent in known else parent.split("-", 1)[0]
    if of == level.name:
        return "continues"
    first = parent == row["parents"][0]
    if first and any(isinstance(start, From) and start.level == of for start in level.starts):
        return "starts"
    return "taught" if level.teacher and level.teacher.level == of else "remembers"


def _planned(planner: Planner, method: Method, model: Model) -> set[tuple[str, dt.date]]:
    """Level and date of a model and of all that it would be made from."""
    found: set[tuple[str, dt.date]] = set()
    left = [model]
    while left:
        model = left.pop()
        if (model.level, model.date) not in found:
            found.add((model.level, model.date))
            left += planner.training(method, model.level, model.date).parents
    return found


def _newest(dates: Iterable[tuple[str, dt.date]]) -> dict[str, dt.date]:
    found: dict[str, dt.date] = {}
    for level, date in sorted(dates):
        found[level] = date
    return found
