"""`ecdctr init`: reads excerpts of a user's logs, and writes the configuration that proposing/ makes of them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ecdctr_spark.config import Config, load_config
from ecdctr_spark.methods.method import DAY
from ecdctr_spark.methods.planning import Build, Ingest, Planner, Prediction, Training, days
from ecdctr_spark.pipeline import registry
from ecdctr_spark.proposing.proposal import Proposal, propose
from ecdctr_spark.proposing.text import lines_of, yaml_of
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.excerpts import Excerpt, excerpt
from ecdctr_spark.storage import Root

_LOOKED = 8  # files of one folder that may be a log each
_ALIKE = 0.5  # share of columns that files of one log have in common
_PART = re.compile(r".*=.*|[\d.T_:-]+")  # a folder of a day or of a value, not of a log
_DAYS = 7  # of the run that is suggested
_ANY = "2000-01-01"  # a day, while the first of the logs is not known


def initialise(folders: Sequence[str], given: Mapping[str, str], output: Path, overwrite: bool) -> Iterator[str]:
    """Writes the configuration, and yields what to print: the guesses, what a run would do, and the next commands.

    `given` has the folders of logs that the user has named. Raises ConfigError where the file is there and must not be
    replaced, no impressions are found, or a folder cannot be read.
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"init: {output} is there already; give another --output, or --overwrite to replace it")
    if not folders and not given:
        raise ConfigError("init: give the folder of your logs, or --impressions, --clicks, --users and --items")
    named = {log: excerpt(Root.parse(folder)) for log, folder in given.items()}
    places = [place for folder in folders for place in logs_below(Root.parse(folder))]
    others = [excerpt(place) for place in places if str(place) not in {one.place for one in named.values()}]
    proposal = propose(others, named, load_config([], [f"calendar.first_day={_ANY}"]).chosen[0])
    try:
        output.write_text(yaml_of(proposal), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"init: {output} cannot be written: {error.strerror}") from error
    yield from (_read(one) for one in (*named.values(), *others))
    yield ""
    yield from lines_of(proposal)
    yield ""
    yield from _next(proposal, output)


def logs_below(place: Root) -> list[Root]:
    """The folders and files that may each be a log: a folder whose files are of one kind is one, with all below it."""
    if place.size() is not None or place.at("_delta_log").exists():
        return [place]
    entries = [entry for entry in place.list() if not entry.name.startswith(("_", "."))]
    files = [entry for entry in entries if entry.size() is not None]
    inside = [entry for entry in entries if entry not in files]
    if files:
        return [*files, *(log for folder in inside for log in logs_below(folder))] if _differ(files) else [place]
    if not inside or all(_PART.fullmatch(folder.name) for folder in inside):
        return [place]
    return [log for folder in inside for log in logs_below(folder)]


def _differ(files: Sequence[Root]) -> bool:
    """Whether files beside each other are logs of different kinds."""
    if not 1 < len(files) <= _LOOKED:
        return False
    first, *others = (set(excerpt(file).columns) for file in files)
    return any(len(first & columns) < _ALIKE * len(first | columns) for columns in others)


def _read(one: Excerpt) -> str:
    much = "all" if one.whole else "the first and last"
    files = f"{one.files:,} {one.form} file{'s' if one.files > 1 else ''}"
    return f"read   {one.place}: {much} {one.rows:,} rows of {files}"


def _next(proposal: Proposal, output: Path) -> Iterator[str]:
    """What is to be done, and what a run would do."""
    yield f"written: {output}"
    if proposal.open:
        yield f"give what could not be decided (???): {', '.join(proposal.open)}"
        yield f"then:  ecdctr check --raw --conf {output}"
        return
    config = load_config([output])
    planner = registry.planner(config)
    last = proposal.last_day or config.calendar.first_day
    first = _first_predicted(planner, config, last)
    yield "next:"
    yield f"  ecdctr check --raw --conf {output}    # what an ingest would read, of all rows"
    if first is None:
        yield f"the logs end on {last}, before a model could predict: {_why(planner, config, last)}"
        return
    first = max(first, last - (_DAYS - 1) * DAY)
    command = f"ecdctr run --conf {output} --from {first} --to {last}"
    yield f"  {command}"
    yield "which, with nothing done yet, would"
    yield from (f"  {line}" for line in _planned(planner, config, first, last))


def _first_predicted(planner: Planner, config: Config, last: dt.date) -> dt.date | None:
    """The first day whose ads all methods could predict, by models that started as configured."""
    for day in days(config.calendar.first_day + DAY, last):
        try:
            for method in config.chosen:
                planner.serving(method, day - DAY)
        except ConfigError:
            continue
        return day
    return None


def _why(planner: Planner, config: Config, last: dt.date) -> str:
    try:
        planner.serving(config.chosen[0], last - DAY)
    except ConfigError as error:
        return str(error)
    return "more days are needed"


def _planned(planner: Planner, config: Config, first: dt.date, last: dt.date) -> Iterator[str]:
    steps = planner.plan(first, last, registry.NOTHING)
    yield from (str(step) for step in steps if isinstance(step, Ingest | Build))
    trained: dict[str, list[dt.date]] = {}
    for step in steps:
        if isinstance(step, Training):
            trained.setdefault(f"{step.level.title} ({step.level.clock.every}ly)".replace("dayly", "daily"), []).append(
                step.date
            )
    for level, dates in trained.items():
        yield f"train    {level}: {len(dates)} model{'s' if len(dates) > 1 else ''}, of {_span(dates)}"
    predicted = [step.day for step in steps if isinstance(step, Prediction)]
    if predicted:
        yield f"predict  {len(predicted)} day{'s' if len(predicted) > 1 else ''} of ads, {_span(predicted)}"


def _span(dates: Sequence[dt.date]) -> str:
    return str(dates[0]) if len(dates) == 1 else f"{min(dates)} to {max(dates)}"
