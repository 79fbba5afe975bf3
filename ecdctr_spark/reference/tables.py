"""Every table of the store, with what its rows are, its columns, keys and partitions."""

from __future__ import annotations

import re

from ecdctr_spark.config import load_config
from ecdctr_spark.tables.schemas import TABLES, Table, samples_table

_PLACES = {
    "logs": "with the logs: one for each source and calendar",
    "data_set": "with the data set: one for each set of features, labels and sampling",
    "root": "at the root: rows of all configurations",
}
_ERASED = {
    "user": "by user id",
    "event": "by the events of a user",
    "index": "by the user's index in the vocabulary",
    "raw": "where a raw row names the user",
}


def page() -> str:
    """The reference of all tables, as Markdown. Those of features are shown for conf/base.yaml."""
    features = load_config([], ["calendar.first_day=2000-01-01"]).features
    tables = [*TABLES.values(), samples_table(features)]
    return "\n\n".join([_HEAD, *map(_section, tables)])


_HEAD = """# Tables

Delta tables under `storage.root`. Times are in UTC; `ds` is the date of an event in `calendar.timezone`. Any reader of
Delta can open them; only `ecdctr` should write."""


def _section(table: Table) -> str:
    facts = [
        f"Stored {_PLACES[table.scope]}.",
        f"A row is identified by {', '.join(table.key)}." if table.key else "Rows have no key.",
        f"Partitioned by {', '.join(table.partitions)}." if table.partitions else "",
        f"`ecdctr forget` finds a user's rows {_ERASED[table.person.holds]}." if table.person else "",
    ]
    columns = [column.split(maxsplit=1) for column in re.split(r",\s*(?![^<]*>)", table.columns)]
    rows = [f"| `{name}` | {kind.replace('<', '&lt;')} |" for name, kind in columns]
    about = f"{table.about[0].upper()}{table.about[1:]}."
    return "\n\n".join(
        [f"## {table.name}", about, " ".join(filter(None, facts)), "\n".join(["| column | type |\n|---|---|", *rows])]
    )
