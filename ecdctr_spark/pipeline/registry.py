"""The registry (MODELS: what each model was made from), the ledger (STEPS: which steps are done) and METRICS.

They are small tables, read and written without a JVM.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from ecdctr_spark.config import Config
from ecdctr_spark.methods import currency
from ecdctr_spark.methods.currency import Made, Slice
from ecdctr_spark.methods.method import CLOCKS
from ecdctr_spark.methods.planning import (
    Existing,
    Model,
    Planner,
    Prediction,
    Registered,
    Step,
    Training,
    days,
    ranges,
    standing,
)
from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.settings.features import Domain
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import (
    CLICKS,
    CONTENT,
    DAILY_CLICKS,
    DAILY_COUNTS,
    IMPRESSIONS,
    ITEMS,
    LABELLED,
    METRICS,
    MODELS,
    PREDICTIONS,
    STEPS,
    USERS,
    VOCABULARY,
    samples_table,
)
from ecdctr_spark.tables.small import Row, append_rows, literal, read_rows, replace_rows
from ecdctr_spark.training.job import TrainingResult
from ecdctr_spark.training.manifests import MANIFEST, digest
from ecdctr_spark.version import code_version

NO_LOGS, NO_ADS = "no logs", "no ads"  # steps that found nothing to do
READ_AGAIN = "read again"  # days before those of an ingest, whose rows may have come late
NOTHING = Existing()
_NAMED = 3  # models that an error names
_CHANGED = ", again: what it is made from changed since, or its folder is gone"
_NEVER = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


class Origin(NamedTuple):
    """What a model was made from: table versions by name, and the hash of slices and parents; and its own digest."""

    versions: Mapping[str, int]
    inputs: str
    digest: str


class Outdated(NamedTuple):
    """A model, and the days that it was trained on whose samples have changed since."""

    model_id: str
    days: tuple[dt.date, ...]


def planner(config: Config, existing: Existing = NOTHING) -> Planner:
    """The planner of the configured methods on the configured data set, and on what exists of it; limited to levels of
    the configured clocks (training.clocks)."""
    clocks = frozenset(config.training.clocks)
    given = {} if clocks == CLOCKS else standing(config.chosen, config.data_set_id, existing.registered, clocks)
    first_day = config.calendar.first_day
    return Planner(config.chosen, config.data_set_id, first_day, existing.void, clocks=clocks, given=given)


def existing(root: Root, config: Config) -> Existing:
    """What exists of this configuration's logs and data set.

    A day is ingested once its logs were there, and stays so: later ingests without them leave it alone. A day of
    check.without_logs needs none. A day is built where it was since its logs came and were last asked for. Models of
    levels of other clocks (training.clocks) are never outdated. What a table no longer holds, which was removed or put
    back from before, was not built and is not current; nor is a model whose folder is gone.

    Raises ConfigError that names a table which no longer holds what was ingested: the raw logs may be gone.
    """
    ledger = sorted(read_rows(root, STEPS), key=lambda row: row["finished"])
    versions = {name: at for step in ("ingest", "build", "predict") for name, at in written(root, config, step).items()}
    ingests, builds = _last(ledger, "ingest", config.logs_id), _last(ledger, "build", config.data_set_id)
    _refuse_lost(root, config, ingests, versions)
    came = _first_done(_mentions(ledger, (READ_AGAIN, "ingest"), config.logs_id))
    tried = _first_done(_mentions(ledger, (NO_LOGS,), config.logs_id))
    known = {day: at for day, at in tried.items() if day in config.check.without_logs}
    ingested = known | came | {day: row["finished"] for day, row in ingests.items()}
    built = {
        day
        for day, row in builds.items()
        if day in ingested and row["finished"] > ingested[day] and not _lost(row, versions)
    }
    empty = tried.keys() - ingested.keys()
    content = read_rows(root.at("data_set", config.data_set_id), CONTENT)
    filled = {(row["domain"], row["ds"]) for row in content if row["rows"]}
    rows = _model_rows(root, config)
    checksums, models = _checksums(content), _models(rows)
    current = currency.current(_judged(models, rows, config), checksums)
    there = frozenset(place.name for place in root.at("models").list())
    lost = frozenset(row["model_id"] for row in rows if not row["removed"]) - there
    kept = (current if config.training.restated == "again" else frozenset(models)) - lost
    return Existing(
        ingested=frozenset(ingested),
        built=frozenset(built),
        empty=frozenset(empty),
        void=frozenset((domain, day) for domain in get_args(Domain) for day in built | empty) - filled,
        models=kept,
        outdated=frozenset(models) - kept,
        removed=frozenset(row["model_id"] for row in rows if row["removed"]),
        evaluated=_evaluated(ledger, checksums, models, versions),
        registered=tuple(map(_registered, rows)),
    )


def written(root: Root, config: Config, step: str) -> dict[str, int]:
    """The versions of the tables that a step (ingest, build or predict) writes and others need, as they are now. See
    pinned.newest."""
    logs, data_set = root.at("logs", config.logs_id), root.at("data_set", config.data_set_id)
    samples = samples_table(config.features)
    home, tables = {
        "ingest": (logs, (IMPRESSIONS, CLICKS, USERS, ITEMS)),
        "build": (data_set, (LABELLED, DAILY_COUNTS, DAILY_CLICKS, VOCABULARY, CONTENT, samples)),
        "predict": (root, (PREDICTIONS, METRICS)),
    }[step]
    return pinned.newest([home.at("tables", table.name) for table in tables])


def model_named(root: Root, name: str) -> Row:
    """The registry's row of a model. Raises ConfigError where it was removed, and where none has this name: then with
    the newest models."""
    models = read_rows(root, MODELS)
    for row in models:
        if row["model_id"] == name and row["removed"]:
            raise ConfigError(
                f"--model {name}: it was removed on {row['removed'].date()} (storage.keep_models_days); train it again"
                f" by `ecdctr train --level {row['level']} --date {row['date']}`"
            )
        if row["model_id"] == name:
            return row
    there = (row for row in models if row["removed"] is None)
    newest = sorted(there, key=lambda row: (row["date"], row["model_id"]), reverse=True)[:_NAMED]
    known = ", ".join(row["model_id"] for row in newest)
    hint = f"the newest are {known}" if newest else "there is none yet: run `ecdctr run` first"
    raise ConfigError(f"--model {name}: no such model; {hint}")


def outdated(root: Root, config: Config) -> list[Outdated]:
    """The models on this configuration's data set that are no longer current and were trained on days whose samples
    have changed since, the oldest first."""
    content = read_rows(root.at("data_set", config.data_set_id), CONTENT)
    changed = {(row["domain"], row["ds"]): row["changed"] for row in content}
    rows = _model_rows(root, config)
    models = _models(rows)
    current = currency.current(models, _checksums(content))
    found = []
    for row in sorted(rows, key=lambda row: (row["date"], row["model_id"])):
        name = row["model_id"]
        if name not in current or models[name].inputs is None:
            since = {day for domain, day in models[name].reads if changed.get((domain, day), _NEVER) > row["created"]}
            found += [Outdated(name, tuple(sorted(since)))] if since else []
    return found


def checkpoint(root: Root, model_id: str) -> Root:
    """Where a model's checkpoint is published."""
    return root.at("models", model_id)


