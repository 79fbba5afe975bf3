"""Maintenance of the tables: compaction that keeps what models were made from, and erasure of a user.

A table gets files and versions with each night. `ecdctr tidy` merges the small files, and removes those of old versions
and old models; a run does so too, every storage.tidy_days.

Erasure removes the user's rows from every table of every configuration under the root, the token from each vocabulary
(its index is never given to another) and the user's vectors from the snapshots, then vacuums. Versions from before it
cannot be read any more. The raw logs are the user's own to clean.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, get_args

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.events import event
from ecdctr_spark.pipeline.registry import now, record
from ecdctr_spark.pipeline.retention import remove_models, remove_unfinished
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.sources.values import DECIMAL_ZEROS, PADDING
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import (
    IMPRESSIONS,
    MODELS,
    STEPS,
    TABLES,
    VOCABULARY,
    Person,
    Scope,
    Table,
    samples_table,
)
from ecdctr_spark.tables.small import read_rows
from ecdctr_spark.tables.store import Store

_TIDIED = "tidy"  # of the ledger


class Tidied(NamedTuple):
    """How many models were removed, and how many files of old versions of the tables."""

    models: int
    files: int


def tidy_is_due(root: Root, config: Config) -> bool:
    """Whether storage.tidy_days have passed since the tables were tidied or, where they never were, since the first
    step under the root."""
    ledger = read_rows(root, STEPS) if config.storage.tidy_days is not None else []
    tidied = [row["finished"] for row in ledger if row["step"] == _TIDIED]
    since = max(tidied, default=min((row["finished"] for row in ledger), default=None))
    return since is not None and now() - since >= dt.timedelta(days=config.storage.tidy_days or 0)


def tidy(store: Store, config: Config) -> Tidied:
    """Removes old models and what killed trainings have left (see retention), compacts every table under the root, of
    all logs and data sets, and removes files that are part of no version of the last storage.keep_days and of no
    version that a model was made from."""
    started = now()
    models = remove_models(store, config.storage.keep_models_days)
    remove_unfinished(store.root, config.storage.keep_days)
    pins = _pins(store.root)
    files = 0
    for place, tables in _places(store, config):
        for table in filter(place.exists, tables):
            place.compact(table)
            keep = pins.get((place.data_set, table.name), set())
            files += pinned.vacuum(place.place(table), 24 * config.storage.keep_days, keep)
    seconds = (now() - started).total_seconds()
    record(store.root, [{"step": _TIDIED, "seconds": seconds}])
    event("tables tidied", files=files, seconds=seconds)
    return Tidied(models, files)


def forget(store: Store, config: Config, user: str) -> dict[str, int]:
    """Removes a user from every table and snapshot under the root, of all logs and data sets, old versions included.
    Returns the number of rows removed by table. Raises ConfigError where no table knows the user.

    Erasure takes precedence over pins: earlier versions can no longer be read. The user's index is kept without its
    token, so that no other token gets it. Models keep numbers in that row, which nothing links to the user any more.
    Each table declares which rows are about a user (schemas.Person).
    """
    users = store.spark.createDataFrame([(user,)], "person string")
    removed: Counter[str] = Counter()
    for place, tables in _places(store, config):
        removed.update(_forgotten(place, tables, users))
        for table in filter(place.exists, tables):
            pinned.vacuum(place.place(table), hours=0)
    if not any(removed.values()):
        raise ConfigError(
            f"--user {user}: no table under {store.root} knows this user, or none does any more;"
            " expected a user_id of the logs"
        )
    return dict(removed)


def _forgotten(store: Store, tables: list[Table], users: DataFrame) -> dict[str, int]:
    """Removes the users from the tables of one place; returns the rows removed by table."""
    keys = {
        "user": users,
        "raw": users,
        "event": _of(store, IMPRESSIONS, users).select(F.col("event_id").alias("person")),
        "index": _of(store, VOCABULARY, users).select(F.col("index").alias("person")),
    }
    held = [(table, table.person) for table in tables if table.person]
    # Rows found through another table are removed before that table's: when killed and run again, all are still found.
    held.sort(key=lambda pair: pair[1].holds in ("user", "raw"))
    return {table.name: _removed(store, table, person, keys[person.holds]) for table, person in held}


# The raw id may be another spelling of the canonical one (sources/values.py). A row that could not be parsed names its
# user somewhere in its text.
_IN_RAW = f"""
    regexp_replace(
        regexp_replace(get_json_object(kept.{{column}}, '$.user_id'), r'{PADDING}', ''), r'{DECIMAL_ZEROS}', '$1'
    ) = keys.person
    or contains(get_json_object(kept.{{column}}, '$._corrupt_record'), keys.person)
"""


def _of(store: Store, table: Table, users: DataFrame) -> DataFrame:
    """The rows of these users in a table that holds user ids."""
    if table.person is None or table.person.holds != "user":
        raise ValueError(f"table {table.name} holds no user ids")
    rows = store.read(table).where(table.person.where)
    return rows.join(users, F.col(table.person.column) == F.col("person"), how="left_semi")


def _removed(store: Store, table: Table, person: Person, keys: DataFrame) -> int:
    """Removes or empties the rows whose `person` is among the keys; returns how many."""
    same = _IN_RAW if person.holds == "raw" else "kept.{column} = keys.person"
    condition = f"({person.where}) and ({same.replace('{column}', person.column)})"
    if person.instead:
        return store.update(table, keys, condition, person.instead)
    return store.delete(table, keys, condition)


def _places(store: Store, config: Config) -> Iterator[tuple[Store, list[Table]]]:
    """Each place under the root with its tables: the root itself, and each identity of logs and of data sets."""
    every = [*TABLES.values(), samples_table(config.features)]  # all data sets' samples have one name and person
    for scope in get_args(Scope):
        tables = [table for table in every if table.scope == scope]
        identities = [place.name for place in store.root.at(scope).list()]
        for place in [store.of(scope, identity) for identity in identities] or [store]:
            yield place, tables


def _pins(root: Root) -> dict[tuple[str, str], set[int]]:
    """By (data set, table), the versions that models which are there were made from."""
    pins: dict[tuple[str, str], set[int]] = {}
    for row in read_rows(root, MODELS):
        for table, version in row["tables"].items() if row["removed"] is None else ():
            pins.setdefault((row["data_set"], table), set()).add(version)
    return pins
