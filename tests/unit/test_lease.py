"""Of commands that write under one root, one runs; the others are refused in one line, or wait."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import json

from ecdctr_spark import lease as leases
from ecdctr_spark.lease import lease
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sealed

HOLDS = """
import sys, time
from ecdctr_spark.lease import lease
from ecdctr_spark.storage import Root, sealed
with lease(Root.parse(sys.argv[1]), "run"):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.parse(tmp_path)


@pytest.fixture
def other(root: Root) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease."""
    command = [sys.executable, "-c", HOLDS, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        yield process
        process.kill()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is spent on trying again."""
    monkeypatch.setattr(leases, "_TRIED", 0.0)


def claims(root: Root) -> list[str]:
    return sorted(root.at("leases").times())


def test_a_second_command_is_refused_and_told_who_writes(root: Root, other: subprocess.Popen[str], hasty: None) -> None:
    before = claims(root)
    said = rf"^storage.root: ecdctr run of \S+ on \S+ \(process {other.pid}\), since [\d: -]+ UTC writes there: [^\n]*$"
    with pytest.raises(ConfigError, match=said), lease(root, "build"):
        pass
    assert claims(root) == before and len(before) == 1  # it has withdrawn its own claim, and the other's is there


def test_it_is_returned_also_after_an_error(root: Root) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), lease(root, "run"):
            assert len(claims(root)) == 1
            raise KeyError
    assert claims(root) == []


def test_that_of_a_killed_process_is_taken_over_at_once(root: Root, other: subprocess.Popen[str], hasty: None) -> None:
    before = claims(root)
    other.kill()
    other.wait()
    with lease(root, "run"):
        assert len(claims(root)) == 1 and claims(root) != before


@pytest.mark.parametrize(("age", "lives"), [(500.0, True), (700.0, False)])
def test_that_of_another_machine_is_taken_over_when_it_is_not_renewed(
    root: Root, hasty: None, age: float, lives: bool
) -> None:
    there = root.at("leases", "a.json")
    there.write_bytes(b'{"command":"run","user":"u","host":"elsewhere","process":1,"since":"2024-01-01 00:00:00"}')
    assert there.path is not None
    os.utime(there.path, (time.time() - age,) * 2)
    with ExitStack() as stack:
        if lives:
            stack.enter_context(pytest.raises(ConfigError, match=r"ecdctr run of u on elsewhere \(process 1\)"))
        stack.enter_context(lease(root, "build"))
        assert "a.json" not in claims(root)


def test_a_command_waits_as_long_as_it_is_told_to(root: Root, hasty: None) -> None:
    held, begun = threading.Event(), time.monotonic()

    def hold() -> None:
        with lease(root, "run"):
            held.set()
            time.sleep(1.0)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with lease(root, "tidy", wait_minutes=1.0):
        assert 1.0 <= time.monotonic() - begun < 30.0
    holder.join()


def test_of_many_that_begin_together_one_at_a_time_writes(root: Root) -> None:
    inside, most, done = [], [], []

    def write() -> None:
        with lease(root, "run", wait_minutes=1.0):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()
            done.append(1)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6 and set(most) == {1}
    assert claims(root) == []


def test_it_is_renewed_while_it_is_held(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEWED", 0.05)
    with lease(root, "run"):
        (name,) = claims(root)
        first = root.at("leases").times()[name]
        time.sleep(0.5)
        assert root.at("leases").times()[name] > first


def test_a_command_whose_lease_was_taken_ends(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEWED", 0.05)
    with pytest.raises(KeyboardInterrupt), lease(root, "run"):
        root.at("leases").remove()
        time.sleep(10)


CLAIM = sealed({"command": "run", "user": "u", "host": socket.gethostname(), "process": 1 << 22, "since": "2024"})


@pytest.mark.parametrize("content", [b"", b"{", CLAIM.replace(b"4194304", b"4194305")])
def test_a_claim_that_cannot_be_read_holds_until_it_expires(root: Root, hasty: None, content: bytes) -> None:
    """It may be half written, or damaged: another process of this machine would seem to have it."""
    there = root.at("leases", "a.json")
    there.write_bytes(content)
    said = r"a command whose claim .*leases/a.json cannot be read \(remove it if none runs\) writes there"
    with pytest.raises(ConfigError, match=said), lease(root, "run"):
        pass
    assert there.path is not None
    os.utime(there.path, (time.time() - 700,) * 2)
    with lease(root, "run"):
        assert not there.exists()


def test_that_of_a_killed_process_whose_number_this_one_has_is_taken_over(root: Root, hasty: None) -> None:
    """As in a container that is started again."""
    claim = leases.Claim(command="run", user="u", host=socket.gethostname(), process=os.getpid(), since="2024-01-01")
    root.at("leases", "a.json").write_bytes(json.encode(claim))
    with lease(root, "run"):
        assert len(claims(root)) == 1


def test_a_command_that_is_interrupted_while_it_waits_leaves_no_claim(
    root: Root, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = claims(root)
    written = Root.write_bytes

    def interrupted(place: Root, content: bytes) -> None:
        written(place, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(Root, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt), lease(root, "build", wait_minutes=1.0):
        pass
    assert claims(root) == before


def test_a_store_that_fails_while_a_lease_is_renewed_does_not_end_the_renewing(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: Azure's raises no OSError."""
    monkeypatch.setattr(leases, "_RENEWED", 0.05)
    with lease(root, "run"):
        (name,) = claims(root)
        first = root.at("leases").times()[name]
        with monkeypatch.context() as failing:
            failing.setattr(Root, "exists", lambda place: 1 / 0)
            time.sleep(0.3)
        time.sleep(0.3)
        assert root.at("leases").times()[name] > first
