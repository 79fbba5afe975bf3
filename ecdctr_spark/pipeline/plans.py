"""What is due, without doing it: commands that only plan need neither Spark nor torch."""

from __future__ import annotations

import datetime as dt

from ecdctr_spark.config import Config
from ecdctr_spark.methods.planning import Existing, Planner, Step, Training
from ecdctr_spark.pipeline import registry
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources import SOURCES
from ecdctr_spark.storage import Root


def plan(planner: Planner, config: Config, first: dt.date, last: dt.date, existing: Existing) -> tuple[Step, ...]:
    """The plan of the days first..last on what exists. Raises ConfigError where the days are out of order or precede
    the logs."""
    in_order(first, last)
    check_source(config)
    if first <= config.calendar.first_day:
        raise ConfigError(
            f"--from {first}: there are no logs before it (calendar.first_day is {config.calendar.first_day})"
        )
    return planner.plan(first, last, existing)


def training_of(root: Root, config: Config, level: str, date: dt.date) -> Training:
    """The training of a level of a configured method on a date.

    Raises ConfigError where no method has the level, its clock does not strike then, or no start applies.
    """
    check_source(config)
    planner = registry.planner(config, registry.existing(root, config))
    for method in planner.methods:
        if level in method.levels:
            clock = method.levels[level].clock
            if clock.newest(date) != date:
                raise ConfigError(f"--date {date}: {level} is due every {clock.every}, last on {clock.newest(date)}")
            return planner.training(method, level, date)
    known = dict.fromkeys(name for method in planner.methods for name in method.levels)
    raise ConfigError(f"--level {level}: expected one of {', '.join(known)}")


def check_source(config: Config) -> None:
    """Raises ConfigError that names an unknown kind of source, before anything is done."""
    if config.source.kind not in SOURCES:
        raise ConfigError(f"source.kind: no source {config.source.kind}; expected one of {', '.join(SOURCES)}")


def method_identities(planner: Planner) -> list[str]:
    """The identities of the planner's methods, in order."""
    return [planner.method_identity(method) for method in planner.methods]


def in_order(first: dt.date, last: dt.date) -> None:
    """Raises ConfigError where the first day comes after the last."""
    if last < first:
        raise ConfigError(f"--from {first} --to {last}: the first day comes after the last")
