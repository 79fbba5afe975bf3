"""A job that failed in Spark's executors is reported as a failed rank, a rank that died, or Spark's own failure."""

from __future__ import annotations

import pytest

from ecdctr_spark.launching.on_spark import cause
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.job import RankDiedError

ENDED = RuntimeError("Horovod detected that one or more processes exited with non-zero status\nExit code: 1\n")
TORCHRUN = "exitcode  : -9 (pid: 12)\ntraceback : Signal 9 (SIGKILL) received by PID 12\n"


def test_the_first_rank_that_failed_is_named_and_not_the_others_that_saw_it_go() -> None:
    log = "[0]<stderr>:rank 0 failed: BrokenExchangeError: gone\n[1]<stderr>:rank 1 failed: ValueError: no such file\n"
    error = cause(log, [ENDED])
    assert type(error) is RuntimeError and str(error) == "rank 1 failed: ValueError: no such file"


def test_what_the_user_can_act_on_is_said_as_in_one_process() -> None:
    error = cause("[0]<stderr>:rank 0 failed: ConfigError: part-0.parquet: missing or damaged\n", [ENDED])
    assert type(error) is ConfigError and str(error) == "part-0.parquet: missing or damaged"


@pytest.mark.parametrize(
    ("log", "raised"),
    [
        ("[1]<stderr>:bash: line 1: 4711 Killed\n", RuntimeError("non-zero status\nExit code: 137\n")),
        ("[0]<stderr>:rank 0 failed: BrokenExchangeError: gone\n", ENDED),
        ("", RuntimeError(f"Command torchrun failed. The task output is included below: {TORCHRUN}")),
        ("", RuntimeError("Job aborted: ExecutorLostFailure (executor 1 exited)")),
        ("", RuntimeError("non-zero status\nExit code: -1\n")),
    ],
)
def test_a_rank_that_was_killed_or_whose_executor_is_gone_has_died(log: str, raised: Exception) -> None:
    assert isinstance(cause(log, [raised]), RankDiedError)


def test_a_rank_that_could_not_import_has_not_died_and_its_error_is_quoted() -> None:
    log = "[0]<stderr>:Traceback\n[0]<stderr>:ModuleNotFoundError: No module named 'horovod'\n"
    error = cause(log, [ENDED])
    assert type(error) is RuntimeError
    assert "No module named 'horovod'" in str(error)


def test_what_spark_raised_in_the_launchers_thread_is_the_cause() -> None:
    spark = RuntimeError("Job aborted:\nTraceback\n  UnpicklingError: pickle data was truncated\n")
    error = cause("", [spark, RuntimeError("Spark job has failed, see the error above.")])
    assert type(error) is RuntimeError
    assert str(error) == "Spark failed: UnpicklingError: pickle data was truncated"


def test_a_failure_of_spark_that_its_user_can_act_on_is_one_line() -> None:
    spark = RuntimeError("Job aborted: java.io.IOException: No space left on device")
    with pytest.raises(ConfigError, match="a disk is full"):
        raise cause("", [RuntimeError("Job 3 cancelled part of cancelled job group"), spark])
