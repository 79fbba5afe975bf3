"""The Delta tables under one root by Spark: read, replace a slice atomically, insert rows with new keys.

Every write checks the frame against the table's declared columns. Deletion vectors and column mapping stay off, since
the ranks read the Parquet files directly (tables/pinned.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from ecdctr_spark.session import Session
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import Scope, Table, properties


@lru_cache(maxsize=64)
def _schema(spark: SparkSession, columns: str) -> StructType:
    """Cached: each write needs it, and the call to the JVM takes longer than all other checks."""
    return spark.createDataFrame([], columns).schema


@dataclass(frozen=True)
class Store:
    """The Delta tables under a root, one folder each: those of the logs and the data set with these identities, and
    those that all share. Without an identity they are stored at the root."""

    session: Session
    root: Root
    logs: str = ""
    data_set: str = ""

    @property
    def spark(self) -> SparkSession:
        """The Spark session, started if it is not running."""
        return self.session()

    def place(self, table: Table) -> Root:
        """The place of the table."""
        return self.home(table.scope).at("tables", table.name)

    def home(self, scope: Scope) -> Root:
        """The folder of the tables of a scope."""
        identity = {"logs": self.logs, "data_set": self.data_set, "root": ""}[scope]
        return self.root.at(scope, identity) if identity else self.root

    def of(self, scope: Scope, identity: str) -> Store:
        """The same store for other logs or another data set."""
        logs, data_set = identity if scope == "logs" else self.logs, identity if scope == "data_set" else self.data_set
        return Store(self.session, self.root, logs, data_set)

    def path(self, table: Table) -> str:
        """The place of the table, as Spark names it."""
        return self.place(table).addresses.spark

    def exists(self, table: Table) -> bool:
        """Whether anything was ever written to the table; see pinned.exists."""
        return pinned.exists(self.place(table))

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """A version of the table, by default the newest; before the first write an empty frame of its columns."""
        if not self.exists(table):
            return self.spark.createDataFrame([], table.columns)
        reader = self.spark.read.format("delta")
        pinned = reader if version is None else reader.option("versionAsOf", version)
        return pinned.load(self.path(table))

    def replace(self, table: Table, frame: DataFrame, where: str) -> None:
        """Replaces the rows that satisfy `where` by those of `frame`, which must all satisfy it, in one commit. Raises
        ValueError where a column of `frame` is missing or of another type."""
        self._create(table)
        writer = self._checked(table, frame).write.format("delta").mode("overwrite").option("replaceWhere", where)
        writer.save(self.path(table))

    def insert_new(self, table: Table, frame: DataFrame) -> None:
        """Inserts the rows of `frame` whose key is not in the table. Existing rows are left as they are."""
        self._create(table)
        same_key = " and ".join(f"known.{column} <=> new.{column}" for column in table.key)
        known = DeltaTable.forPath(self.spark, self.path(table)).alias("known")
        known.merge(self._checked(table, frame).alias("new"), same_key).whenNotMatchedInsertAll().execute()

    def delete(self, table: Table, keys: DataFrame, condition: str) -> int:
        """Deletes the rows of the table (`kept` in the condition) that match a row of `keys`; returns how many.

        Values are passed as a frame, since the text of a condition is stored in the table's log.
        """
        if not self.exists(table):
            return 0
        before = pinned.version(self.place(table))
        self._merge(table, keys, condition).whenMatchedDelete().execute()
        return self._rows_changed(table, before, "numTargetRowsDeleted")

    def update(self, table: Table, keys: DataFrame, condition: str, values: dict[str, str]) -> int:
        """As `delete`, but sets columns of the matching rows to SQL expressions."""
        if not self.exists(table):
            return 0
        before = pinned.version(self.place(table))
        self._merge(table, keys, condition).whenMatchedUpdate(set=dict(values)).execute()
        return self._rows_changed(table, before, "numTargetRowsUpdated")

    def compact(self, table: Table) -> None:
        """Merges small files, except in tables that are laid out for the ranks."""
        if self.exists(table) and not table.laid_out:
            DeltaTable.forPath(self.spark, self.path(table)).optimize().executeCompaction()

    def _declared(self, table: Table) -> StructType:
        return _schema(self.spark, table.columns)

    def _merge(self, table: Table, keys: DataFrame, condition: str) -> DeltaMergeBuilder:
        return DeltaTable.forPath(self.spark, self.path(table)).alias("kept").merge(keys.alias("keys"), condition)

    def _rows_changed(self, table: Table, before: int, metric: str) -> int:
        """The metric of the commit after the version `before`. A merge that matches no row makes none."""
        (last,) = DeltaTable.forPath(self.spark, self.path(table)).history(1).collect()
        return int(last["operationMetrics"].get(metric, 0)) if last["version"] > before else 0

    def _create(self, table: Table) -> None:
        if self.exists(table):
            self._check_columns(table)
            return
        # Left by a writer that was killed, or had no room on the disk, before its first commit: Spark takes it for a
        # table.
        self.place(table).at("_delta_log").remove()
        builder = DeltaTable.createIfNotExists(self.spark).location(self.path(table))
        builder = builder.addColumns(self._declared(table))
        for key, value in properties(table).items():
            builder = builder.property(key, value)
        builder.partitionedBy(*table.partitions).execute()

    def _check_columns(self, table: Table) -> None:
        """Raises ConfigError where the stored columns differ: a table's columns never change, since other features make
        another data set."""
        there, declared = self.read(table).columns, self._declared(table).names
        if set(there) != set(declared):
            other = ", ".join(sorted(set(there) ^ set(declared)))
            raise ConfigError(
                f"table {table.name} at {self.place(table)} has other columns than it was made with ({other}):"
                " another version or another program wrote it; move it away"
            )

    def _checked(self, table: Table, frame: DataFrame) -> DataFrame:
        expected = self._declared(table)
        found = {field.name: field.dataType for field in frame.schema}
        for field in expected:
            if field.name not in found:
                raise ValueError(f"table {table.name}: column {field.name} is missing from the frame to write")
            if found[field.name].simpleString() != field.dataType.simpleString():
                raise ValueError(
                    f"table {table.name}: column {field.name} is {found[field.name].simpleString()}, "
                    f"expected {field.dataType.simpleString()}"
                )
        return frame.select(*(field.name for field in expected))
