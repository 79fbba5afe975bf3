"""Care of the tables: fewer files without losing what a model was made from, and the right to be forgotten."""

from __future__ import annotations

import datetime as dt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecdctr_spark.config import Config, ConfigError
from ecdctr_spark.tables.schemas import (
    CLICKS,
    DAILY_COUNTS,
    IMPRESSIONS,
    LABELLED,
    MODELS,
    PREDICTIONS,
    QUARANTINE,
    SNAPSHOTS,
    TABLES,
    USERS,
    VOCABULARY,
    Table,
    samples_table,
)
from ecdctr_spark.tables.store import Store

_WEEK_HOURS = 168.0  # what a reader that is under way may still be reading


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
    row which nothing ties to the user any more. Raises ConfigError where no table knows the user.
    """
    users = store.spark.createDataFrame([(user,)], "user_id string")
    own = (
        store.read(VOCABULARY)
        .where("field = 'user_id' and kind = 'token'")
        .join(users.withColumnRenamed("user_id", "token"), "token", how="left_semi")
    )
    indices = [row["index"] for row in own.select("index").collect()]  # one, or none
    events = store.read(IMPRESSIONS).join(users, "user_id", how="left_semi").select("event_id")
    removed = {
        CLICKS.name: store.delete(CLICKS, events, "kept.event_id = keys.event_id"),
        QUARANTINE.name: store.delete(QUARANTINE, users, _IN_QUARANTINE),
        DAILY_COUNTS.name: store.delete(DAILY_COUNTS, users, "kept.entity = 'user_id' and kept.key = keys.user_id"),
    }
    samples = samples_table(config.features)
    for table, column in (
        (IMPRESSIONS, "user_id"),
        (USERS, "user_id"),
        (LABELLED, "user_id"),
        (samples, "user"),
        (PREDICTIONS, "user_id"),
    ):
        removed[table.name] = store.delete(table, users, f"kept.{column} = keys.user_id")
    if indices:
        keys = store.spark.createDataFrame([(index,) for index in indices], "index int")
        removed[SNAPSHOTS.name] = store.delete(SNAPSHOTS, keys, "kept.entity = 'user_id' and kept.index = keys.index")
        removed[VOCABULARY.name] = store.delete(VOCABULARY, keys, "kept.index = keys.index")
        store.insert_new(VOCABULARY, _empty(store, indices))
    if not any(removed.values()):
        raise ConfigError(f"--user {user}: no table under {store.root} knows this user")
    for table in _every_table(config):
        store.vacuum(table, 0)
    return removed


# A line that could not be parsed names its user somewhere in its text.
_IN_QUARANTINE = """
    get_json_object(kept.row, '$.user_id') = keys.user_id
    or contains(get_json_object(kept.row, '$._corrupt_record'), keys.user_id)
"""


def _empty(store: Store, indices: list[int]) -> DataFrame:
    """Rows of the vocabulary that hold an index and no token of anyone."""
    rows = store.spark.createDataFrame([(index,) for index in indices], "index int")
    return rows.select(
        F.lit("user_id").alias("field"),
        F.lit("forgotten").alias("kind"),
        F.col("index").cast("string").alias("token"),
        "index",
        F.timestamp_seconds(F.lit(0)).alias("since"),
    )


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