def registered_checkpoint(root: Root, name: str) -> Root:
    """The checkpoint of a registered model. Raises ConfigError as model_named does, and where the folder is gone, or
    holds other weights than were registered: it was put back from before, or is that of another model."""
    row, place = model_named(root, name), checkpoint(root, name)
    again = f"train it again by `ecdctr train --level {row['level']} --date {row['date']}`"
    if not place.at(MANIFEST).exists():
        raise ConfigError(f"checkpoint {place}: the model is not there: {again}")
    if row["digest"] not in (None, digest(place)):  # a version that did not record it left it None
        raise ConfigError(f"checkpoint {place}: its weights are not those that were registered: {again}")
    return place


def read_metrics(root: Root, methods: Sequence[str]) -> list[Row]:
    """The metrics of these methods, days in order, then the rows over all days with date "all"."""
    rows = [row for row in read_rows(root, METRICS) if row["method"] in methods]
    rows.sort(key=lambda row: (row["date"] is None, row["date"] or dt.date.min, row["domain"], row["method"]))
    return [{**row, "date": str(row["date"] or "all")} for row in rows]


def why_again(step: Step, existing: Existing, restated: Iterable[Outdated]) -> str:
    """Why a step is due again, to be shown after it; empty where it is due for the first time."""
    if isinstance(step, Training) and step.model_id in existing.outdated:
        since = {model.model_id: model.days for model in restated}.get(step.model_id)
        return f", again: {', '.join(map(str, since))} changed since" if since else _CHANGED
    if isinstance(step, Prediction) and any(
        existing.evaluated.get((step.day, name), "") != "" for name, _ in step.models
    ):
        return ", again: its ads or the model changed since, or its table has lost it"
    return ""


