"""A failure is one line that says what to do; what the user can do nothing about is a bug, with a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecdctr_spark import failures
from ecdctr_spark.failures import explain


class Py4JJavaError(Exception):
    """As py4j's: its text holds the JVM's stack."""


class AnalysisException(Exception):
    """As PySpark's: the JVM's stack is beside its text."""

    def __init__(self, text: str, stack: str) -> None:
        super().__init__(text)
        self._stackTrace = stack


class Py4JNetworkError(Exception):
    pass


class OfDeadJvm(Exception):
    def __str__(self) -> str:
        raise ConnectionRefusedError(111, "Connection refused")


def java(*causes: str) -> Py4JJavaError:
    stack = "\tat org.apache.spark.Thing.run(Thing.scala:7)\n\t... 12 more"
    first, *others = causes
    lines = [f": {first}\n{stack}", *(f"Caused by: {cause}\n{stack}" for cause in others)]
    return Py4JJavaError("\n".join(["An error occurred while calling o12.save.", *lines]))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ABORTED = "org.apache.spark.SparkException: Job aborted"
GONE = "[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error while reading file file:/r/tables/impressions/a.parquet"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (java(ABORTED, "java.io.IOException: No space left on device"), "a disk is full (java.io.IOException: No"),
        (OSError(28, "No space left on device", "/r/x"), "a disk is full (OSError: [Errno 28] No space left on device"),
        (RuntimeError("rank 1 failed: OSError: No space left on device"), "a disk is full"),
        (java(ABORTED, "java.lang.OutOfMemoryError: Java heap space"), "Spark's JVM has too little memory"),
        (java("io.delta.exceptions.ConcurrentAppendException: [DELTA_CONCURRENT_APPEND] x"), "another run has written"),
        (caused(ValueError("x"), Exception("CommitFailedError: Transaction failed")), "another run has written"),
        (AnalysisException("[DELTA_TABLE_NOT_FOUND] `file:/r/tables/t`", ""), "a table is half-made or damaged"),
        (AnalysisException("it failed", f"{ABORTED}\n\tat x.Y.z(Y.java)\nCaused by: {GONE}"), "a file is missing"),
        (FileNotFoundError(2, "No such file or directory", "/r/x"), "a file is missing"),
        (java(ABORTED, "java.lang.RuntimeException: file:/r/a.parquet is not a Parquet file"), "a file is damaged"),
        (
            java(
                ABORTED, "org.apache.hadoop.fs.ChecksumException: Checksum error: file:/r/a.parquet at 0 exp: 1 got: 2"
            ),
            "a file is damaged (org.apache.hadoop.fs.ChecksumException: Checksum error: file:/r/a.parquet",
        ),
        (PermissionError(13, "Permission denied", "/r/x"), "no permission"),
        (ModuleNotFoundError("No module named 'pyspark'"), "Spark is not installed here"),
        (ModuleNotFoundError("No module named 'sqlalchemy'"), "MLflow cannot keep its records in SQLite here"),
        (java("org.apache.hadoop.security.AccessControlException: Permission denied: user=me"), "no permission"),
        (NotADirectoryError(20, "Not a directory", "/r/x"), "a folder is where a file should be"),
        (Py4JNetworkError("Answer from Java side is empty"), "Spark's JVM has ended"),
        (ConnectionRefusedError(111, "Connection refused"), "Spark's JVM has ended"),
        (RuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited"), "Java did not start"),
        (java(ABORTED, "java.net.ConnectException: Connection refused"), "a server does not answer"),
        (
            java("SparkClassNotFoundException: [DATA_SOURCE_NOT_FOUND] Failed to find: delta. Make"),
            "Spark has no Delta",
        ),
        (java("java.lang.ClassNotFoundException: io.delta.sql.DeltaSparkSessionExtension"), "Spark has no Delta"),
        (java("Class org.apache.hadoop.fs.s3a.S3AFileSystem not found"), "Spark has no client for this store"),
        (java('UnsupportedFileSystemException: No FileSystem for scheme "gs"'), "Spark has no client for this store"),
        (java("Job aborted: ExecutorLostFailure (executor 0 exited)"), "Spark has lost an executor"),
        (java("[SPARK-24942]: Barrier execution mode does not support"), "Spark cannot start all ranks at once"),
        (
            Exception("Timed out waiting for Spark tasks to start. Please check ... all Horovod processes"),
            "Spark has not started all ranks in time",
        ),
        (java("[PYTHON_VERSION_MISMATCH] Python in worker has 3.12"), "Spark's executors have another Python"),
        (
            java('java.io.IOException: Cannot run program "/b/python": error=2, No such file'),
            "Spark's executors have no",
        ),
        (
            java("PythonException: Traceback", "ModuleNotFoundError: No module named 'torch'"),
            "a Python package is missing",
        ),
        (
            java("PythonException: Traceback", "ecdctr_spark.settings.base.ConfigError: /r/weights: missing: export"),
            "/r/weights: missing: export",
        ),
    ],
)
def test_a_known_cause_is_found_anywhere_in_the_chain_and_is_the_users(error: Exception, said: str) -> None:
    line, code = explain(error)
    assert line.startswith(said) and code == 2
    assert "\n" not in line and "\tat " not in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (ValueError(), "ValueError:"),
        (java("java.lang.NullPointerException: x is null"), "java.lang.NullPointerException: x is null"),
        (RuntimeError("rank 1 failed: the loss is not finite"), "rank 1 failed: the loss is not finite"),
        (OfDeadJvm(), "OfDeadJvm:"),
    ],
)
def test_anything_else_is_a_bug_that_is_named_by_its_first_line(error: Exception, said: str) -> None:
    assert explain(error) == (said, 1)


def test_the_log_holds_the_traceback_and_the_stack_of_the_jvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("what the JVM said\n")
    monkeypatch.setattr(failures, "log_file", lambda: log)
    try:
        raise ValueError("on top") from AnalysisException("below", "org.Thing: of the JVM")
    except ValueError as error:
        assert failures.keep(error) == str(log)
    for said in ("what the JVM said", "ValueError: on top", "AnalysisException: below", "org.Thing: of the JVM"):
        assert said in log.read_text()


def test_a_log_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "log_file", lambda: tmp_path)  # a folder
    assert failures.keep(ValueError("x")).startswith("not written (")
