"""What waits for MLflow: a flipped bit in it is found and named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root
from ecdctr_spark.tracking.spool import Lease, Record, Spool
from tests.flips import with_flipped_bit

MODEL = "actr-2024-03-05-00000000"
RECORDS = [Record(time=7, step=1, metrics={"loss": 0.5}), Record(time=8, status="FINISHED")]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """With records, a lease and an identity."""
    spool = Spool(Root.parse(tmp_path))
    spool.append(MODEL, RECORDS)
    spool.hold(MODEL)
    spool.identity()
    return spool


READERS: dict[str, Callable[[Spool], object]] = {
    "records/*": lambda spool: [segment.records() for segment in spool.segments()],
    "training/*": lambda spool: (spool.segments(), spool.killed()),
    "root_id": lambda spool: spool.identity(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_found_or_changes_nothing(spool: Spool, tmp_path: Path, name: str) -> None:
    (file,) = tmp_path.glob(name)
    read, written, found = READERS[name], file.read_bytes(), 0
    before = read(spool)
    for bit in range(8 * len(written)):
        file.write_bytes(with_flipped_bit(written, bit))
        with suppress(ConfigError):
            assert read(spool) == before
            continue
        with pytest.raises(ConfigError, match=f"{file}: damaged"):
            read(spool)
        found += 1
    assert found > 4 * len(written)


def test_what_a_former_version_left_without_hashes_is_read(spool: Spool, tmp_path: Path) -> None:
    (records,), (lease,) = tmp_path.glob("records/*"), tmp_path.glob("training/*")
    records.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in RECORDS))
    lease.write_bytes(msgspec.json.encode(Lease(host="elsewhere", process=1, renewed=0.0)))
    (tmp_path / "root_id").write_text("0123456789abcdef" * 2)
    assert [segment.records() for segment in spool.segments()] == [RECORDS]
    assert spool.killed() == [MODEL]
    assert spool.identity() == "0123456789abcdef" * 2


def test_a_segment_that_lost_a_record_is_damaged(spool: Spool, tmp_path: Path) -> None:
    (records,) = tmp_path.glob("records/*")
    records.write_bytes(msgspec.json.encode(RECORDS[0]) + b"\n")
    with pytest.raises(ConfigError, match=f"{records}: damaged: restore it, or remove it"):
        spool.segments()[0].records()
