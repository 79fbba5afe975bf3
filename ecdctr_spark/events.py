"""What a command does, for machines: one JSON object per line on standard error (`--json-logs`).

Events are records of Python's logging, so a program that calls the package may handle them in its own way; without a
handler they cost nothing. Each line has `time` (ISO 8601, UTC), `level` and `event`:

    command started     command
    step started        step, number, steps
    step progress       step, seconds, rows_per_second; and rows, total, note, or spark_job, tasks_done, tasks
    step finished       step, number, steps, rows, seconds, rows_per_second, note
    step failed         step, seconds, error
    nothing is due      first, last
    ranks chosen        model, ranks, rows, batch_size: by training.ranks auto
    training step chosen  choice (captured or eager, training/captured.py), reason, captured_ms, eager_ms: on a GPU
    report written      place, bytes
    waiting for the lease  holder
    the lease was lost  claim
    the lease was not renewed  claim, error
    tables tidied       files, seconds
    models removed      models
    unfinished models removed  folders
    log                 logger, message: a warning of a library
    command finished    command, seconds, exit_code: the last line
    command failed      command, seconds, exit_code, error: the last line
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, TextIO

LOG = logging.getLogger("ecdctr_spark")
LOG.addHandler(logging.NullHandler())  # without one, Python would print errors

# The user and password of a URI; an Azure container (abfss://container@account) is neither.
_CREDENTIALS = re.compile(r"\b(?!abfss:)([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_NAMED_SECRET = re.compile(
    r"\b((?:pwd|sig|[\w-]*(?:passw(?:or)?d|secret|token|signature|(?:api|access|account|secret|private)[_-]?key))=)"
    r"[^&;\s'\"]+",
    re.IGNORECASE,
)


def event(name: str, **fields: Any) -> None:
    """Reports an event with its fields: an error where one of them is `error`."""
    LOG.log(logging.ERROR if "error" in fields else logging.INFO, name, extra={"fields": fields})


def without_secrets(text: str) -> str:
    """The text with `***` in place of passwords and tokens in URIs, to be shown or stored."""
    return _NAMED_SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


@contextmanager
def as_json(stream: TextIO) -> Iterator[None]:
    """Writes the events of the block to the stream, and the warnings of libraries, as JSON."""
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    handler.setFormatter(_Json())
    before = LOG.level
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # MLflow would write its own lines
    root.addHandler(handler)
    LOG.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        LOG.setLevel(before)
        root.removeHandler(handler)


@contextmanager
def passed_on(hear: Callable[[str, dict[str, Any]], None]) -> Iterator[None]:
    """Gives the name and the fields of each event of the block to `hear`, so that another process may report it."""
    handler, before = _Passing(hear), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(before)
        LOG.removeHandler(handler)


@contextmanager
def standard_error(log: Path) -> Iterator[TextIO]:
    """A stream to standard error, to which only its holder writes: what this process and those that it starts write
    there otherwise goes to the end of `log`."""
    with _apart(sys.stderr, 2, log) as stream:
        yield stream


@contextmanager
def quiet_processes(log: Path) -> Iterator[None]:
    """Processes that are started in the block write to the end of `log` for as long as they live. This one still writes
    to standard output."""
    with standard_error(log), _apart(sys.stdout, 1, log) as stream, redirect_stdout(stream):
        yield


@contextmanager
def _apart(usual: TextIO, at: int, log: Path) -> Iterator[TextIO]:
    """A stream to where `usual` writes. The descriptor `at`, which other processes inherit, leads to the log; in a
    notebook, `usual` has another one."""
    try:
        usual.flush()
        usual.fileno()
    except (AttributeError, UnsupportedOperation):  # replaced by an object, which no other process can write to
        yield usual
        return
    ours, theirs = os.dup(at), os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(theirs, at)
    os.close(theirs)
    try:
        with os.fdopen(os.dup(ours), "w", encoding="utf-8", buffering=1) as stream:
            yield stream
    finally:
        usual.flush()
        os.dup2(ours, at)
        os.close(ours)


class _Passing(logging.Handler):
    def __init__(self, hear: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        if fields := getattr(record, "fields", None):
            self._hear(record.getMessage(), fields)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        named = {"event": "log", "logger": record.name, "message": record.getMessage()}
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **(named if fields is None else {"event": record.getMessage(), **fields}),
        }
        return json.dumps({key: _plain(value) for key, value in line.items()})


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    return without_secrets(str(value))
