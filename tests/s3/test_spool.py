"""Records wait for MLflow on an object store as they do on a disk."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from msgspec import json
from msgspec.structs import replace

from ecdctr_spark.storage import Root
from ecdctr_spark.tracking.spool import Lease, Record, Spool


def test_records_come_out_in_order_until_they_are_removed(s3_root: Root) -> None:
    spool = Spool(s3_root.at("tracking"))
    assert spool.segments() == []
    for step, model in enumerate(("actr-2024-03-05-1", "tpm-2024-01-31-2", "actr-2024-03-05-1")):
        spool.append(model, [Record(time=7, step=step), Record(time=8, metrics={"loss": 0.5})])
    segments = spool.segments()
    assert [segment.model for segment in segments] == ["actr-2024-03-05-1", "tpm-2024-01-31-2", "actr-2024-03-05-1"]
    assert [segment.count for segment in segments] == [2, 2, 2]
    assert segments[2].records() == [Record(time=7, step=2), Record(time=8, metrics={"loss": 0.5})]
    segments[0].place.remove()
    assert spool.segments() == segments[1:] and segments[0].records() == []
    assert spool.identity() == Spool(s3_root.at("tracking")).identity()


def test_a_lease_of_a_living_process_hides_its_model_and_one_of_a_dead_process_says_that_it_was_killed(
    s3_root: Root,
) -> None:
    spool = Spool(s3_root.at("tracking"))
    spool.append("actr-1", [Record(time=7)])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lease = Lease(host=socket.gethostname(), process=other.pid, renewed=1e12)
        s3_root.at("tracking", "training", "actr-1.json").write_bytes(json.encode(lease))
        assert (spool.segments(), spool.killed()) == ([], [])
        other.communicate(b"\n")
    assert len(spool.segments()) == 1 and spool.killed() == ["actr-1"]
    elsewhere = replace(lease, host="elsewhere", process=os.getpid())
    s3_root.at("tracking", "training", "actr-1.json").write_bytes(json.encode(elsewhere))
    assert spool.killed() == []
    s3_root.at("tracking", "training", "actr-1.json").write_bytes(json.encode(replace(elsewhere, renewed=0.0)))
    assert spool.killed() == ["actr-1"]
    spool.release("actr-1")
    assert spool.killed() == []