def inputs(root: Root, config: Config, reads: Iterable[Slice], parents: Iterable[str]) -> str:
    """The hash of what is made from these slices and models, as they are now."""
    content = read_rows(root.at("data_set", config.data_set_id), CONTENT)
    digests = {name: model.digest for name, model in _models(_model_rows(root, config)).items()}
    return currency.inputs(reads, parents, _checksums(content), digests)


def register(root: Root, config: Config, training: Training, origin: Origin, result: TrainingResult) -> Row:
    """Enters a finished model and returns its row. A model that is trained again replaces its row."""
    row = {
        "model_id": training.model_id,
        "level": training.level.name,
        "date": training.date,
        "data_set": config.data_set_id,
        "domains": sorted(training.level.reads.domains),
        "days": [training.first, training.date],
        "parents": [model.model_id for model in training.parents],
        "tables": dict(origin.versions),
        "settings": _settings(config, training),
        "code_version": code_version(),
        "ranks": result.ranks,
        "rows": result.rows,
        "seconds": result.seconds,
        "created": now(),
        "inputs": origin.inputs,
        "digest": origin.digest,
    }
    replace_rows(root, MODELS, [row], f"model_id = {literal(training.model_id)}")
    return row


def record_ingest(
    root: Root, config: Config, covered: Collection[dt.date], tried: Iterable[dt.date], **done: Any
) -> None:
    """Enters an ingest: the days tried whose logs were not there, those that were covered beside them, and those tried
    that were covered. The last range has what was done, counts and seconds."""
    asked, there = set(tried), set(covered)
    outcomes = {NO_LOGS: asked - there, READ_AGAIN: there - asked, "ingest": asked & there}
    rows = [
        {"subject": config.logs_id, "seconds": 0.0, "step": step, "from_day": first, "to_day": last}
        for step, found in outcomes.items()
        for first, last in ranges(sorted(found))
    ]
    tables = written(root, config, "ingest")
    record(root, [{**row, "tables": tables} for row in [*rows[:-1], {**rows[-1], **done}]])


def record_without_ads(root: Root, methods: Iterable[str], asked: Iterable[dt.date], existing: Existing) -> None:
    """Enters that the days asked for had no ads to predict, so that they are due once they have."""
    without = [day for day in asked if ("ad", day) in existing.void]
    record(
        root,
        [
            {"step": NO_ADS, "subject": method, "from_day": day, "to_day": day, "seconds": 0.0}
            for method in methods
            for day in without
            if (day, method) not in existing.evaluated
        ],
    )


