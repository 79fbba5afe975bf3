"""Names for the Delta tables in a catalog (`storage.catalog`), so that they can be queried as catalog.schema.table.

The tables are read and written by their place under storage.root, by Spark, by delta-rs and by the ranks, whether they
have names or not. A name is an external table at that place, and nothing else. The alternatives:

- Managed tables, which the catalog places where it likes. delta-rs and the ranks read files by path, and Unity Catalog
  gives no path access to its managed tables. Each small read would need a JVM, and each training a copy of its samples.
- A second code path, by name. Every function on tables would have two ways, and tests could reach only one of them.

What Unity Catalog asks for, which no test here can show:

- storage.root is in an external location (s3://, abfss://, gs://). A volume holds Delta tables by path, but none of
  them can be registered.
- The job's identity has USE CATALOG on the catalog, USE SCHEMA and CREATE TABLE on the schema, and READ FILES, WRITE
  FILES and CREATE EXTERNAL TABLE on the external location. delta-rs and the ranks take the cloud's own credentials from
  the environment.

Names work in the same way in Spark's own catalog, where they are tested.

A table of the logs or of a data set is named after its identity (`samples_1a2b3c4d`), so that configurations under one
root do not share a name. `ecdctr tidy` cleans the tables; OPTIMIZE and VACUUM by name would remove what models pin.
"""

from __future__ import annotations

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.settings.features import Features
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import TABLES, Table, samples_table
from ecdctr_spark.tables.store import Store


def check_schema(spark: SparkSession, catalog: str) -> None:
    """Raises ConfigError where there is no such schema, `catalog.schema`."""
    if not spark.catalog.databaseExists(_quoted(catalog)):
        raise ConfigError(
            f"storage.catalog: no schema {catalog}, or no right to use it: create it (CREATE SCHEMA {catalog}), or"
            " name another one"
        )


def register(store: Store, catalog: str, features: Features) -> list[str]:
    """Names the store's tables that exist and have no name yet in the schema `catalog.schema`; returns those names.

    Raises ConfigError where a name belongs to a table elsewhere, or the catalog refuses the table.
    """
    tables = [table for table in (*TABLES.values(), samples_table(features)) if store.exists(table)]
    return [name for table in tables if _register(store, (name := f"{catalog}.{_name(store, table)}"), table)]


def _register(store: Store, name: str, table: Table) -> bool:
    """Whether the table had no name before."""
    place, quoted = store.place(table), _quoted(name)
    try:
        if store.spark.catalog.tableExists(quoted):
            # DeltaTable.forName refuses the catalog's name before Spark 4.
            held = store.spark.sql(f"describe detail {quoted}").select("location").collect()[0][0]
            if Root.parse(held) != place:
                raise ConfigError(
                    f"storage.catalog: {name} is the table at {held}, expected {place}: drop that name, or choose"
                    " another schema"
                )
            return False
        store.spark.catalog.createTable(quoted, path=store.path(table), source="delta")
    except PySparkException as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"storage.catalog: {name} cannot be registered at {place}: {reason}; expected CREATE TABLE on the schema"
            " and, in Unity Catalog, a storage.root in an external location with CREATE EXTERNAL TABLE"
        ) from error
    return True


def _name(store: Store, table: Table) -> str:
    identity = {"logs": store.logs, "data_set": store.data_set, "root": ""}[table.scope]
    return f"{table.name}_{identity}" if identity else table.name


def _quoted(name: str) -> str:
    """A dotted name as SQL. Its parts contain no backtick (config.Storage)."""
    return ".".join(f"`{part}`" for part in name.split("."))
