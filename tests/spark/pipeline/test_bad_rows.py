"""Ten thousand bad rows of every kind, in each format: each one in quarantine for its own reason, no good row lost."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import IMPRESSIONS, QUARANTINE
from ecdctr_spark.tables.store import Store

COLUMNS = ("serial", "event_id", "event_time", "domain", "user_id", "item_id", "clicked")
DAY = dt.date(2024, 1, 5)
BAD, GOOD, FILES = 10_000, 2_000, 4
MALFORMED = "row is malformed"

Row = dict[str, str | None]


class Kind(NamedTuple):
    """A kind of bad row: what it changes in a good one, and the reason that it is given."""

    column: str
    value: str | None
    reason: str


def _kinds() -> list[Kind]:
    missing = [None, "", " ", "\u00a0", "\u200b\u3000", "\t", "null", "NaN", "None", "\\N", "undefined"]
    no_id = ["a\x07b", "u1\u0000", '{"id": 7}', "[7]"]
    ids = [Kind(name, value, f"{name} is missing") for name in ("event_id", "user_id", "item_id") for value in missing]
    wrong = "is not text or a whole number, or holds a control character"
    ids += [Kind(name, value, f"{name} {wrong}") for name in ("event_id", "user_id", "item_id") for value in no_id[2:]]
    ids += [Kind("user_id", "a\x07b", f"user_id {wrong}")]
    unread = [
        None, "", "soon", "2024-02-30T10:00:00", "2024-01-05T25:00:00", "01/05/2024", "2024-1-5", "2024", "10:20:30",
        "-5", "0", "10", "86400000", "1.7044E9", "20240230", "2024-W01-5", "99999999999999999999", "Infinity",
        "Fri Jan 5 2024",
    ]  # fmt: skip
    times = [Kind("event_time", value, "event_time cannot be read as a time") for value in unread]
    years = ["0001-01-01", "1970-01-01T00:00:10Z", "1989-12-31T23:59:59", "2101-01-02", "9999-12-31 23:59:59"]
    times += [Kind("event_time", value, "event_time is not between 1990 and 2100") for value in years]
    domains = [None, "", "organic", "AD", " ad", "ads", "0"]
    clicks = [None, "", "2", "yes", "-1", "0.5", "NaN"]
    return [
        *ids,
        *times,
        *(Kind("domain", value, "domain is neither natural nor ad") for value in domains),
        *(Kind("clicked", value, "clicked is neither 0 nor 1") for value in clicks),
    ]


def _good(serial: int, chance: random.Random) -> Row:
    time = dt.datetime(2024, 1, 5) + dt.timedelta(seconds=chance.randrange(86_400))
    epoch = int(time.replace(tzinfo=dt.timezone.utc).timestamp())
    spelled = [time.isoformat(), f"{time}Z", time.strftime("%Y%m%dT%H%M%S"), str(epoch), str(epoch * 1000)]
    return {
        "serial": str(serial),
        "event_id": f"e{serial}",
        "event_time": chance.choice(spelled),
        "domain": chance.choice(("ad", "natural")),
        "user_id": f"u{chance.randrange(50)}",
        "item_id": f"i{chance.randrange(50)}",
        "clicked": chance.choice(("0", "1", "true", "False")),
    }


def _rows(kinds: list[Kind], chance: random.Random) -> tuple[list[Row], dict[str, str]]:
    """Good and bad rows, shuffled, and the reason of each bad one by its serial."""
    rows = [_good(serial, chance) for serial in range(GOOD)]
    reasons = {}
    for serial in range(GOOD, GOOD + BAD):
        kind = kinds[serial % len(kinds)]
        rows.append({**_good(serial, chance), kind.column: kind.value})
        reasons[str(serial)] = kind.reason
    chance.shuffle(rows)
    return rows, reasons


def _cut(line: str, chance: random.Random) -> str:
    """A record that ends early."""
    return line[: chance.randrange(len(line) // 2, len(line) - 2)]


def write_csv(file: Path, rows: list[Row], malformed: list[Row]) -> None:
    with file.with_suffix(".csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        for row in rows:
            values = [row[name] for name in COLUMNS]
            writer.writerow(values)
        for number, row in enumerate(malformed):
            values = [row[name] for name in COLUMNS]
            writer.writerow(values[: 2 + number % 5] if number % 2 else [*values, "more"])


def write_json(file: Path, rows: list[Row], malformed: list[Row]) -> None:
    chance = random.Random(3)
    lines = [json.dumps({name: value for name, value in row.items() if value is not None}) for row in rows]
    lines += [_cut(json.dumps(row), chance) for row in malformed]
    file.with_suffix(".json").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_parquet(file: Path, rows: list[Row], malformed: list[Row]) -> None:
    """Text columns; a row that is malformed has no place in Parquet."""
    assert not malformed
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS}
    pq.write_table(pa.table(columns), file.with_suffix(".parquet"), row_group_size=500)


FORMATS: dict[str, tuple[Callable[[Path, list[Row], list[Row]], None], int]] = {
    "csv": (write_csv, 400),
    "json": (write_json, 400),
    "parquet": (write_parquet, 0),
}


@pytest.mark.parametrize("form", FORMATS)
def test_each_bad_row_is_in_quarantine_for_its_reason(spark: SparkSession, tmp_path: Path, form: str) -> None:
    kinds = _kinds()
    assert len({(kind.column, kind.value) for kind in kinds}) >= 40
    chance = random.Random(17)
    rows, reasons = _rows(kinds, chance)
    write, share = FORMATS[form]
    broken = [_good(GOOD + BAD + number, chance) for number in range(share)]
    (tmp_path / "impressions").mkdir()
    for number in range(FILES):
        write(tmp_path / "impressions" / str(number), rows[number::FILES], broken[number::FILES])
    reasons |= {str(row["serial"]): MALFORMED for row in broken}

    folder = f"source.impressions={tmp_path / 'impressions'}"
    config = load_config([], [f"source.format={form}", "calendar.first_day=2024-01-01", folder])
    store = Store(spark, Root.parse(tmp_path / "root"))
    counts = ingest(store, config, DAY, DAY).counts

    kept = {row["event_id"] for row in store.read(IMPRESSIONS).select("event_id").collect()}
    assert kept == {f"e{serial}" for serial in range(GOOD)}
    found: dict[str, str] = {}
    for bad in store.read(QUARANTINE).collect():
        serial = _serial(bad["row"])
        assert serial not in found, f"{serial} is in quarantine twice"
        found[serial] = bad["reason"]
    wrong = {serial: (found.get(serial), reason) for serial, reason in reasons.items() if found.get(serial) != reason}
    assert not wrong
    assert found.keys() == reasons.keys()
    assert (counts.rows_read, counts.rows_kept, counts.quarantined) == (GOOD + len(reasons), GOOD, len(reasons))


def _serial(row: str) -> str:
    """The serial of a raw row, or of the text of one that could not be parsed."""
    raw = json.loads(row)
    text = raw.get("_corrupt_record")
    if text is None:
        return str(raw["serial"])
    return str(text.split(",", 1)[0].removeprefix('{"serial": ').strip('"'))
