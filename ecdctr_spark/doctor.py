"""Checks the machine and the environment, and says how to fix what is wrong.

It imports the standard library only. The Makefile runs it with a bare Python before anything is installed
(`python3 -I ecdctr_spark/doctor.py`); `ecdctr doctor` runs it inside the finished environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

JAVA_VERSIONS = (17, 21)
SETUP_DISK_GB = 10
MEMORY_GB = 6

# package -> (lowest, first that no longer works if any is known, why): the ranges of pyproject.toml
PACKAGES = {
    "pyspark": ("3.5", "4.1.2", "4.1.4 lacks a class of Delta 4.1's; or use a cluster's spark-submit"),
    "delta-spark": ("3.2", "4.2", "of the line that goes with your Spark"),
    "pyarrow": ("11", None, "Spark 4.1 needs 15, Petastorm less than 15"),
    "numpy": ("1.23.5", "3", "the range that was tested"),
    "pandas": ("1.5.3", "4", "Spark 4.0 needs 2"),
    "torch": ("2.1", "3", "the range that was tested"),
    "deltalake": ("1.2", "2", "keep_versions of vacuum"),
}
# Likewise, for what is not needed, and what takes its place.
OPTIONAL = {
    "petastorm": ("0.12.1", "0.12.2", "0.13 loses rows", "pyarrow reads samples"),
    "horovod": ("0.28.1", "1", "built as `make setup` does", "torch.distributed joins ranks"),
}
_MODULES = {"pyspark": "pyspark", "delta-spark": "delta"}  # a cluster brings them without their metadata


class Finding(NamedTuple):
    """The result of one check: its subject, whether it passed, what was found, and how to fix it."""

    subject: str
    good: bool
    found: str
    fix: str = ""

    def line(self) -> str:
        """One line for the terminal."""
        head = f"{'ok ' if self.good else 'BAD'} {self.subject}: {self.found}"
        return head if self.good else f"{head}; {self.fix}"


def machine_findings() -> Iterator[Finding]:
    """What `make` needs before it installs anything: Python, its headers, Java, a compiler, disk, memory."""
    yield _python()
    yield _python_headers()
    yield _java()
    yield _compiler()
    yield _disk(Path.cwd())
    yield _memory()


def environment_findings() -> Iterator[Finding]:
    """What a run needs: Python, Java, memory, package versions that work together, and Horovod if it is there."""
    yield _python()
    yield _java()
    yield _memory()
    for package, (lowest, below, why) in PACKAGES.items():
        yield _package(package, lowest, below, why)
    for package, (lowest, below, why, instead) in OPTIONAL.items():
        if find_spec(package) is None:
            yield Finding(package, True, f"not installed: {instead}")
        else:
            yield _package(package, lowest, below, why)
    if find_spec("horovod") is not None:
        yield _horovod()


def report(findings: Iterable[Finding], write: Callable[[str], object] = print) -> int:
    """Writes one line per finding and returns the exit code: 0, or 2 if one is bad."""
    code = 0
    for finding in findings:
        write(finding.line())
        code = code if finding.good else 2
    return code


def java_major(version_output: str) -> int | None:
    """The major version in the output of `java -version` ("17.0.15" is 17, "1.8.0_392" is 8), None if there is none."""
    match = re.search(r'version "(?:1\.)?(\d+)', version_output)
    return int(match.group(1)) if match else None


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = (3, 10) <= sys.version_info[:2] <= (3, 12)
    return Finding("Python", good, found, "install Python 3.10, 3.11 or 3.12 and put it on PATH (or make PYTHON=...)")


def _python_headers() -> Finding:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    found = str(header) if header.exists() else f"no {header}"
    return Finding("Python headers", header.exists(), found, "install python3-dev (Horovod compiles an extension)")


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    fix = "install a JDK or JRE 17 or 21 (Debian: openjdk-17-jre-headless) and set JAVA_HOME to it"
    if java is None:
        return Finding("Java", False, "no java on PATH and no JAVA_HOME", fix)
    major = java_major(_output([java, "-version"]))
    found = f"version {major} at {java}" if major else f"{java} does not run"
    return Finding("Java", major in JAVA_VERSIONS, found, fix)


def _compiler() -> Finding:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    works = bool(compiler) and "version" in _output([str(compiler), "--version"]).lower()
    # A compiler's version text may lack the word "version" (g++ prints "g++ (Debian ...) 12.2.0").
    works = works or (bool(compiler) and bool(re.search(r"\d+\.\d+", _output([str(compiler), "--version"]))))
    return Finding("C++ compiler", works, str(compiler or "none"), "install g++ (Debian: build-essential)")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    needed = 1 if (folder / ".venv" / ".stamps" / "packages").exists() else SETUP_DISK_GB
    fix = f"free {needed} GB: torch alone takes 5"
    return Finding("disk", free >= needed, f"{free:.0f} GB free at {folder}", fix)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("memory", total >= MEMORY_GB, f"{total:.0f} GB", f"a local run needs {MEMORY_GB} GB")


def _package(package: str, lowest: str, below: str | None, why: str) -> Finding:
    wanted = f">={lowest},<{below}" if below else f">={lowest}"
    fix = f"pip install '{package}{wanted}' ({why})"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        brought = package in _MODULES and find_spec(_MODULES[package]) is not None
        return Finding(package, brought, "the cluster's own" if brought else "not installed", fix)
    good = _numbers(lowest) <= _numbers(version) and (below is None or _numbers(version) < _numbers(below))
    return Finding(package, good, version, fix)


def _horovod() -> Finding:
    script = "import horovod.torch as hvd; print(hvd.gloo_built(), hvd.nccl_built())"
    output = _output([sys.executable, "-c", script]).strip().splitlines()
    last = output[-1] if output else ""
    good = last.startswith("True")
    found = f"Gloo {last.split()[0]}, NCCL {last.split()[-1]}" if good else last or "no answer"
    fix = "build it as `make setup` does, or remove it: torch.distributed joins ranks then"
    return Finding("Horovod with torch", good, found, fix)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except OSError as error:
        return str(error)
    return done.stdout + done.stderr


if __name__ == "__main__":
    # Before the set-up, only problems are printed.
    sys.exit(report(finding for finding in machine_findings() if not finding.good))
