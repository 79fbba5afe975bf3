"""Logs that call things otherwise are read by source.columns and source.domains, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecdctr_spark.features.ingest import judged_impressions
from ecdctr_spark.pipeline.ingesting import ingest
from ecdctr_spark.pipeline.raw_check import lines_of, looked_at
from ecdctr_spark.session import Session
from ecdctr_spark.sources.values import Clock
from ecdctr_spark.storage import Root
from ecdctr_spark.tables.schemas import QUARANTINE
from ecdctr_spark.tables.store import Store
from tests.raw_logs import configured, laid, read, refused

HEADER = ("request_id", "ts", "surface", "member", "creative", "dvc", "is_click")
ROWS = (
    ("r1", "1704448800000", "feed", "m1", "c1", "phone", "0"),
    ("r2", "1704448801000", "sponsored", "m2", "c2", "tablet", "1"),
    ("r3", "1704448802000", "banner", "m2", "c2", "tablet", "1"),
)
NAMES = "event_id: request_id, event_time: ts, user_id: member, item_id: creative, clicked: is_click"
COLUMNS = f"source.columns.impressions={{{NAMES}, domain: surface, device: dvc}}"
DOMAINS = "source.domains={natural: [feed], ad: [sponsored]}"


def csv(*rows: tuple[str, ...], header: tuple[str, ...] = HEADER) -> str:
    return "\n".join(",".join(row) for row in (header, *rows)) + "\n"


def written(spark: SparkSession, form: str, folder: Path) -> Path:
    """The rows in a format; returns what source.impressions is then."""
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    frame = spark.createDataFrame(ROWS, ", ".join(f"{name} string" for name in HEADER))
    if form == "csv":
        laid(folder, {"part.csv": csv(*ROWS)})
    elif form == "json":
        laid(folder, {"part.json": "\n".join(map(json.dumps, rows))})
    elif form == "parquet":
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")
    elif form == "delta":
        frame.write.format("delta").save(str(folder))
    else:
        frame.createOrReplaceTempView("renamed_logs")
        return Path("renamed_logs")
    return folder


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "delta", "table"])
def test_every_format_is_read_by_the_logs_own_names(spark: SparkSession, tmp_path: Path, form: str) -> None:
    raw = read(spark, form, written(spark, form, tmp_path / "logs"), COLUMNS, DOMAINS)
    found = judged_impressions(raw.impressions, Clock(), "UTC").orderBy("event_id").collect()
    assert [
        (row["event_id"], row["event_time"].second, row["domain"], row["user_id"], row["item_id"], row["clicked"])
        for row in found
    ] == [("r1", 0, "natural", "m1", "c1", 0), ("r2", 1, "ad", "m2", "c2", 1), ("r3", 2, "banner", "m2", "c2", 1)]
    assert [row["reason"] for row in found] == [None, None, "domain is neither natural nor ad"]
    assert [row["context"] for row in found] == [{"device": "phone"}, {"device": "tablet"}, {"device": "tablet"}]


def test_a_path_leads_into_nested_values(spark: SparkSession, tmp_path: Path) -> None:
    row = {"id": "e1", "at": "2024-01-05", "domain": "ad", "user": {"id": 7, "os": {"name": "x"}}, "ad": {"id": "a"}}
    folder = laid(tmp_path / "logs", {"part.json": json.dumps({**row, "a.b": "5", "clicked": 1})})
    names = "{event_id: id, event_time: at, user_id: user.id, item_id: ad.id, os: user.os.name, both: a.b}"
    raw = read(spark, "json", folder, f"source.columns.impressions={names}").impressions
    (found,) = judged_impressions(raw, Clock(), "UTC").collect()
    assert (found["user_id"], found["item_id"], found["reason"]) == ("7", "a", None)
    assert {name: found["context"][name] for name in ("os", "both")} == {"os": "x", "both": "5"}


def test_a_name_may_be_given_away_to_another_column(spark: SparkSession, tmp_path: Path) -> None:
    header = ("event_id", "Event_Time", "ts", "domain", "user_id", "item_id", "clicked")
    folder = laid(tmp_path / "logs", {"1.csv": csv(("e1", "later", "2024-01-05", "ad", "u", "i", "0"), header=header)})
    beside = refused(spark, "csv", folder, "source.columns.impressions={event_time: ts}")
    assert beside.endswith(
        "there is a column Event_Time beside ts, which is to be event_time; give Event_Time another name too, such as"
        " {logged_Event_Time: Event_Time}"
    )
    raw = read(spark, "csv", folder, "source.columns.impressions={event_time: ts, logged: Event_Time}").impressions
    (found,) = judged_impressions(raw, Clock(), "UTC").collect()
    assert (found["event_time"].day, found["context"]) == (5, {"logged": "later"})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("{event_id: request_di}", "there is no column request_di to be event_id; the nearest one is request_id"),
        ("{event_id: zzz}", "there is no column zzz to be event_id; those are request_id, ts, surface, member"),
        ("{event_id: request_id.x}", "there is no column request_id.x to be event_id"),
        ("{a: member, A: creative}", "they differ only in capitals"),
        ("{a: _corrupt_record}", "there is no column _corrupt_record to be a"),
        ("{event_id: request_id}", "lacks the column event_time, domain, user_id, item_id; expected csv files with"),
    ],
)
def test_names_that_the_logs_lack_are_refused(spark: SparkSession, tmp_path: Path, names: str, said: str) -> None:
    folder = laid(tmp_path / "logs", {"part.csv": csv(*ROWS)})
    assert said in refused(spark, "csv", folder, f"source.columns.impressions={names}")


def test_ads_may_be_logged_apart(spark: SparkSession, tmp_path: Path) -> None:
    feed = laid(tmp_path / "feed", {"1.csv": csv(("e1", "2024-01-05", "u", "i", "0"), header=(*"etuic",))})
    ads = laid(tmp_path / "ads", {"1.csv": csv(("a1", "2024-01-05", "u", "i", "1", "b"), header=(*"EtuicB",))})
    names = "event_time: t, user_id: u, item_id: i, clicked: c"
    settings = [
        f"source.ads={ads}",
        f"source.columns={{impressions: {{event_id: e, {names}}}, ads: {{event_id: E, bid: B, {names}}}}}",
    ]
    raw = read(spark, "csv", feed, *settings)
    found = judged_impressions(raw.impressions, Clock(), "UTC").orderBy("domain").collect()
    assert [(row["event_id"], row["domain"], row["clicked"], row["context"]) for row in found] == [
        ("a1", "ad", 1, {"bid": "b"}),
        ("e1", "natural", 0, {}),
    ]
    assert (raw.described["impressions"].rows, len(raw.described["impressions"].files)) == (2, 2)


def test_a_column_domain_beside_ads_logged_apart_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    header = ("event_id", "event_time", "domain", "user_id", "item_id", "clicked")
    folder = laid(tmp_path / "logs", {"1.csv": csv(("e1", "2024-01-05", "x.org", "u", "i", "0"), header=header)})
    said = refused(spark, "csv", folder, f"source.ads={folder}")
    assert "has a column domain, but source.ads already says which impressions are ads" in said


def test_quarantine_and_the_raw_check_name_the_logs_own_columns(spark: SparkSession, tmp_path: Path) -> None:
    folder = laid(tmp_path / "logs", {"part.csv": csv(*ROWS)})
    unread = ("features.fields.item_category=null", "features.fields.category_natural_rate_7=null")
    config = configured("csv", folder, COLUMNS, DOMAINS, *unread, f"storage.root={tmp_path}/root")
    (looked,) = looked_at(spark, config)
    columns = "request_id as event_id string, ts as event_time string, surface as domain string, member as user_id"
    assert any(columns in line for line in lines_of(looked, config.calendar.first_day))
    store = Store(Session.of(spark), Root.parse(config.storage.root), config.logs_id, config.data_set_id)
    day = next(day for day in looked.days if day)
    ingest(store, config, day, day)
    (bad,) = store.read(QUARANTINE).collect()
    assert json.loads(bad["row"]) == dict(zip(HEADER, ROWS[2], strict=True))
