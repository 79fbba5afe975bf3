"""What may fail around a command, made to happen: it ends with one line, exit code 2, and the file of the full log."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.end_to_end

DAYS = ("--from", "2024-01-30", "--to", "2024-01-31")


def run(overlay: Path, root: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """An ingest."""
    command = [sys.executable, "-m", "ecdctr_spark.cli", "ingest", *DAYS, "--conf", str(overlay), *more]
    command += ["--set", f"storage.root={root}"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def ended(overlay: Path, root: Path, *more: str, **environment: str) -> str:
    """The line that an ingest ends with. A log that it names must hold the trace."""
    done = run(overlay, root, *more, **environment)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    named = re.search(r" \(log: (.*)\)$", line)
    assert named is None or "Traceback" in Path(named[1]).read_text()
    assert (named is None) == line.startswith("error: storage.root: "), line  # which says all
    return line


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A small disk of its own at `folder`."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may mount no disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def java(folder: Path, text: str) -> str:
    """A JAVA_HOME whose java is a script."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(folder)


def test_a_full_disk_and_the_table_is_written_when_there_is_room(overlay: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "small", "size=64k") as small:
        assert ended(overlay, small / "root").startswith("error: a disk is full (")
        subprocess.run(["mount", "-o", "remount,size=1g", small], check=True)
        assert run(overlay, small / "root").returncode == 0


def test_a_disk_that_can_only_be_read(overlay: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "fixed", "ro") as fixed:
        assert "expected a folder that can be created and written to" in ended(overlay, fixed / "root")


def test_no_java(overlay: Path, tmp_path: Path) -> None:
    line = ended(overlay, tmp_path / "root", JAVA_HOME=str(tmp_path / "nowhere"))
    assert line.startswith("error: Java did not start (")


def test_a_java_that_is_too_old(overlay: Path, tmp_path: Path) -> None:
    said = "java.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main: class file version 61.0"
    line = ended(overlay, tmp_path / "root", JAVA_HOME=java(tmp_path, f"echo '{said}' >&2; exit 1"))
    assert line.startswith("error: Java did not start (")


def test_more_memory_than_there_is(overlay: Path, tmp_path: Path) -> None:
    line = ended(overlay, tmp_path / "root", "--set", "spark.driver_memory=90000g")
    assert line.startswith("error: Java did not start (") and "spark.driver_memory" in line


def test_a_jvm_that_has_too_little_memory(logs: Path, overlay: Path, tmp_path: Path) -> None:
    shutil.copytree(logs / "impressions", tmp_path / "logs")
    with (tmp_path / "logs" / "part.csv").open("a") as file:
        file.write(f"{'x' * 400_000_000},2024-01-31T10:00:00,ad,user-1,item-1\n")
    settings = (f"source.impressions={tmp_path}/logs", "spark.driver_memory=512m")
    line = ended(overlay, tmp_path / "root", *(part for each in settings for part in ("--set", each)))
    assert line.startswith("error: Spark's JVM has too little memory ("), line


def test_a_port_that_is_taken(overlay: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = f"--conf spark.driver.port={port} --conf spark.port.maxRetries=0 pyspark-shell"
        line = ended(overlay, tmp_path / "root", PYSPARK_SUBMIT_ARGS=settings)
    assert line.startswith("error: a port is taken (")
