"""Ten thousand bad rows of every kind, in each format: each one in quarantine for its own reason, no good row lost."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
import math
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.config import load_config
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.session import Session
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
    wrong = "is no identifier (a fraction, rounded, nested, or with a control character)"
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


class Typed(NamedTuple):
    """A Parquet file with one column that is no text: its values in good rows, and bad ones with their reasons."""

    column: str
    type: pa.DataType
    good: Callable[[int], Any]
    bad: dict[Any, str]


def _at(serial: int) -> dt.datetime:
    return dt.datetime(2024, 1, 5, tzinfo=dt.timezone.utc) + dt.timedelta(seconds=serial % 86_400)


def _years(*moments: Any) -> dict[Any, str]:
    return dict.fromkeys(moments, "event_time is not between 1990 and 2100")


def _unread(*moments: Any) -> dict[Any, str]:
    return dict.fromkeys(moments, "event_time cannot be read as a time")


def _unlike(name: str, *values: Any) -> dict[Any, str]:
    return dict.fromkeys(values, f"{name} is no identifier (a fraction, rounded, nested, or with a control character)")


TYPED = [
    Typed(
        "event_id",
        pa.float64(),
        lambda serial: float(serial),
        {None: "event_id is missing", math.nan: "event_id is missing", **_unlike("event_id", 1e17, -1e300, math.inf)},
    ),
    Typed(
        "user_id",
        pa.decimal128(12, 2),
        lambda serial: Decimal(serial % 50),
        {None: "user_id is missing"},
    ),
    Typed(
        "item_id", pa.binary(), lambda serial: b"i%d" % (serial % 50), dict.fromkeys((b"", b" "), "item_id is missing")
    ),
    Typed(
        "event_time",
        pa.int64(),
        lambda serial: int(_at(serial).timestamp()) * 1000,
        {**_unread(None, 0, 10, -5, 86_400_000, 2**63 - 1), **_years(2**62)},
    ),
    Typed(
        "event_time",
        pa.float64(),
        lambda serial: _at(serial).timestamp(),
        _unread(None, math.nan, math.inf, -1.0, 1.5, 1e300),
    ),
    Typed(
        "event_time",
        pa.timestamp("us", tz="UTC"),
        _at,
        {**_years(dt.datetime(1970, 1, 1), dt.datetime(1989, 12, 31), dt.datetime(2101, 1, 2)), **_unread(None)},
    ),
    Typed(
        "event_time",
        pa.timestamp("ns"),
        lambda serial: _at(serial).replace(tzinfo=None),
        {**_years(dt.datetime(1970, 1, 1), dt.datetime(2150, 1, 1)), **_unread(None)},
    ),
    Typed(
        "event_time",
        pa.date32(),
        lambda serial: DAY,
        {**_years(dt.date(1970, 1, 1), dt.date(9999, 12, 31)), **_unread(None)},
    ),
    Typed("clicked", pa.int8(), lambda serial: serial % 2, dict.fromkeys((None, 2, -1), "clicked is neither 0 nor 1")),
    Typed("clicked", pa.float32(), lambda serial: 1.0, dict.fromkeys((None, 0.5, 2.0), "clicked is neither 0 nor 1")),
    Typed("clicked", pa.bool_(), lambda serial: True, {None: "clicked is neither 0 nor 1"}),
]


def test_each_bad_row_of_a_typed_column_is_in_quarantine_for_its_reason(spark: SparkSession, tmp_path: Path) -> None:
    """Files whose columns differ in type, in one folder: text is what they have in common, where 7.5 is an id."""
    chance = random.Random(23)
    serials, kept, reasons = itertools.count(), set(), {}
    (tmp_path / "impressions").mkdir()
    for number, typed in enumerate(TYPED):
        rows: list[dict[str, Any]] = []
        for place in range(1_000):
            row: dict[str, Any] = _good(next(serials), chance)
            serial = int(row["serial"])
            row[typed.column] = typed.good(serial)
            if place < BAD // len(TYPED):
                value, reason = list(typed.bad.items())[place % len(typed.bad)]
                row[typed.column], reasons[str(serial)] = value, reason
            else:
                kept.add(str(serial) if typed.column == "event_id" else f"e{serial}")
            rows.append(row)
        types = {name: typed.type if name == typed.column else pa.string() for name in COLUMNS}
        columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
        pq.write_table(pa.table(columns), tmp_path / "impressions" / f"{number}.parquet")
    _check(spark, tmp_path, "parquet", kept, reasons)


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

    _check(spark, tmp_path, form, {f"e{serial}" for serial in range(GOOD)}, reasons)


def _check(spark: SparkSession, path: Path, form: str, events: set[str], reasons: dict[str, str]) -> None:
    """An ingest of the folder keeps these events, and puts each bad row into quarantine for its reason."""
    folder = f"source.impressions={path / 'impressions'}"
    config = load_config([], [f"source.format={form}", "calendar.first_day=2024-01-01", folder])
    store = Store(Session.of(spark), Root.parse(path / "root"))
    counts = ingest(store, config, DAY, DAY).counts
    assert {row["event_id"] for row in store.read(IMPRESSIONS).select("event_id").collect()} == events
    found: dict[str, str] = {}
    for bad in store.read(QUARANTINE).collect():
        serial = _serial(bad["row"])
        assert serial not in found, f"{serial} is in quarantine twice"
        found[serial] = bad["reason"]
    wrong = {serial: (found.get(serial), reason) for serial, reason in reasons.items() if found.get(serial) != reason}
    assert not wrong
    assert found.keys() == reasons.keys()
    expected = (len(events) + len(reasons), len(events), len(reasons))
    assert (counts.rows_read, counts.rows_kept, counts.quarantined) == expected


def _serial(row: str) -> str:
    """The serial of a raw row, or of the text of one that could not be parsed."""
    raw = json.loads(row)
    text = raw.get("_corrupt_record")
    if text is None:
        return str(raw["serial"])
    return str(text.split(",", 1)[0].removeprefix('{"serial": ').strip('"'))