def record(root: Root, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends finished steps to the ledger, with their counts and seconds."""
    if entries := [{**row, "finished": now()} for row in rows]:
        append_rows(root, STEPS, entries)


def _settings(config: Config, training: Training) -> str:
    """All settings that the model was made with, as JSON."""
    names = ("source", "synthetic", "calendar", "labels", "features", "sampling", "samples")
    settings = {"level": training.level, **{name: getattr(config, name) for name in names}}
    return json.dumps({name: plain(node) for name, node in settings.items()}, sort_keys=True)


def _model_rows(root: Root, config: Config) -> list[Row]:
    """The models on this configuration's data set, the oldest first."""
    rows = [row for row in read_rows(root, MODELS) if row["data_set"] == config.data_set_id]
    return sorted(rows, key=lambda row: row["created"])


def _registered(row: Row) -> Registered:
    model = Model(row["model_id"], row["level"], row["date"])
    return Registered(model, row["days"][0], tuple(row["parents"]))


def _judged(models: Mapping[str, Made], rows: Iterable[Row], config: Config) -> dict[str, Made]:
    """The models, without that by which those of levels could be outdated that this configuration does not train."""
    levels = [level for method in config.chosen for level in method.levels.values()]
    others = {level.name for level in levels if level.clock.every not in config.training.clocks}
    fixed = [row["model_id"] for row in rows if row["level"] in others]
    return {**models, **{name: models[name]._replace(parents=(), inputs=None) for name in fixed}}


def _models(rows: Iterable[Row]) -> dict[str, Made]:
    """Rows of the registry by identity."""
    return {
        row["model_id"]: Made(
            reads=tuple((domain, day) for day in days(*row["days"]) for domain in sorted(row["domains"])),
            parents=tuple(row["parents"]),
            inputs=row["inputs"],
            digest=row["digest"],
        )
        for row in rows
    }


def _checksums(content: Iterable[Row]) -> dict[Slice, int]:
    return {(row["domain"], row["ds"]): row["checksum"] for row in content}


def _mentions(ledger: Iterable[Row], steps: Collection[str], subject: str) -> Iterator[tuple[dt.date, dt.datetime]]:
    """The days of these steps, and when each finished, in the order of the ledger."""
    for row in ledger:
        if row["step"] in steps and row["subject"] == subject:
            yield from ((day, row["finished"]) for day in days(row["from_day"], row["to_day"]))


def _last(ledger: Iterable[Row], step: str, subject: str) -> dict[dt.date, Row]:
    """The last entry of a step of each day; entries come in the order of time."""
    mentions = (row for row in ledger if row["step"] == step and row["subject"] == subject)
    return {day: row for row in mentions for day in days(row["from_day"], row["to_day"])}


def _lost(row: Row, versions: Mapping[str, int]) -> list[str]:
    """The tables that no longer hold what an entry of the ledger wrote."""
    left = (row["tables"] or {}).items()
    return [name.split()[0] for name, version in left if versions.get(name, -1) < version]


def _refuse_lost(root: Root, config: Config, ingests: Mapping[dt.date, Row], versions: Mapping[str, int]) -> None:
    needed = (day for day in ingests if day not in config.check.without_logs)
    if lost := {day: tables for day in sorted(needed) if (tables := _lost(ingests[day], versions))}:
        (first, tables), last = next(iter(lost.items())), max(lost)
        raise ConfigError(
            f"{root.at('logs', config.logs_id, 'tables', tables[0])}: no longer holds what was ingested of"
            f" {first}..{last}: restore it, or write it again by `ecdctr ingest --from {first} --to {last}`, or name"
            " days whose logs are gone in check.without_logs"
        )


def _first_done(mentions: Iterable[tuple[dt.date, dt.datetime]]) -> dict[dt.date, dt.datetime]:
    """When each day was done first; mentions come in the order of time."""
    found: dict[dt.date, dt.datetime] = {}
    for day, finished in mentions:
        found.setdefault(day, finished)
    return found


def _evaluated(
    ledger: Iterable[Row], checksums: Mapping[Slice, int], models: Mapping[str, Made], versions: Mapping[str, int]
) -> dict[tuple[dt.date, str], str | None]:
    """See Existing.evaluated: of several predictions of a day by a method, the last is there."""
    digests = {name: model.digest for name, model in models.items()}
    found: dict[tuple[dt.date, str], str | None] = {}
    for row in ledger:
        key = (row["from_day"], row["subject"])
        if row["step"] == NO_ADS or (row["step"] == "predict" and row["rows_kept"] == 0):
            found[key] = ""
        elif row["step"] == "predict":
            made_from = currency.inputs([("ad", row["from_day"])], [row["detail"]], checksums, digests)
            found[key] = row["detail"] if row["inputs"] == made_from and not _lost(row, versions) else None
    return found


def now() -> dt.datetime:
    """This moment, as the ledger and the registry have it."""
    return dt.datetime.now(dt.timezone.utc)
