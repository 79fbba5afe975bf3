"""Care of the tables: fewer files without losing what a model was made from, and the right to be forgotten."""

from __future__ import annotations

import datetime as dt

from pyspark.sql import functions as F

from ecdctr_spark.config import Config
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.tables.schemas import (
    CLICKS,
    DAILY_CLICKS,
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
    own = "kept.field = 'user_id' and kept.kind = 'token' and kept.token = keys.user_id"
    tokens = store.read(VOCABULARY).where("field = 'user_id' and kind = 'token'").withColumnRenamed("token", "user_id")
    indices = tokens.join(users, "user_id", how="left_semi").select("index")
    events = store.read(IMPRESSIONS).join(users, "user_id", how="left_semi").select("event_id")
    samples = samples_table(config.features)
    # What is found by way of another table goes before it: killed and run again, all of it is found still.
    removed = {
        CLICKS.name: store.delete(CLICKS, events, "kept.event_id = keys.event_id"),
        SNAPSHOTS.name: store.delete(SNAPSHOTS, indices, "kept.entity = 'user_id' and kept.index = keys.index"),
        VOCABULARY.name: store.update(VOCABULARY, users, own, _NOBODY),
        QUARANTINE.name: store.delete(QUARANTINE, users, _IN_QUARANTINE),
        DAILY_COUNTS.name: store.delete(DAILY_COUNTS, users, "kept.entity = 'user_id' and kept.key = keys.user_id"),
        samples.name: store.delete(samples, users, "kept.user = keys.user_id"),
    }
    for table in (IMPRESSIONS, USERS, LABELLED, DAILY_CLICKS, PREDICTIONS):
        removed[table.name] = store.delete(table, users, "kept.user_id = keys.user_id")
    for table in _every_table(config):
        store.vacuum(table, 0)
    if not any(removed.values()):
        raise ConfigError(f"--user {user}: no table under {store.root} knows this user")
    return removed


# The index stays taken, by a token that no log can hold for this kind.
_NOBODY = {"kind": "'forgotten'", "token": "cast(kept.index as string)", "since": "timestamp_seconds(0)"}
# A line that could not be parsed names its user somewhere in its text.
_IN_QUARANTINE = """
    get_json_object(kept.row, '$.user_id') = keys.user_id
    or contains(get_json_object(kept.row, '$._corrupt_record'), keys.user_id)
"""


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
