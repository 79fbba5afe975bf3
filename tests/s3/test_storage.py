"""A root on S3 does what a local one does."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import File, Published, Root, sha256
from ecdctr_spark.tables import pinned
from ecdctr_spark.tables.schemas import METRICS, MODELS
from ecdctr_spark.tables.small import among, append_rows, literal, read_rows, replace_rows

MANIFEST = "manifest.json"


def published(place: Root, content: dict[str, bytes]) -> dict[str, File]:
    draft = place.draft(MANIFEST)
    draft.begin()
    for name, written in content.items():
        with draft.writing(name) as path:
            path.write_bytes(written)
    files = draft.files()
    draft.publish(b"{}")
    return files


def test_objects_are_written_listed_read_and_removed(s3_root: Root, tmp_path: Path) -> None:
    assert not s3_root.exists()
    assert s3_root.list() == s3_root.files() == ()
    s3_root.at("deep/ü").write_bytes(b"1")
    s3_root.at("deep/ü").write_bytes(b"two")
    s3_root.at("a").write_bytes(b"")
    assert s3_root.at("deep", "ü").read_bytes() == b"two"
    assert (s3_root.at("deep").size(), s3_root.at("deep/ü").size()) == (None, 3)
    assert s3_root.list() == (s3_root.at("a"), s3_root.at("deep"))
    assert s3_root.files() == ("a", "deep/ü")
    s3_root.fetch(tmp_path / "all")
    assert (tmp_path / "all" / "deep" / "ü").read_bytes() == b"two"
    s3_root.at("deep").remove()
    assert s3_root.files() == ("a",)
    with pytest.raises(FileNotFoundError):
        s3_root.at("deep/ü").read_bytes()


def test_what_has_no_manifest_does_not_exist_and_leaves_nothing_to_the_next(s3_root: Root) -> None:
    place = s3_root.at("models/actr")
    published(place, {"rows": b"old", "gone": b""})
    killed = place.draft(MANIFEST)
    killed.begin()
    with killed.writing("stale") as path:
        path.write_bytes(b"new")
    assert not place.at(MANIFEST).exists()
    published(place, {"rows": b"new", "parts/0": b"0"})
    assert place.files() == (MANIFEST, "parts/0", "rows")


def test_published_files_are_fetched_and_checked_against_their_hashes(s3_root: Root) -> None:
    listed = published(s3_root, {"rows": b"new"})
    assert listed == {"rows": File(size=3, sha256=sha256(b"new"))}
    files = Published(s3_root, listed)
    files.check()
    fetched = files.local("rows")
    assert fetched.read_bytes() == b"new"
    del files
    assert not fetched.exists()
    s3_root.at("rows").write_bytes(b"odd")  # of the same size
    with pytest.raises(ConfigError, match="rows: missing, truncated or changed"):
        Published(s3_root, listed).local("rows")
    s3_root.at("rows").write_bytes(b"longer")
    with pytest.raises(ConfigError, match="rows: missing, truncated or changed"):
        Published(s3_root, listed).check()


def test_small_tables_are_replaced_and_read(s3_root: Root) -> None:
    day, created = dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 9, tzinfo=dt.timezone.utc)
    assert read_rows(s3_root, MODELS) == []
    model = {"model_id": "m", "tables": {"t": 1}, "days": [day], "created": created}
    for _ in range(2):
        replace_rows(s3_root, MODELS, [model], among("model_id", ["m"]))
    assert [{name: row[name] for name in model} for row in read_rows(s3_root, MODELS)] == [model]
    append_rows(s3_root, METRICS, [{"date": day, "auc": 0.5}, {"auc": 0.6}])
    replace_rows(s3_root, METRICS, [], f"date = {literal(day)}")
    assert [row["auc"] for row in read_rows(s3_root, METRICS)] == [0.6]
    assert pinned.version(s3_root.at("tables/metrics")) == 2
