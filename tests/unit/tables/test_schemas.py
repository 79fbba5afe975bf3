"""Every table says which of its rows are about a person, so that a person can be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from ecdctr_spark.config import Config
from ecdctr_spark.tables.schemas import TABLES, Person, Table, samples_table

# Names of columns that lead to a person: a user id, an impression of the user, a token or its index.
LEADING = {"user", "user_id", "person", "event_id", "entity", "token", "index", "row"}


def columns(table: Table) -> set[str]:
    flat = re.sub(r"<[^>]*>", "", table.columns)
    return {column.split()[0] for column in flat.split(",")}


def undeclared(tables: Iterable[Table]) -> list[str]:
    """The tables with a column that leads to a person, and no declaration of it."""
    return [table.name for table in tables if columns(table) & LEADING and table.person is None]


@pytest.fixture
def tables(config: Config) -> list[Table]:
    return [*TABLES.values(), samples_table(config.features)]


def test_every_table_that_leads_to_a_person_declares_how(tables: list[Table]) -> None:
    assert undeclared(tables) == []
    assert {table.name for table in tables if table.person is None} == {
        "items", "models", "metrics", "comparisons", "calibration", "content", "health", "steps",
    }  # fmt: skip


@pytest.mark.parametrize("ddl", ["user_id string, n int", "n int, user string", "event_id string", "entity string"])
def test_a_new_table_that_leads_to_a_person_and_does_not_say_so_is_found(ddl: str) -> None:
    silent = Table(name="new", columns=ddl, key=())
    assert undeclared([silent]) == ["new"]
    declared = replace(silent, person=Person(column=next(iter(columns(silent) & LEADING))))
    assert undeclared([declared]) == []


def test_what_is_declared_are_columns_of_the_table(tables: list[Table]) -> None:
    for table in tables:
        if table.person:
            assert {table.person.column, *(table.person.instead or {})} <= columns(table), table.name
