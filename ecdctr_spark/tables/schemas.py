"""Every table's columns, keys and partitions on one screen.

Neither Spark nor torch is imported: columns are DDL text, so that a rank without a JVM can read this too.
"""

from __future__ import annotations

from typing import Literal

from ecdctr_spark.settings.base import Settings
from ecdctr_spark.settings.features import Features, Role

# Where a table is stored: with the logs or the data set that its rows were made from, by identity; or at the root, if
# the rows carry the identities.
Scope = Literal["logs", "data_set", "root"]


class Person(Settings, frozen=True):
    """Which rows of a table are about a person, so that they can be erased.

    They satisfy `where` (SQL), and their `column` holds the person's user id, the event_id of one of the person's
    impressions, the person's index in the vocabulary, or a raw row as JSON that names the person. They are removed, or,
    where `instead` is given, kept with these columns set to SQL expressions.
    """

    column: str
    holds: Literal["user", "event", "index", "raw"] = "user"
    where: str = "true"
    instead: dict[str, str] | None = None


class Table(Settings, frozen=True, kw_only=True):
    """The declaration of a Delta table: what it holds, its columns as DDL, the columns that identify a row, and the
    partition columns.

    The files of a table that is `laid_out` are written task by task as they are, and never compacted. `varied` columns
    rarely repeat a value and are written without a dictionary, which was half the work of writing samples and saved
    next to nothing. `person` is None where no row is about a person.
    """

    name: str
    about: str = ""
    columns: str
    key: tuple[str, ...]
    partitions: tuple[str, ...] = ()
    scope: Scope = "root"
    laid_out: bool = False
    varied: tuple[str, ...] = ()
    person: Person | None = None


def properties(table: Table) -> dict[str, str]:
    """The Delta properties that a table is created with, by Spark and by delta-rs."""
    # Delta hands a table's properties to the Parquet writer.
    varied = {f"parquet.enable.dictionary#{column}": "false" for column in table.varied}
    return {**_PROPERTIES, **varied, **({} if table.laid_out else _GATHERED)}


_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    # Row counts only: minima and maxima of columns would leave user ids in the log for good.
    "delta.dataSkippingNumIndexedCols": "0",
    # A model pins versions, and a version needs its entries in the log: `ecdctr tidy` removes those that none needs.
    "delta.logRetentionDuration": "interval 3650 days",
}
# Rows are gathered by partition before they are written. Otherwise every task writes a file in each partition.
_GATHERED = {"delta.autoOptimize.optimizeWrite": "true"}

USER_ID = Person(column="user_id")
EVENT_ID = Person(column="event_id", holds="event")

