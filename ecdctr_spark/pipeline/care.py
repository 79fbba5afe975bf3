"""Care of the tables: fewer files without losing what a model was made from, and the right to be forgotten."""

from __future__ import annotations

import datetime as dt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.tables.schemas import IMPRESSIONS, MODELS, TABLES, VOCABULARY, Person, Table, samples_table
from ecdctr_spark.tables.store import Store

_WEEK_HOURS = 168.0  # a running reader may still need what it opened


def tidy(store: Store, config: Config) -> dict[str, float]:
    """Compacts every table and removes files that neither a version of the last week nor a version that a registered
    model pins reads. Returns for each table how many hours back its versions stay readable."""
    pinned = _pinned(store)
    hours = {}
    for table in _every_table(config):
        store.compact(table)
        oldest = _oldest(store, table, pinned.get(table.name, set()))
        hours[table.name] = max(_WEEK_HOURS, oldest)
        store.vacuum(table, hours[table.name])
    return hours


def forget(store: Store, config: Config, user: str) -> dict[str, int]:
    """Removes a user from every table and from the snapshots, old versions included; returns rows removed by table.

    Erasure goes before pins: versions from before it cannot be read any more. The user's row of the embedding stays
    empty for ever: its index is kept without the token, so that no other token gets it. Models keep numbers in that
    row which nothing ties to the user any more. Which rows are the user's, each table declares (schemas.Person). Raises
    ConfigError where no table knows the user.
    """
    users = store.spark.createDataFrame([(user,)], "person string")
    keys = {
        "user": users,
        "raw": users,
        "event": _of(store, IMPRESSIONS, users).select(F.col("event_id").alias("person")),
        "index": _of(store, VOCABULARY, users).select(F.col("index").alias("person")),
    }
    held = [(table, table.person) for table in _every_table(config) if table.person]
    # What is found by way of another table goes before it: killed and run again, all of it is found still.
    held.sort(key=lambda pair: pair[1].holds in ("user", "raw"))
    removed = {table.name: _removed(store, table, person, keys[person.holds]) for table, person in held}
    for table in _every_table(config):
        store.vacuum(table, 0)
    if not any(removed.values()):
        raise ConfigError(f"--user {user}: no table under {store.root} knows this user")
    return removed


# A line that could not be parsed names its user somewhere in its text.
_IN_RAW = """
    get_json_object(kept.{column}, '$.user_id') = keys.person
    or contains(get_json_object(kept.{column}, '$._corrupt_record'), keys.person)
"""


def _of(store: Store, table: Table, users: DataFrame) -> DataFrame:
    """The rows of a table that holds user ids, of these users."""
    if table.person is None or table.person.holds != "user":
        raise ValueError(f"table {table.name} holds no user ids")
    rows = store.read(table).where(table.person.where)
    return rows.join(users, F.col(table.person.column) == F.col("person"), how="left_semi")


def _removed(store: Store, table: Table, person: Person, keys: DataFrame) -> int:
    """Removes or empties the rows whose `person` is among the keys; how many."""
    same = _IN_RAW if person.holds == "raw" else "kept.{column} = keys.person"
    condition = f"({person.where}) and ({same.format(column=person.column)})"
    if person.instead:
        return store.update(table, keys, condition, person.instead)
    return store.delete(table, keys, condition)


def _every_table(config: Config) -> list[Table]:
    return [*TABLES.values(), samples_table(config.features)]


def _pinned(store: Store) -> dict[str, set[int]]:
    """The versions of each table that a registered model was made from."""
    rows = store.read(MODELS).select(F.explode("tables").alias("table", "version")).distinct().collect()
    pinned: dict[str, set[int]] = {}
    for row in rows:
        pinned.setdefault(row["table"], set()).add(row["version"])
    return pinned


def _oldest(store: Store, table: Table, versions: set[int]) -> float:
    """Hours since the oldest of the versions was committed, and one more; 0 where there are none."""
    times = [time for version, time in store.committed(table).items() if version in versions]
    if not times:
        return 0.0
    return (dt.datetime.now(dt.timezone.utc) - min(times)).total_seconds() / 3600 + 1
