"""What a failure means to the user: one line, an exit code, and a log that holds the rest.

An error that its user can act on has a known cause somewhere in its chain, the JVM's causes included. Any other is a
bug. Spark's JVM writes to the log of its process instead of the terminal (session.py).
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_SHOWN = 400  # characters of the line at fault
_KEPT_SECONDS = 7 * 24 * 3600.0  # of a log, since it was last written
_UNSAID = re.compile(r"at [\w.$/<>]+\(|\.\.\. \d+ more|Py4JJavaError: An error occurred while calling")

_SAID_BY_US = re.compile(r"\bConfigError: (.+)")  # see settings/base.py

# In the order in which they are tried: a pattern of a line, what it means, and what to do.
_KNOWN = (
    (
        r"java\.lang\.OutOfMemoryError|GC overhead limit",
        "Spark's JVM has too little memory",
        "raise spark.driver_memory",
    ),
    (r"No space left on device|Disk quota exceeded", "a disk is full", "make space and run it again: it resumes"),
    (
        r"Permission denied|PermissionError|AccessControlException|AccessDenied|Access Denied|Read-only file system"
        r"|Operation not permitted",
        "no permission",
        "give this user access, or name another place",
    ),
    (
        r"DELTA_CONCURRENT|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w+Exception|CommitFailedError"
        r"|\bTransaction failed|concurrent (?:commit|transaction|update)",
        "another run has written the same table meanwhile",
        "run it again when that has ended: it resumes",
    ),
    (
        r"DATA_SOURCE_NOT_FOUND\].*\bdelta\b|ClassNotFoundException: .*(?:io\.delta|\bdelta)\.",
        "Spark has no Delta Lake",
        "give spark-submit --packages io.delta:delta-spark_2.13 of Spark's version",
    ),
    (
        r"Class org\.apache\.hadoop\.fs\.\S+ not found|No FileSystem for scheme",
        "Spark has no client for this store",
        "give spark-submit --packages with it, such as org.apache.hadoop:hadoop-aws of Spark's Hadoop version",
    ),
    (
        r"ExecutorLostFailure|Container killed by YARN",
        "Spark has lost an executor: its machine is gone, or it had too little memory",
        "raise spark.executor.memoryOverhead (Python's memory) or spark.executor.memory, and run it again: it resumes",
    ),
    (
        r"Barrier execution mode does not",
        "Spark cannot start all ranks at once",
        "set spark.dynamicAllocation.enabled=false, and give it at least training.ranks cores",
    ),
    (
        r"Timed out waiting for .*Horovod process",
        "Spark has not started all ranks in time",
        "give it at least training.ranks cores, or lower training.ranks",
    ),
    (
        r"PYTHON_VERSION_MISMATCH",
        "Spark's executors have another Python than the driver",
        "set spark.pyspark.python to a Python on the executors of the driver's version",
    ),
    (
        r"Cannot run program \"[^\"]*python",
        "Spark's executors have no such Python",
        "set spark.pyspark.python to where it is on the executors",
    ),
    (
        r"FILE_NOT_EXIST|FileNotFound|DELTA_FILE_NOT_FOUND|NoSuchFile|No such file or directory",
        "a file is missing",
        "run it again, as another command may have replaced it; where it is still missing, restore it, or remove the"
        " folder of its table",
    ),
    (
        r"DELTA_(?:TABLE_NOT_FOUND|MISSING_DELTA_TABLE|PATH_DOES_NOT_EXIST|SCHEMA_NOT_SET|STATE_RECOVER\w*"
        r"|TRUNCATED_TRANSACTION_LOG|LOG_FILE\w*|VERSIONS_NOT_CONTIGUOUS|CREATE_TABLE_WITH_NON_EMPTY_LOCATION)"
        r"|TableNotFoundError|Not a Delta table|JsonParseException|JsonEOFException|MALFORMED_RECORD",
        "a table is half-made or damaged",
        "remove the table's folder and run it again",
    ),
    (
        r"is not a Parquet file|CANNOT_READ_FILE_FOOTER|FAILED_READ_FILE|Parquet magic bytes|Corrupt snappy"
        r"|ChecksumException",
        "a file is damaged",
        "restore it, or remove the folder of its table and run it again",
    ),
    (
        r"NotADirectory|Not a directory|ParentNotDirectory|FileAlreadyExists|FileExistsError|IsADirectory|Mkdirs f",
        "a folder is where a file should be, or a file where a folder should be",
        "move it away, or name another place",
    ),
    (
        r"UnsupportedClassVersionError|JAVA_GATEWAY_EXITED|JAVA_HOME",
        "Java did not start",
        "`ecdctr doctor` says which Java is needed and found; correct JAVA_HOME if it is set; spark.driver_memory must"
        " fit this machine, and spark.master be one that Spark knows",
    ),
    (
        r"^(?:Py4JNetworkError|Py4JError|ConnectionRefusedError|ConnectionResetError)\b",
        "Spark's JVM has ended: it was killed, or the machine has too little memory",
        "run it again: it resumes; spark.driver_memory must fit this machine",
    ),
    (
        r"BindException|Address already in use",
        "a port is taken",
        "end what listens there, or set another port",
    ),
    (
        r"(?:HTTP status|[Ss]tatus [Cc]ode:) 5\d\d"
        r"|AWS Error (?:INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING)",
        "a server fails",
        "run it again when it works: it resumes",
    ),
    (
        r"Connection refused|UnknownHost|Name or service not known|[Cc]ouldn't connect|[Cc]ould not connect|timed out"
        r"|AWS Error (?:NETWORK_CONNECTION|UNKNOWN)|NoSuchBucket|curlCode",
        "a server does not answer",
        "start it, or correct its address",
    ),
    (
        r"^ModuleNotFoundError: No module named '(?:pyspark|py4j|delta)\b",
        "Spark is not installed here",
        "pip install 'ecdctr_spark[local]', or start it by the spark-submit of a cluster",
    ),
    (
        r"No module named '(?:sqlalchemy|alembic)\b",
        "MLflow cannot keep its records in SQLite here",
        "pip install 'ecdctr_spark[local]', or name a server in tracking.uri",
    ),
    (
        r"ModuleNotFoundError",
        "a Python package is missing",
        "install it where it is missing: for the driver, or for the executors (spark.pyspark.python)",
    ),
    (r"MemoryError|Cannot allocate memory", "this machine has too little memory", "end other programs"),
)


def explain(error: BaseException) -> tuple[str, int]:
    """What failed on one line, and the exit code: 2 where the cause is known and the user can act, 1 for a bug."""
    lines = [line for text in _texts(error) for line in _lines(text)]
    for line in lines:
        if found := re.search(_SAID_BY_US, line):  # in a worker of Spark, which wraps it
            return found[1][:_SHOWN], 2
    for pattern, meaning, advice in _KNOWN:
        for line in lines:
            if found := re.search(pattern, line):
                # Spark 3.5 puts all that it says on one long line: what comes before the cause is left out.
                shown = line if len(line) <= _SHOWN else line[found.start() :]
                return f"{meaning} ({shown[:_SHOWN]}): {advice}", 2
    said = lines[0] if lines else type(error).__name__
    return (said.partition(": ")[2] if isinstance(error, RuntimeError) else said)[:_SHOWN] or said, 1


@lru_cache(maxsize=1)
def log_file() -> Path:
    """The log of this process, which is removed when the process ends, unless `keep` was called."""
    log = new_log("command")
    atexit.register(_discard, log)
    return log


def new_log(kind: str) -> Path:
    """An empty log in the system's folder for temporary files: the disk of the root may be full. Its user removes it
    where nothing failed; those that were kept are removed some days later."""
    folder = Path(tempfile.gettempdir())
    for kept in folder.glob("ecdctr-*.log"):
        with suppress(OSError):  # another user's, or another process has removed it
            if kept.stat().st_mtime < time.time() - _KEPT_SECONDS:
                kept.unlink()
    handle, name = tempfile.mkstemp(prefix=f"ecdctr-{os.getpid()}-{kind}-", suffix=".log", dir=folder)
    os.close(handle)
    return Path(name)


def keep(error: BaseException) -> str:
    """Adds the traceback to the log, which then stays; returns where the log is."""
    trace = "".join(traceback.format_exception(error))
    try:
        with log_file().open("a", encoding="utf-8") as log:
            log.write("".join([trace, *(text for each in _chain(error) if (text := _stack(each)) not in trace)]))
    except OSError as refused:
        return f"not written ({refused})"
    atexit.unregister(_discard)
    return str(log_file())


def _discard(log: Path) -> None:
    log.unlink(missing_ok=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _texts(error: BaseException) -> Iterator[str]:
    for each in _chain(error):
        yield f"{type(each).__name__}: {_said(each)}"
        yield _stack(each)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # py4j asks the JVM for the text, and the JVM may be dead
        return ""


def _stack(error: BaseException) -> str:
    """The JVM's trace, of an exception that PySpark has translated."""
    return str(getattr(error, "_stackTrace", None) or "")


def _lines(text: str) -> Iterator[str]:
    """The lines of a text without those of a stack, and without py4j's own first one."""
    for line in text.splitlines():
        said = re.sub(r"^(?:Caused by|Suppressed)?: ", "", line.strip())
        if said and not re.match(
            r"at [\w.$/<>]+\(|\.\.\. \d+ more|Py4JJavaError: An error occurred while calling", said
        ):
            yield " ".join(said.split())
