"""The error of a job names the rank that caused it, whichever reports first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from ecdctr_spark.events import passed_on
from ecdctr_spark.launching import local
from ecdctr_spark.launching.local import Message, _Group
from ecdctr_spark.settings.base import ConfigError, plain
from ecdctr_spark.training.job import TrainingJob, TrainingResult
from tests.made_up import TRAIN, ctr_spec

BROKEN: Message = {"error": "BrokenExchangeError: Horovod has been shut down"}


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Group]:
    """Two ranks whose messages the test puts into the inbox."""
    monkeypatch.setattr(local, "_CAUSE_SECONDS", 0.1)
    group = _Group(2)
    group.log.write_text("Killed")
    yield group
    group.log.unlink()
    group.stop()
    assert not group.folder.exists()


JOB = TrainingJob(
    model_id="m",
    model=ctr_spec(),
    train=TRAIN,
    units=(),
    until=dt.date(2024, 1, 1),
    output="nowhere",
)


def failure(group: _Group, *heard: tuple[int, Message | None]) -> str:
    for words in heard:
        group.inbox.put(words)
    with pytest.raises((RuntimeError, ConfigError)) as error:
        group.train(JOB, lambda rows, loss: None)
    return str(error.value)


def test_what_the_user_can_act_on_is_said_as_in_one_process(group: _Group) -> None:
    said = failure(group, (0, BROKEN), (1, {"error": "ConfigError: samples/part-0.parquet: missing or damaged"}))
    assert said == "samples/part-0.parquet: missing or damaged"


def test_the_events_of_a_rank_are_reported_by_the_driver(group: _Group) -> None:
    result, heard = plain(TrainingResult(rows=1, steps=1, seconds=1.0, loss=0.5, waiting=0.0)), list[object]()
    for words in ({"event": ["training step chosen", {"choice": "eager"}]}, {"result": result}):
        group.inbox.put((0, words))
    group.inbox.put((1, {"result": result}))
    with passed_on(lambda name, fields: heard.append((name, fields))):
        group.train(JOB, lambda rows, loss: None)
    assert heard == [("training step chosen", {"choice": "eager"})]


def test_a_rank_that_died_is_named_though_another_reported_first(group: _Group) -> None:
    assert failure(group, (0, BROKEN), (1, None)).startswith("rank 1 died: ... Killed")


def test_a_rank_that_died_is_quoted_and_not_what_the_others_said_of_it(group: _Group) -> None:
    others = "".join(f"[0]<stderr>:the exchange is broken, line {line}\n" for line in range(100))
    group.log.write_text(f"[1]<stderr>:bash: line 1: 4711 Killed\n{others}")
    assert failure(group, (0, BROKEN), (1, None)).startswith("rank 1 died: ... bash: line 1: 4711 Killed (log: ")


def test_a_rank_that_failed_is_named_though_another_reported_first(group: _Group) -> None:
    heard = failure(group, (0, BROKEN), (0, {"progress": [1, 0.5]}), (1, {"error": "ValueError: nothing works"}))
    assert heard.startswith("rank 1 failed: ValueError: nothing works")


def test_a_broken_exchange_alone_is_reported_as_it_is(group: _Group) -> None:
    assert failure(group, (0, BROKEN)).startswith("rank 0 failed: BrokenExchangeError")
