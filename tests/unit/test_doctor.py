"""The doctor reports what is wrong, and how to fix it, in one line each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ecdctr_spark import doctor


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ("command not found", None),
    ],
)
def test_java_version_is_read_from_what_java_prints(output: str, major: int | None) -> None:
    assert doctor.java_major(output) == major


def test_this_environment_is_healthy() -> None:
    assert [finding.line() for finding in doctor.environment_findings() if not finding.good] == []


def test_an_unsuitable_java_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"25.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    lines: list[str] = []
    assert doctor.report(doctor.machine_findings(), lines.append) == 2
    assert [line for line in lines if line.startswith("BAD")] == [
        f"BAD Java: version 25 at {java}; install a JDK or JRE 17 or 21 (Debian: openjdk-17-jre-headless)"
        " and set JAVA_HOME to it"
    ]


def test_it_needs_nothing_but_the_standard_library() -> None:
    """The Makefile runs it before anything is installed."""
    done = subprocess.run([sys.executable, "-I", "-S", doctor.__file__], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_package_of_an_unsuitable_version_is_one_line_with_the_command_that_fixes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = doctor.importlib.metadata.version
    monkeypatch.setattr(doctor, "_horovod", lambda: doctor.Finding("Horovod with torch", True, "Gloo"))
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: "10.0.1" if name == "pyarrow" else installed(name)
    )
    assert [finding.line() for finding in doctor.environment_findings() if not finding.good] == [
        "BAD pyarrow: 10.0.1; pip install 'pyarrow>=11' (Spark 4.1 needs 15, Petastorm less than 15)"
    ]


def test_what_takes_the_place_of_a_package_that_is_not_needed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    lines = [finding.line() for finding in doctor.environment_findings()]
    assert "ok  petastorm: not installed: pyarrow reads samples" in lines
    assert "ok  horovod: not installed: torch.distributed joins ranks" in lines
    assert not any("Horovod with torch" in line for line in lines)


def test_a_cluster_may_bring_spark_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("pyspark", "delta-spark"):
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return "2.5"

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert "ok  pyspark: the cluster's own" in [finding.line() for finding in doctor.environment_findings()]
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert (
        "BAD pyspark: not installed; pip install 'pyspark>=3.5,<4.1.2'"
        " (4.1.4 lacks a class of Delta 4.1's; or use a cluster's spark-submit)"
        in [finding.line() for finding in doctor.environment_findings()]
    )