IMPRESSIONS = Table(
    name="impressions",
    about="what was shown; clicked is null where clicks have their own table",
    scope="logs",
    columns="event_id string, event_time timestamp, domain string, user_id string, item_id string,"
    " context map<string,string>, clicked int, ds date",
    key=("event_id",),
    partitions=("ds",),
    varied=("event_id", "event_time"),
    person=USER_ID,
)
CLICKS = Table(
    name="clicks",
    about="clicks on impressions; ds is the day of the click",
    scope="logs",
    columns="event_id string, click_time timestamp, ds date",
    key=("event_id",),
    partitions=("ds",),
    varied=("event_id", "click_time"),
    person=EVENT_ID,
)
USERS = Table(
    name="users",
    about="attributes of users, each version from valid_from until the next",
    scope="logs",
    columns="user_id string, valid_from timestamp, attributes map<string,string>",
    key=("user_id", "valid_from"),
    person=USER_ID,
)
ITEMS = Table(
    name="items",
    about="attributes of items, each version from valid_from until the next",
    scope="logs",
    columns="item_id string, valid_from timestamp, attributes map<string,string>",
    key=("item_id", "valid_from"),
)
QUARANTINE = Table(
    name="quarantine",
    about="raw rows that cannot be used, and why; folder is that of the source, null where it has none; ds is null"
    " where the row has no readable time",
    scope="logs",
    columns="source string, folder string, reason string, row string, ds date",
    key=(),
    partitions=("source", "ds"),
    person=Person(column="row", holds="raw"),
)
LABELLED = Table(
    name="labelled",
    about="impressions with their label, and with user and item as they were when it was shown",
    scope="data_set",
    columns="event_id string, event_time timestamp, domain string, user_id string, item_id string,"
    " context map<string,string>, user map<string,string>, item map<string,string>,"
    " label int, click_time timestamp, ds date",
    key=("event_id",),
    partitions=("ds",),
    varied=("event_id", "event_time", "click_time"),
    person=USER_ID,
)
DAILY_COUNTS = Table(
    name="daily_counts",
    about="impressions and known clicks by day of each key of an entity that features count",
    scope="data_set",
    columns="entity string, key string, domain string, impressions bigint, clicks bigint, ds date",
    key=("entity", "key", "domain", "ds"),
    partitions=("ds",),
    person=Person(column="key", where="entity = 'user_id'"),
)
DAILY_CLICKS = Table(
    name="daily_clicks",
    about="the newest natural clicks of a user that became known on a day; rows has, by id feature, the row of each"
    " click as big-endian int32, the newest last",
    scope="data_set",
    columns="user_id string, clicks int, rows map<string,binary>, ds date",
    key=("user_id", "ds"),
    partitions=("ds",),
    person=USER_ID,
)
VOCABULARY = Table(
    name="vocabulary",
    about="the row of the embedding of each token. kind is null, unknown or bucket for rows that are reserved when the"
    " field is first declared (their token is a number), and token for the rest",
    scope="data_set",
    columns="field string, kind string, token string, index int, since timestamp",
    key=("field", "kind", "token"),
    person=Person(
        column="token",
        where="field = 'user_id' and kind = 'token'",
        # The index stays taken, by a kind and token that no log can hold.
        instead={"kind": "'forgotten'", "token": "cast(kept.index as string)", "since": "timestamp_seconds(0)"},
    ),
)
SNAPSHOTS = Table(
    name="snapshots",
    about="vectors of the users and items that a model has trained, by their index",
    scope="data_set",
    columns="model_id string, entity string, index int, vector array<float>",
    key=("model_id", "entity", "index"),
    partitions=("model_id", "entity"),
    person=Person(column="index", holds="index", where="entity = 'user_id'"),
)
MODELS = Table(
    name="models",
    about="what each model was made from; inputs and digest are hashes of that and of its checkpoint. A model"
    " that was removed (storage.keep_models_days) keeps its row",
    columns="model_id string, level string, date date, data_set string, domains array<string>, days array<date>,"
    " parents array<string>, tables map<string,bigint>, settings string, code_version string, ranks int, rows bigint,"
    " seconds double, created timestamp, inputs string, digest string, removed timestamp",
    key=("model_id",),
)
PREDICTIONS = Table(
    name="predictions",
    about="of the next day's ads; method is the name and identity of a method, and weight stands for the ads that"
    " sampling left out",
    columns="event_id string, user_id string, item_id string, method string, model_id string, domain string,"
    " label int, weight double, prediction double, ds date",
    key=("event_id", "method"),
    partitions=("ds",),
    varied=("event_id", "prediction"),
    person=USER_ID,
)
METRICS = Table(
    name="metrics",
    about="how good predictions were; date is null over all days; mature: whether all rows and clicks that count could"
    " have been there",
    columns="date date, method string, model_id string, domain string, auc double, gauc double,"
    " gauc_coverage double, logloss double, pcoc double, impressions bigint, clicks bigint, mature boolean",
    key=("date", "method", "domain"),
)
COMPARISONS = Table(
    name="comparisons",
    about="GAUC of a method less that of a baseline, with its interval, on a version of the predictions",
    columns="method string, baseline string, difference double, low double, high double, users bigint, resamples int,"
    " version bigint",
    key=("method", "baseline"),
)
CALIBRATION = Table(
    name="calibration",
    about="predictions in bins of about as many impressions each, and how often those were clicked, on a version of the"
    " predictions",
    columns="method string, bin int, impressions double, prediction double, click_rate double, version bigint",
    key=("method", "bin"),
)
CONTENT = Table(
    name="content",
    about="a checksum of the samples of a day, and since when they have it",
    scope="data_set",
    columns="domain string, ds date, rows bigint, checksum bigint, changed timestamp",
    key=("domain", "ds"),
)
HEALTH = Table(
    name="health",
    about="measures of the data of a day (evaluation/health.py); ok: whether value is between low and high, null where"
    " rows are too few to judge by",
    scope="data_set",
    columns="ds date, domain string, measure string, feature string, value double, rows bigint, low double,"
    " high double, ok boolean",
    key=("ds", "domain", "measure", "feature"),
    partitions=("ds",),
)
STEPS = Table(
    name="steps",
    about="what was done; subject is the identity of logs, a data set or a method, or a name in the model registry;"
    " detail is a model or an error; inputs is a hash of what predictions were made from, or of the model; tables has"
    " the version that each table had then, by its name and Delta id",
    columns="step string, subject string, detail string, from_day date, to_day date, rows_read bigint,"
    " rows_kept bigint, duplicates bigint, quarantined bigint, outside_asked bigint, outside_any bigint,"
    " seconds double, finished timestamp, inputs string, tables map<string,bigint>",
    key=(),
)

ORACLE = Table(
    name="oracle",
    about="the probability of each click on a synthetic platform; no step reads it",
    scope="logs",
    columns="event_id string, domain string, probability double, clicked boolean",
    key=("event_id",),
    varied=("event_id", "probability"),
    person=EVENT_ID,
)

TABLES = {
    table.name: table
    for table in (
        IMPRESSIONS, CLICKS, USERS, ITEMS, QUARANTINE, LABELLED, DAILY_COUNTS, DAILY_CLICKS, VOCABULARY, SNAPSHOTS,
        MODELS, PREDICTIONS, METRICS, COMPARISONS, CALIBRATION, CONTENT, HEALTH, STEPS, ORACLE,
    )
}  # fmt: skip


def samples_table(features: Features) -> Table:
    """The samples table of the declared features, with one column per feature."""
    encoded = "".join(f", {feature.name} {_SAMPLE_TYPES[feature.role]}" for feature in features.fields)
    return Table(
        name="samples",
        about="what models read: one column per feature. click_day is the day of the click since 1970, 0 without one: a"
        " model must not learn of a click after its day. user and item stay beside their indices: GAUC groups by user",
        scope="data_set",
        columns=f"event_id string, event_time timestamp, user string, item string{encoded}, label float,"
        " click_day int, weight float, domain string, ds date",
        key=("event_id",),
        partitions=("domain", "ds"),
        laid_out=True,  # for the ranks (features/samples.py, shuffled)
        varied=("event_id", "event_time", "user", "item"),
        person=Person(column="user"),
    )


_SAMPLE_TYPES: dict[Role, str] = {
    "index": "int",  # row of the embedding
    "number": "float",
    "sequence": "binary",  # `length` big-endian int32 rows, padded at the front
}
