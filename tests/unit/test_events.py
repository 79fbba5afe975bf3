"""Events are JSON, one object per line, with no secrets; standard error is theirs alone."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from ecdctr_spark.events import as_json, event, passed_on, without_secrets


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_event_is_a_line_with_time_level_and_its_fields() -> None:
    stream = io.StringIO()
    with as_json(stream):
        event("step finished", step="build\n2024", rows=7, seconds=0.5, note=None)
    event("after it")
    (line,) = lines(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info", "event": "step finished", "step": "build\n2024", "rows": 7, "seconds": 0.5, "note": None,
    }  # fmt: skip


def test_an_event_with_an_error_is_one() -> None:
    stream = io.StringIO()
    with as_json(stream):
        event("step failed", error="no logs")
    assert lines(stream.getvalue())[0]["level"] == "error"


def test_events_of_a_block_are_passed_on_and_nothing_else() -> None:
    heard = []
    with passed_on(lambda name, fields: heard.append((name, fields))):
        event("step finished", rows=7)
        logging.getLogger("ecdctr_spark").warning("no event")
    event("after it")
    assert heard == [("step finished", {"rows": 7})]


def test_warnings_of_libraries_are_lines_too() -> None:
    stream = io.StringIO()
    with as_json(stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("some.library").warning("%d %s", 3, "left")
        logging.getLogger("some.library").info("chatter")
        warnings.warn("old", UserWarning, stacklevel=1)
    logged, warned = lines(stream.getvalue())
    assert {key: logged[key] for key in ("level", "event", "logger", "message")} == {
        "level": "warning", "event": "log", "logger": "some.library", "message": "3 left",
    }  # fmt: skip
    assert "UserWarning: old" in warned["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MLflow at https://me:pass@host:5000/x failed", "MLflow at https://***@host:5000/x failed"),
        ("GET s3.amazonaws.com/k?X-Amz-Signature=abc123&part=1", "GET s3.amazonaws.com/k?X-Amz-Signature=***&part=1"),
        ("https://x.blob/y?sv=2&sig=a%2Fb", "https://x.blob/y?sv=2&sig=***"),
        ("X-Amz-Security-Token=abc", "X-Amz-Security-Token=***"),
        ("s3a://bucket/folder, me@host", "s3a://bucket/folder, me@host"),
    ],
)
def test_credentials_of_addresses_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    stream = io.StringIO()
    with as_json(stream):
        event("log", note=text)
        logging.getLogger("some.library").warning(text)
    assert [line.get("note", line.get("message")) for line in lines(stream.getvalue())] == [shown, shown]


SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from ecdctr_spark.events import standard_error
with standard_error(Path(sys.argv[1])) as stream:
    print("python", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo child >&2"], check=True)
    print("ours", file=stream)
print("after", file=sys.stderr)
"""


def test_what_others_write_to_standard_error_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stderr.splitlines() == ["ours", "after"]
    assert sorted(log.read_text().split()) == ["child", "python"]


def test_a_process_that_is_started_quietly_stays_so_and_this_one_still_writes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    script = f"""
import subprocess
from pathlib import Path
from ecdctr_spark.events import quiet_processes
with quiet_processes(Path({str(log)!r})):
    child = subprocess.Popen(["sh", "-c", "read go; echo child; echo child >&2"], stdin=subprocess.PIPE)
    print("within")
child.communicate(b"go")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["within", "after"], "")
    assert log.read_text().split() == ["child", "child"]


def test_what_processes_write_goes_to_the_log_in_a_notebook_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    replaced = f"import os, sys\nsys.stderr = os.fdopen(os.dup(2), 'w')\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", replaced, str(log)], capture_output=True, text=True, check=True)
    assert "child" not in done.stderr
    assert log.read_text().split() == ["child"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host:5000/path", "http://***@host:5000/path"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://me:p@host/db?sslmode=x", "postgresql+psycopg2://***@host/db?sslmode=x"),
        ("mysql://host/db?user=me&password=secret&x=1", "mysql://host/db?user=me&password=***&x=1"),
        ("s3://b/x?secret_key=TOP&y=1", "s3://b/x?secret_key=***&y=1"),
        ("aws_secret_access_key=a AccountKey=b; api-key=c", "aws_secret_access_key=*** AccountKey=***; api-key=***"),
        ("two: http://a:b@c and http://d:e@f.", "two: http://***@c and http://***@f."),
        ("uri: 'http://a:b@c'", "uri: 'http://***@c'"),
    ],
)
def test_credentials_in_a_uri_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "abfss://container@account.dfs.core.windows.net/x",
        "http://host/a@b",
        "sqlite:////store/mlflow.db",
        "a@b",
        "design=x",
        "tokens=3",
        "key=x",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert without_secrets(text) == text
