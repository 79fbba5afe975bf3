"""The reference has every table and column."""

from __future__ import annotations

import re

from ecdctr_spark.config import Config
from ecdctr_spark.reference.tables import page
from ecdctr_spark.tables.schemas import TABLES, samples_table


def test_every_table_is_described_with_all_its_columns(config: Config) -> None:
    sections = dict(part.split("\n", 1) for part in page().split("\n## ")[1:])
    tables = [*TABLES.values(), samples_table(config.features)]
    assert sections.keys() == {table.name for table in tables}
    assert [table.name for table in tables if not table.about] == []
    for table in tables:
        names = [column.split()[0] for column in re.sub("<[^>]*>", "", table.columns).split(",")]
        assert [line.split("`")[1] for line in sections[table.name].splitlines() if line.startswith("| `")] == names
    assert "map&lt;string,binary>" in sections["daily_clicks"]
